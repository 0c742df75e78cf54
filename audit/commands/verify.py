"""`model-audit verify`: what is proved about a run, and what is not."""

from pathlib import Path
from typing import Annotated

import typer

from audit.commands.options import Json, Run, print_json

_HEADS = {
    "wrong": "Wrong",
    "open": "Not proved, and it should be",
    "proved": "Proved",
    "noted": "Not proved by any signature",
}


def verify(
    run: Run,
    key: Annotated[Path | None, typer.Option(help="The public key of the signer you expect.")] = None,
    model: Annotated[Path | None, typer.Option(help="The model file, to be hashed again.")] = None,
    data: Annotated[Path | None, typer.Option(help="The data, to be hashed and read again.")] = None,
    pack: Annotated[
        list[Path] | None, typer.Option(help="A document of your own in reports/; again for more.")
    ] = None,
    attestations: Annotated[
        Path | None,
        typer.Option(help="What people stated in documents; the file with the run by default."),
    ] = None,
    as_json: Json = False,
) -> int:
    """Check the signature, every file, number, verdict and document of a run, and say what that proves."""
    from audit.verify import verify as verify_run
    from audit.wording import visible

    proof = verify_run(run, key, model=model, data=data, packs=pack or (), attestations=attestations)
    if as_json:
        print_json(proof.plain())
        return proof.exit_code
    lines = [proof.words]
    for kind, head in _HEADS.items():
        said = [f"  - {visible(str(item)).replace(chr(10), '⟨U+000A⟩')}" for item in proof.of(kind)]  # type: ignore[arg-type]
        lines += ["", f"{head}:", *said] if said else []
    print("\n".join(lines))  # noqa: T201 - this is the command line
    return proof.exit_code
