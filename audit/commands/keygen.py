"""`model-audit keygen`: a pair of keys to sign runs with."""

from pathlib import Path
from typing import Annotated

import typer

from audit.errors import EXIT_OK


def keygen(
    output: Annotated[
        Path, typer.Option("--out", help="The private key; the public one ends in .pub beside it.")
    ] = Path("model-audit.key"),
) -> int:
    """Make an ed25519 pair of keys. MODEL_AUDIT_KEY_PASSPHRASE, where it is set, encrypts the private one."""
    from audit.keys import generate

    private, public, name = generate(output)
    print(f"private key: {private} (keep it to yourself)")  # noqa: T201 - this is the command line
    print(f"public key:  {public} (hand it to whoever verifies)\nname:        {name}")  # noqa: T201
    return EXIT_OK
