"""Options and arguments that several commands share, and how they print."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON for a machine instead of text.")]
Pack = Annotated[Path | None, typer.Option(help="A document of your own: its TOML file.")]
Run = Annotated[Path, typer.Argument(help="A run folder, or its record.json.")]
Formats = Annotated[
    list[str] | None,
    typer.Option(
        "--format",
        help="The document as `html`, `md` or `pdf`, or a file for another program: `junit`, `sarif`, "
        "`cyclonedx`, `oscal`, `in-toto`, `badge`. `pdf` needs an installed Chromium, Chrome or Edge. "
        "Give it again for more.",
    ),
]

_LONGEST = 2_000


def complain(sentence: str) -> None:
    """One sentence to standard error, under the name of this program; a value that fills a page is cut."""
    if len(sentence) > _LONGEST:
        sentence = f"{sentence[: _LONGEST // 2]} … {sentence[-_LONGEST // 2 :]}"
    print(f"model-audit: {sentence}", file=sys.stderr)  # noqa: T201 - this is the command line


def print_json(value: Any) -> None:
    """A value as JSON on standard output."""
    print(json.dumps(value, indent=2, ensure_ascii=False))  # noqa: T201 - this is the command line
