"""The command line: parse, call, print. Every failure becomes one sentence and an exit code.

Exit codes: 0 every limit held; 1 a limit was broken; 2 the audit cannot say yes; 3 the configuration or
the command line is wrong; 4 the model or the data could not be loaded.
"""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audit.errors import EXIT_CANNOT_SAY_YES, EXIT_CONFIG, EXIT_OK, AuditError, ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from audit.attestation import Attestation
    from audit.formats.installed import Format

_HTML, _MARKDOWN, _PDF = "html", "md", "pdf"
_PAGES = (_HTML, _MARKDOWN, _PDF)
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
Pack = Annotated[Path | None, typer.Option(help="A document of your own: its TOML file.")]
Run = Annotated[Path, typer.Argument(help="A run folder, or its record.json.")]
Formats = Annotated[
    list[str] | None,
    typer.Option(
        "--format",
        help="The document as `html`, `md` or `pdf`, or a file for another program: `junit`, `sarif`, "
        "`cyclonedx`, `oscal`, `in-toto`. Give it again for more.",
    ),
]


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
    settings, others, pages = read_config(config), _machine_formats(formats), _pages(formats)
    folder = out or _new_folder(config)
    screen = console(error=as_json)
    with Watch(screen) as watch:
        record = supervise(settings, config, folder, resume=resume, notify=watch)
    report = _write_report(folder, "technical-report", None)
    files = [str(_write_page(folder, "technical-report", None, (), form)) for form in pages if form != _HTML]
    files += [str(_write_format(folder, form, None)) for form in others]
    if as_json:
        facts = {"run": str(folder), "report": str(report), **({"files": files} if files else {})}
        _print_json({**facts, **plain(record.verdict)})
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
def documents(pack: Pack = None, as_json: Json = False) -> int:
    """List the governance documents that can be rendered from a run."""
    from audit.document import installed_documents
    from audit.terminal import console, show_list

    facts = [_document_facts(item) for item in installed_documents([pack] if pack else []).values()]
    if as_json:
        _print_json(facts)
    else:
        rows = [[fact[key] for key in _LISTED] for fact in facts]
        show_list(rows, ("document", *(key.replace("_", " ") for key in _LISTED[1:])), console())
    return EXIT_OK


_LISTED = ("name", "title", "jurisdiction", "status", "version", "review_by")


def _document_facts(item: Any) -> dict[str, Any]:
    framework = item.framework
    return {
        "name": item.name,
        "title": item.title,
        "purpose": item.purpose,
        "version": item.version,
        "clauses": len(item.clauses),
        "jurisdiction": framework.jurisdiction if framework else "",
        "status": framework.status if framework else "",
        "superseded_by": framework.superseded_by if framework else "",
        "review_by": str(framework.review_by) if framework else "",
    }


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
    document: Annotated[
        list[str] | None,
        typer.Option(help="A name from `model-audit documents`, once for each; technical-report by default."),
    ] = None,
    pack: Pack = None,
    attestations: Annotated[
        Path | None,
        typer.Option(help="What people stated; attestations.toml in the run folder or beside it."),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="The file; below reports/ by default.")] = None,
    formats: Formats = None,
) -> int:
    """Write a document as HTML, Markdown or PDF, or files for other programs: no model, no data, no torch."""
    wanted = list(dict.fromkeys(formats or [_HTML]))
    others, pages = _machine_formats(wanted), _pages(wanted)
    named: list[str | None] = list(dict.fromkeys(document or [])) or [None]
    for several in (wanted, named):
        if output is not None and len(several) > 1:
            raise ConfigError(
                f"--output = {output} is one file, and {', '.join(map(str, several))} are several; "
                "leave it out."
            )
    chosen = [_chosen(name, pack) for name in named] if pages else []
    clauses = [_has_clauses(item) for item in chosen]  # a name that is wrong is refused before any is written
    for item, states in zip(chosen, clauses, strict=True):
        own = item if isinstance(item, Path) else pack
        stated = _stated(run, attestations, own) if attestations or states else ()
        for page in pages:
            print(_write_page(run, item, output, stated, page))  # noqa: T201 - this is the command line
    for form in others:
        print(_write_format(run, form, output))  # noqa: T201 - this is the command line
    return EXIT_OK


