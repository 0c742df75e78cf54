"""`model-audit attest`: the statements that are still open, as a file to fill in."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audit.commands.options import Pack, Run
from audit.commands.stated import stated_for
from audit.commands.writing import write_file
from audit.errors import EXIT_OK, ConfigError
from audit.plainfile import real_path

if TYPE_CHECKING:
    from audit.attestation import Attestation


def attest(
    run: Run,
    document: Annotated[
        list[str] | None, typer.Option(help="A document; give it again for more. All of them by default.")
    ] = None,
    pack: Pack = None,
    output: Annotated[
        Path | None, typer.Option("--out", help="The file; attestations.toml in the run folder by default.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file, and what it states.")] = False,
) -> int:
    """Write the statements that only a person can give and that are still open, as a file to fill in."""
    from audit.attestation import FILE, template
    from audit.coverage import open_items
    from audit.document import chosen_documents
    from audit.record import read_record

    record, documents = read_record(run), chosen_documents(document, pack)
    path = output or (run if run.is_dir() else run.parent) / FILE
    if path.exists() and not force:
        raise ConfigError(f"{path} exists; --out names another file, --force overwrites this one.")
    items = open_items(record, documents, _stated_elsewhere(run, path, pack))
    if not items:
        print("no statement is open")  # noqa: T201 - this is the command line
        return EXIT_OK
    write_file(path, template(items, f"For run {record.run.get('id') or 'without an id'}.").encode())
    print(f"wrote {path}: {sum(len(clauses) for _, clauses in items)} open")  # noqa: T201
    return EXIT_OK


def _stated_elsewhere(run: Path, path: Path, pack: Path | None) -> "Sequence[Attestation]":
    """What was stated already; a file that is about to be overwritten states nothing."""
    from audit.attestation import attestations_beside

    found = attestations_beside(run)
    same = found is not None and real_path(found) == real_path(path)
    return () if same else stated_for(run, None, pack)
