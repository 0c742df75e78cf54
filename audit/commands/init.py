"""`model-audit init`: look at a model and a data file and write an audit.toml."""

from pathlib import Path
from typing import Annotated, Any

import typer

from audit.commands.options import complain
from audit.errors import EXIT_CANNOT_SAY_YES, EXIT_OK, ConfigError


def init(
    model: Annotated[Path | None, typer.Argument(help="The saved model; none with --predictions.")] = None,
    data: Annotated[
        Path | None, typer.Argument(help="The data file: .csv, .parquet, .npz or an image folder.")
    ] = None,
    target: Annotated[str | None, typer.Option(help="The column that holds the label.")] = None,
    sensitive: Annotated[str, typer.Option(help="Sensitive columns, separated by commas.")] = "",
    factory: Annotated[str | None, typer.Option(help="module:function that builds the network.")] = None,
    predictions: Annotated[
        str | None, typer.Option(help="The column of --data that holds decisions or scores: no model is run.")
    ] = None,
    decisions: Annotated[
        Path | None, typer.Option("--data", help="The table that holds --predictions: .csv or .parquet.")
    ] = None,
    count: Annotated[
        str | None, typer.Option(help="The column of --data that says how many people a row stands for.")
    ] = None,
    output: Annotated[Path, typer.Option(help="The file to write.")] = Path("audit.toml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> int:
    """Look at a model and a data file, or at a table of decisions, and write a commented audit.toml."""
    from audit.init import write_config, write_decisions_config

    names = tuple(name.strip() for name in sensitive.split(",") if name.strip())
    asked: dict[str, Any] = {"target": target, "sensitive": names, "force": force}
    if predictions is not None:
        _refuse_model(model, factory)
        table = _needed(decisions, "--data", "the table that holds the column --predictions")
        text = write_decisions_config(table, output, predictions, count=count, **asked)
    else:
        for name, value in (("--data", decisions), ("--count", count)):
            if value is not None:
                raise ConfigError(f"{name} = {value} goes with --predictions, which is not given.")
        file = _needed(model, "MODEL", "the saved model, or name --predictions and --data")
        rows = _needed(data, "DATA", "the data file")
        text = write_config(file, rows, output, factory=factory, **asked)
    missing = [line for line in text.splitlines() if line.startswith(("# FILL IN", "# PROBLEM"))]
    print(f"wrote {output}; read it, then: model-audit run {output}")  # noqa: T201
    for line in missing:
        complain(f"before it runs: {line.removeprefix('# ')}.")
    return EXIT_CANNOT_SAY_YES if missing else EXIT_OK


def _needed(path: Path | None, name: str, what: str) -> Path:
    if path is None:
        raise ConfigError(f"{name} is missing: give {what}.")
    return path


def _refuse_model(model: Path | None, factory: str | None) -> None:
    given = model or factory
    if given is not None:
        raise ConfigError(f"{given} speaks of a model, and --predictions audits a table of decisions.")
