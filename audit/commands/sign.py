"""`model-audit sign`: put a signature over every file of a run folder."""

from pathlib import Path
from typing import Annotated

import typer

from audit.commands.options import Run, complain
from audit.errors import EXIT_LIMIT_BROKEN, EXIT_OK


def sign(
    run: Run,
    key: Annotated[Path, typer.Option(help="The private key that `model-audit keygen` wrote.")],
    pack: Annotated[
        list[Path] | None, typer.Option(help="A document of your own in reports/; again for more.")
    ] = None,
    attestations: Annotated[
        Path | None,
        typer.Option(help="What people stated; the file with the run by default."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Sign again a run that is signed.")] = False,
) -> int:
    """Sign a run: record, artifacts and documents. What does not follow from its numbers is refused."""
    from audit.keys import read_private
    from audit.proof.consistency import readable
    from audit.record import read_record
    from audit.seal import seal
    from audit.verify import contents

    folder = run if run.is_dir() else run.parent
    read_record(folder)
    read_private(key)  # a key that is wrong is told before minutes of checking
    record, faults = readable((folder / "record.json").read_bytes())
    if not faults:
        faults = [item for item in contents(record, folder) if item.kind == "wrong"]
    for item in faults:
        complain(f"not signed: {item}")
    if faults:
        return EXIT_LIMIT_BROKEN
    print(seal(folder, key, packs=pack or (), attestations=attestations, replace=force))  # noqa: T201 - this is the command line
    return EXIT_OK
