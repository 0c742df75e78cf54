"""`model-audit compare`: what changed between two runs."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from audit.commands.options import Json, print_json
from audit.commands.writing import write_file
from audit.errors import ConfigError
from audit.record import Record


def compare(
    base: Annotated[Path, typer.Argument(help="The earlier run: its folder, or its record.json.")],
    new: Annotated[Path, typer.Argument(help="The later run.")],
    policy: Annotated[
        Path | None,
        typer.Option(help="A TOML file with a [policy] section; that of the later run by default."),
    ] = None,
    output: Annotated[
        list[Path] | None,
        typer.Option(help="Write it here as well: a file ending in .html, .md or .json. Repeatable."),
    ] = None,
    fail_on: Annotated[
        str,
        typer.Option(help="`worse`: anything that is worse; `limits`: the limits on change alone."),
    ] = "",
    as_json: Json = False,
) -> int:
    """Say what got worse between two runs, what got better, and what was not tested again: no torch.

    The exit code is 1 if something is worse, 2 if nothing could be compared, else 0. Where the policy sets
    limits on change (`no_worse_than = "baseline"`), these decide, unless --fail-on says `worse`; one that is
    not settled or found no number gives 2.
    """
    from audit.compare import compare as compared
    from audit.compare import exit_code
    from audit.config import read_policy
    from audit.record import plain
    from audit.terminal import console, show_comparison

    if fail_on not in ("", "worse", "limits"):
        raise ConfigError(f"--fail-on = {fail_on} is neither `worse` nor `limits`.")
    forms = [(path, _form(path)) for path in output or ()]
    record = compared(base, new, read_policy(policy) if policy else None)
    for path, form in forms:
        write_file(path, _written(record, form))
    code = exit_code(record, fail_on)
    if as_json:
        print_json({"exit_code": code, **plain(record.baseline), "verdict": plain(record.verdict)})
    else:
        show_comparison(record, console())
    return code


def _form(path: Path) -> Literal["html", "md", "json"]:
    forms: dict[str, Literal["html", "md", "json"]] = {".html": "html", ".md": "md", ".json": "json"}
    form = forms.get(path.suffix.lower())
    if form is None:
        raise ConfigError(f"--output = {path} ends in none of .html, .md and .json.")
    return form


def _written(record: Record, form: Literal["html", "md", "json"]) -> bytes:
    """The comparison as a page, as Markdown, or the baseline part of the record as canonical JSON."""
    if form == "html":
        from audit.render import render_comparison

        return render_comparison(record).encode()
    if form == "md":
        from audit.markdown import comparison_markdown

        return comparison_markdown(record).encode()
    from audit.record import canonical

    return canonical(record.baseline)
