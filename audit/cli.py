"""The command line: parse, call, print. Every failure becomes one sentence and an exit code.

Exit codes: 0 every limit held; 1 a limit was broken; 2 the audit cannot say yes; 3 the configuration or
the command line is wrong; 4 the model or the data could not be loaded.
"""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from audit.errors import EXIT_CANNOT_SAY_YES, EXIT_CONFIG, EXIT_OK, AuditError, ConfigError, nearest

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Audit a saved neural network: interpretability, fairness and robustness, judged and documented. "
    "`--debug`, anywhere, shows where an error came from.",
)

# typer carries click inside or beside itself, by version; its public BadParameter leads to the class.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]

Json = Annotated[bool, typer.Option("--json", help="Print JSON for a machine instead of text.")]
Run = Annotated[Path, typer.Argument(help="A run folder, or its record.json.")]


def main() -> None:
    """Run the command line and exit with the code that design and documentation promise."""
    debug = "--debug" in sys.argv
    arguments = [item for item in sys.argv[1:] if item != "--debug"] or ["--help"]
    command = typer.main.get_command(app)
    try:
        code = command.main(arguments, prog_name="model-audit", standalone_mode=False)
    except AuditError as error:
        if debug:
            raise
        _complain(str(error))
        code = error.exit_code
    except _UsageError as error:
        _complain(str(error))
        code = EXIT_CONFIG
    except (typer.Abort, KeyboardInterrupt):
        _complain("interrupted.")
        code = EXIT_CANNOT_SAY_YES
    except (Exception, SystemExit) as error:
        if debug:
            raise
        code = _unforeseen(error)
    sys.exit(code or EXIT_OK)


def _unforeseen(error: BaseException) -> int:
    """The exit code of what nobody expected; a reader such as `head` that has seen enough is no fault."""
    if isinstance(error, BrokenPipeError) or isinstance(error.__context__, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return EXIT_OK
    _complain(f"a fault of this tool or of a plugin: {type(error).__name__}: {error}; --debug shows where.")
    return EXIT_CANNOT_SAY_YES


def _complain(sentence: str) -> None:
    print(f"model-audit: {sentence}", file=sys.stderr)  # noqa: T201 - this is the command line


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))  # noqa: T201 - this is the command line


@app.command(epilog="Example: `model-audit demo my-demo`")
def demo(
    folder: Annotated[Path, typer.Argument(help="Where the demo is written.")] = Path("model-audit-demo"),
) -> int:
    """Train two small models, audit both and write their reports: needs no data and no download."""
    from audit.demo import make_demo
    from audit.terminal import console

    make_demo(folder, console())
    return EXIT_OK


@app.command(epilog="Example: `model-audit init model.pt2 test.csv --target income --sensitive sex,race`")
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
        _complain(f"before it runs: {line.removeprefix('# ')}.")
    return EXIT_CANNOT_SAY_YES if missing else EXIT_OK


def _needed(path: Path | None, name: str, what: str) -> Path:
    if path is None:
        raise ConfigError(f"{name} is missing: give {what}.")
    return path


def _refuse_model(model: Path | None, factory: str | None) -> None:
    given = model or factory
    if given is not None:
        raise ConfigError(f"{given} speaks of a model, and --predictions audits a table of decisions.")