def _machine_formats(names: list[str] | None) -> "tuple[Format, ...]":
    """The formats of these names, without those of a document, which are for a reader."""
    others = [name for name in names or () if name not in _PAGES]
    if not others:
        return ()
    from audit.formats.installed import read_formats

    return read_formats(others, also=_PAGES)


def _pages(names: list[str] | None) -> tuple[str, ...]:
    """Those of these names that a document is written in; a PDF that nothing can print is refused at once."""
    pages = tuple(dict.fromkeys(name for name in names or () if name in _PAGES))
    if _PDF in pages:
        from audit.pdf import find_browser

        find_browser()
    return pages


def _write_format(run: Path, form: "Format", output: Path | None) -> Path:
    from audit.formats.installed import written
    from audit.record import read_record

    folder = run if run.is_dir() else run.parent
    path = output or folder / "reports" / form.file
    _write(path, written(read_record(run), form))
    return path


def _chosen(document: str | None, pack: Path | None) -> str | Path:
    """The document that is meant: a pack of one's own by its file, any other by its name."""
    if pack is not None and document in (None, pack.stem):
        return pack
    return Path(document) if document and document.endswith(".toml") else document or "technical-report"


def _has_clauses(document: str | Path) -> bool:
    from audit.document import read_document

    return bool(read_document(document).clauses)


def _stated(run: Path, attestations: Path | None, pack: Path | None) -> "Sequence[Attestation]":
    """The statements of the file that is named, else of the one that lies with the run."""
    from audit.attestation import attestations_beside, read_attestations
    from audit.document import installed_documents

    path = attestations or attestations_beside(run)
    return read_attestations(path, installed_documents([pack] if pack else [])) if path else ()


def _write_report(
    run: Path, document: str | Path, output: Path | None, stated: "Sequence[Attestation]" = ()
) -> Path:
    from audit.record import read_record
    from audit.render import render as render_page
    from audit.render import render_contents, rendered_beside

    folder = run if run.is_dir() else run.parent
    record = read_record(run)
    page = render_page(record, document, artifacts=folder, attestations=stated)
    path = output or folder / "reports" / f"{Path(document).stem}.html"
    _write(path, page.encode())
    if output is None:
        _write(path.with_name("index.html"), render_contents(record, rendered_beside(path.parent)).encode())
    return path


def _write_page(
    run: Path, document: str | Path, output: Path | None, stated: "Sequence[Attestation]", form: str
) -> Path:
    """The document as a page, as Markdown or as PDF, below reports/ unless a file is named."""
    from audit.record import read_record

    if form == _HTML:
        return _write_report(run, document, output, stated)
    folder = run if run.is_dir() else run.parent
    record = read_record(run)
    path = output or folder / "reports" / f"{Path(document).stem}.{form}"
    if form == _MARKDOWN:
        from audit.markdown import markdown

        _write(path, markdown(record, document, attestations=stated).encode())
    else:
        from audit.pdf import pdf
        from audit.render import render as render_page

        page = render_page(record, document, artifacts=folder, attestations=stated)
        _write(path, pdf(page, record.run.get("finished")))
    return path


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}.") from None


@app.command(epilog="Example: `model-audit attest runs/today --document eu-ai-act-annex-iv`")
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
    _write(path, template(items, f"For run {record.run.get('id') or 'without an id'}.").encode())
    print(f"wrote {path}: {sum(len(clauses) for _, clauses in items)} open")  # noqa: T201
    return EXIT_OK


def _stated_elsewhere(run: Path, path: Path, pack: Path | None) -> "Sequence[Attestation]":
    """What was stated already; a file that is about to be overwritten states nothing."""
    from audit.attestation import attestations_beside

    found = attestations_beside(run)
    same = found is not None and found.resolve() == path.resolve()
    return () if same else _stated(run, None, pack)


@app.command(epilog="Example: `model-audit schema > record.schema.json`")
def schema() -> int:
    """Print the JSON schema of record.json."""
    from audit.record import json_schema

    _print_json(json_schema())
    return EXIT_OK
