"""`model-audit fingerprint`: one sha256 of everything that an audit's numbers depend on."""

from pathlib import Path
from typing import Annotated

import typer

from audit.errors import EXIT_OK


def fingerprint(
    config: Annotated[Path, typer.Argument(help="The audit.toml.")] = Path("audit.toml"),
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=VALUE in the place of one of audit.toml; repeatable."),
    ] = None,
) -> int:
    """Print a sha256 over the configuration, the model, the data and this tool: a key to keep a run under."""
    from audit.config import read_configs
    from audit.identity import identity

    print(identity(read_configs(config, overrides=settings or ())))  # noqa: T201 - this is the command line
    return EXIT_OK
