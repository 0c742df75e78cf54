"""`model-audit replay`: is one recorded failure still there?"""

from pathlib import Path
from typing import Annotated

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

    The stored examples of an attack are shown to the model again; any other check is measured again with
    the same settings, seed and rows. Without --model and --data, files that are not those of the record are
    refused.
    """
    from audit.replay import replay as replay_finding
    from audit.wording import visible

    found = replay_finding(folder, model=model, data=data, config=config)
    if as_json:
        print_json(found.plain())
        return found.exit_code
    told = [visible(found.sentence)]
    for row in found.rows:
        said = "fools the model" if row["fools"] else row["why_not"] or "does not fool the model"
        told.append(
            f"  row {row['row']}: class {row['label']}, answered {row['before']}, then {row['after']}: {said}"
        )
    print("\n".join(told))  # noqa: T201 - this is the command line
    return found.exit_code
