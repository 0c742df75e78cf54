"""`model-audit reproduce`: run an audit again from its record, and compare every number."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audit.commands.options import Json, Run, print_json

if TYPE_CHECKING:
    from rich.console import Console

    from audit.reproduce import Number, Reproduction

_SHOWN = 40


def reproduce(
    run: Run,
    *,
    config: Annotated[
        Path | None, typer.Option(help="The audit.toml beside which the recorded paths start here.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The folder of the repetition; RUN-reproduced by default.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Measure a run again with the same seed, plan, settings and batch size, and compare every number.

    Exit code 0: all are identical or within the tolerance that is printed; 1: a number differs; 2: one could
    not be measured again; 4: model or data are not those of the record.
    """
    from audit.reproduce import reproduce as run_again
    from audit.terminal import Watch, console

    screen = console(error=as_json)
    with Watch(screen) as watch:
        found = run_again(run, out, config=config, notify=watch)
    if as_json:
        print_json(found.plain())
    else:
        _show(found, screen)
    return found.exit_code


def _show(found: "Reproduction", screen: "Console") -> None:
    from audit.terminal import show_list
    from audit.wording import visible

    screen.print()
    rows = [
        (item.check, *(str(item.count(state)) for state in ("identical", "within tolerance", "differs")),
         str(item.count("only in the record") + item.count("only here")), visible(item.lost or item.note))
        for item in found.checks
    ]  # fmt: skip
    headings = ("check", "identical", "within tolerance", "differ", "on one side only", "")
    show_list(rows, headings, screen)
    for title, lines in _details(found):
        screen.print(f"\n{title}", markup=False, highlight=False)
        for line in lines[:_SHOWN]:
            screen.print(f"  {visible(line)}", markup=False, highlight=False, soft_wrap=True)
        if len(lines) > _SHOWN:
            screen.print(f"  and {len(lines) - _SHOWN} more; --json lists them all")
    said = (found.tolerance, found.sentence, f"repetition: {found.again}")
    screen.print("\n" + "\n".join(said), markup=False, highlight=False, soft_wrap=True)


def _details(found: "Reproduction") -> list[tuple[str, list[str]]]:
    """What is told one by one, under a heading each."""
    numbers = [item for check in found.checks for item in check.numbers]
    named = {
        "Differ beyond the tolerance": [_line(item) for item in numbers if item.state == "differs"],
        "In the record only": [_name(item) for item in numbers if item.state == "only in the record"],
        "Here only": [_name(item) for item in numbers if item.state == "only here"],
        "Within tolerance, not identical": [
            _line(item) for item in numbers if item.state == "within tolerance"
        ],
        "Not as recorded": [f"{name}: {before}, here {now}" for name, before, now in found.elsewhere],
    }
    return [(title, lines) for title, lines in named.items() if lines]


def _line(item: "Number") -> str:
    return f"{_name(item)}: recorded {item.recorded}, now {item.now}"


def _name(item: "Number") -> str:
    where = ", ".join(f"{key} = {value}" for key, value in {**item.group, **item.settings}.items())
    return f"{item.check} {item.name}{f' ({where})' if where else ''}"