@app.command(epilog="Example: `model-audit run audit.toml --out runs/today`")
def run(
    config: Annotated[Path, typer.Argument(help="The audit.toml.")] = Path("audit.toml"),
    out: Annotated[
        Path | None, typer.Option(help="The run folder; a new one below runs/ by default.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    as_json: Json = False,
) -> int:
    """Load the model, measure every planned check, judge, and write the run folder with its report."""
    from audit.config import read_config
    from audit.record import plain
    from audit.supervisor import run as supervise
    from audit.terminal import Watch, console, show_outcome

    if resume and out is None:
        raise ConfigError("--resume needs --out with the run folder to go on with.")
    settings = read_config(config)
    folder = out or _new_folder(config)
    screen = console(error=as_json)
    with Watch(screen) as watch:
        record = supervise(settings, config, folder, resume=resume, notify=watch)
    report = _write_report(folder, "technical-report", None)
    if as_json:
        _print_json({"run": str(folder), "report": str(report), **plain(record.verdict)})
    else:
        show_outcome(record, screen)
        screen.print(f"\nreport: {report}", highlight=False, soft_wrap=True)
    return record.verdict.exit_code


def _new_folder(config: Path) -> Path:
    from datetime import UTC, datetime

    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    base = Path("runs") / f"{config.resolve().parent.name}-{stamp}"
    free = [base, *(base.with_name(f"{base.name}-{n}") for n in range(2, 100))]
    return next(path for path in free if not path.exists())


@app.command(epilog="Example: `model-audit checks robustness.pgd`")
def checks(
    name: Annotated[str | None, typer.Argument(help="A check, to read its text and settings.")] = None,
    as_json: Json = False,
) -> int:
    """List the installed checks, or explain one."""
    from audit.registry import Broken, installed_checks
    from audit.terminal import console, show_list

    found = installed_checks()
    if name is not None and name not in found:
        raise ConfigError(f"'{name}' is not an installed check{nearest(name, found)}.")
    facts = [_check_facts(key, item) for key, item in found.items() if name in (None, key)]
    if as_json:
        _print_json(facts)
    elif name is not None:
        _explain(facts[0])
    else:
        rows = [(fact["name"], fact["broken"] or fact["title"], " ".join(fact["fits"])) for fact in facts]
        show_list(rows, ("check", "what it answers", "fits"), console())
    return EXIT_CANNOT_SAY_YES if any(isinstance(item, Broken) for item in found.values()) else EXIT_OK


def _check_facts(name: str, item: Any) -> dict[str, Any]:
    from audit.registry import Broken

    if isinstance(item, Broken):
        return {"name": name, "broken": f"BROKEN: {item.reason}", "title": "", "fits": [], "settings": {}}
    return {
        "name": name,
        "broken": "",
        "version": item.version,
        "title": item.title,
        "text": item.text,
        "needs": sorted(item.needs),
        "fits": sorted(item.modality) or ["every input"],
        "settings": item.settings({}),
    }


def _explain(fact: dict[str, Any]) -> None:
    lines = [f"{fact['name']} - {fact['broken'] or fact['title']}", "", fact.get("text", ""), ""]
    lines += ["settings and their defaults:"]
    lines += [f"  {key} = {json.dumps(value)}" for key, value in fact["settings"].items()]
    print("\n".join(lines))  # noqa: T201 - this is the command line


@app.command(epilog="Example: `model-audit documents`")
def documents(as_json: Json = False) -> int:
    """List the governance documents that can be rendered from a run."""
    from audit.document import installed_documents
    from audit.terminal import console, show_list

    found = installed_documents()
    facts = [{"name": name, "title": item.title, "purpose": item.purpose} for name, item in found.items()]
    if as_json:
        _print_json(facts)
    else:
        rows = [(fact["name"], fact["title"], fact["purpose"]) for fact in facts]
        show_list(rows, ("document", "title", "purpose"), console())
    return EXIT_OK


@app.command(epilog="Example: `model-audit judge runs/today --policy strict.toml`")
def judge(
    run: Run,
    policy: Annotated[Path | None, typer.Option(help="A TOML file with a [policy] section.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write the judged record here.")] = None,
    as_json: Json = False,
) -> int:
    """Judge a record again, under its own or another policy: no model, no data, no torch."""
    from audit.config import read_policy
    from audit.judge import judge as judge_again
    from audit.record import canonical, plain, read_record
    from audit.terminal import console, show_outcome

    record = judge_again(read_record(run), read_policy(policy) if policy else None)
    if output is not None:
        _write(output, canonical(record))
    if as_json:
        _print_json(plain(record.verdict))
    else:
        show_outcome(record, console())
    return record.verdict.exit_code


@app.command(epilog="Example: `model-audit render runs/today --document technical-report`")
def render(
    run: Run,
    document: Annotated[str, typer.Option(help="A name from `model-audit documents`.")] = "technical-report",
    output: Annotated[Path | None, typer.Option(help="The HTML file; below reports/ by default.")] = None,
) -> int:
    """Write one self-contained HTML document from a record: no model, no data, no torch."""
    print(_write_report(run, document, output))  # noqa: T201 - this is the command line
    return EXIT_OK


def _write_report(run: Path, document: str, output: Path | None) -> Path:
    from audit.record import read_record
    from audit.render import render as render_page

    folder = run if run.is_dir() else run.parent
    page = render_page(read_record(run), document, artifacts=folder)
    path = output or folder / "reports" / f"{Path(document).stem}.html"
    _write(path, page.encode())
    return path


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}.") from None


@app.command(epilog="Example: `model-audit schema > record.schema.json`")
def schema() -> int:
    """Print the JSON schema of record.json."""
    from audit.record import json_schema

    _print_json(json_schema())
    return EXIT_OK
