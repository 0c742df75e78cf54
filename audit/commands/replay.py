"""`model-audit replay`: is one recorded failure still there?"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from audit.commands.options import Json, print_json


def replay(
    folder: Annotated[Path, typer.Argument(help="RUN/artifacts/FINDING of a broken limit.")],
    *,
    model: Annotated[Path | None, typer.Option(help="Another model, to see whether it fails too.")] = None,
    data: Annotated[Path | None, typer.Option(help="Other data, or where the data lie here.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="The audit.toml beside which the recorded paths start here.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Look at one broken limit again: 1 the failure is there, 0 it is not, 2 it cannot be said.

    The stored examples of an attack, and rows that a check changed in another way, are shown to the model
    again; any other check is measured again with the same settings, seed and rows. For a limit on a change it
    is then compared with the same baseline run again. Without --model and --data, files that are not those of
    the record are refused.
    """
    from audit.replay import replay as replay_finding
    from audit.wording import visible

    found = replay_finding(folder, model=model, data=data, config=config)
    if as_json:
        print_json(found.plain())
        return found.exit_code
    told = [visible(found.sentence), *(visible(_line(row)) for row in found.rows)]
    print("\n".join(told))  # noqa: T201 - this is the command line
    return found.exit_code


def _line(row: Mapping[str, Any]) -> str:
    """What became of one stored row: class -1 is a score that is not a finite number."""
    label = "" if row["label"] is None else f"class {row['label']}, "
    answered = f"  row {row['row']}: {label}answered {row['before']}, then {row['after']}"
    if "how" in row:
        return f"{answered} after {row['how']}: {'the failure' if row['fools'] else 'not the failure'}"
    return f"{answered}: {'fools the model' if row['fools'] else row['why_not'] or 'does not fool the model'}"
