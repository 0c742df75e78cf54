"""`model-audit demo`: two small models, trained, audited and reported."""

from pathlib import Path
from typing import Annotated

import typer

from audit.errors import EXIT_OK


def demo(
    folder: Annotated[Path, typer.Argument(help="Where the demo is written.")] = Path("model-audit-demo"),
) -> int:
    """Train two small models, audit both and write their reports: needs no data and no download."""
    from audit.demo import make_demo
    from audit.terminal import console

    make_demo(folder, console())
    return EXIT_OK
