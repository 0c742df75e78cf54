"""`model-audit run`: measure, judge and write the run folder."""

from pathlib import Path
from typing import Annotated

import typer

from audit.commands.options import Formats, Json, print_json
from audit.commands.writing import HTML, machine_formats, page_formats, write_format, write_page, write_report
from audit.errors import ConfigError


def run(
    config: Annotated[Path, typer.Argument(help="The audit.toml.")] = Path("audit.toml"),
    out: Annotated[
        Path | None, typer.Option(help="The run folder; a new one below runs/ by default.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    formats: Formats = None,
    as_json: Json = False,
) -> int:
    """Load the model, measure every planned check, judge, and write the run folder with its report."""
    from audit.config import read_config
    from audit.record import plain
    from audit.supervisor import run as supervise
    from audit.terminal import Watch, console, show_outcome

    if resume and out is None:
        raise ConfigError("--resume needs --out with the run folder to go on with.")
    settings, others, pages = read_config(config), machine_formats(formats), page_formats(formats)
    folder = out or _new_folder(config)
    screen = console(error=as_json)
    with Watch(screen) as watch:
        record = supervise(settings, config, folder, resume=resume, notify=watch)
    report = write_report(folder, "technical-report", None)
    files = [str(write_page(folder, "technical-report", None, (), form)) for form in pages if form != HTML]
    files += [str(write_format(folder, form, None)) for form in others]
    if as_json:
        facts = {"run": str(folder), "report": str(report), **({"files": files} if files else {})}
        print_json({**facts, **plain(record.verdict)})
    else:
        show_outcome(record, screen)
        screen.print("\n" + "\n".join([f"report: {report}", *files]), highlight=False, soft_wrap=True)
    return record.verdict.exit_code


def _new_folder(config: Path) -> Path:
    from datetime import UTC, datetime

    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    base = Path("runs") / f"{config.resolve().parent.name}-{stamp}"
    free = [base, *(base.with_name(f"{base.name}-{n}") for n in range(2, 100))]
    return next(path for path in free if not path.exists())
