"""`model-audit render`: documents and files for other programs from a record."""

from pathlib import Path
from typing import Annotated

import typer

from audit.commands.options import Formats, Pack, Run
from audit.commands.stated import chosen_document, has_clauses, stated_for
from audit.commands.writing import HTML, machine_formats, page_formats, write_format, write_page
from audit.errors import EXIT_OK, ConfigError


def render(
    run: Run,
    document: Annotated[
        list[str] | None,
        typer.Option(help="A name from `model-audit documents`, once for each; technical-report by default."),
    ] = None,
    pack: Pack = None,
    attestations: Annotated[
        Path | None,
        typer.Option(help="What people stated; attestations.toml in the run folder or beside it."),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="The file; below reports/ by default.")] = None,
    formats: Formats = None,
) -> int:
    """Write a document as HTML, Markdown or PDF, or files for other programs: no model, no data, no torch."""
    wanted = list(dict.fromkeys(formats or [HTML]))
    others, pages = machine_formats(wanted), page_formats(wanted)
    named: list[str | None] = list(dict.fromkeys(document or [])) or [None]
    for several in (wanted, named):
        if output is not None and len(several) > 1:
            raise ConfigError(
                f"--output = {output} is one file, and {', '.join(map(str, several))} are several; "
                "leave it out."
            )
    chosen = [chosen_document(name, pack) for name in named] if pages else []
    clauses = [has_clauses(item) for item in chosen]  # a name that is wrong is refused before any is written
    for item, states in zip(chosen, clauses, strict=True):
        own = item if isinstance(item, Path) else pack
        stated = stated_for(run, attestations, own) if attestations or states else ()
        for page in pages:
            print(write_page(run, item, output, stated, page))  # noqa: T201 - this is the command line
    for form in others:
        print(write_format(run, form, output))  # noqa: T201 - this is the command line
    return EXIT_OK
