"""`model-audit run`: measure, judge and write the run folder."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audit.commands.options import Formats, Json, complain, print_json
from audit.commands.writing import HTML, machine_formats, page_formats, write_format, write_page, write_report
from audit.errors import (
    EXIT_CANNOT_SAY_YES,
    EXIT_LIMIT_BROKEN,
    EXIT_LOAD,
    EXIT_OK,
    ConfigError,
    LoadError,
    nearest,
)
from audit.plainfile import real_path

if TYPE_CHECKING:
    from rich.console import Console

    from audit.config import Config
    from audit.formats.installed import Format
    from audit.record import Record

_GRAVEST_FIRST = (EXIT_LIMIT_BROKEN, EXIT_LOAD, EXIT_CANNOT_SAY_YES)
_ProfileName = Annotated[
    str, typer.Option(help="`quick` for a pull request, `standard`, or `thorough` for a release.")
]
_Budget = Annotated[str | None, typer.Option(help="Run what fits into this time: `90s`, `10m`, `1.5h`.")]
_Costs = Annotated[
    Path | None, typer.Option(help="An earlier run that --budget plans by; found below runs/ by default.")
]
_Only = Annotated[
    list[str] | None, typer.Option(help="Run only these checks, a name or a pattern; repeatable.")
]
_Skip = Annotated[
    list[str] | None, typer.Option(help="Leave these checks out, a name or a pattern; repeatable.")
]
_Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="KEY=VALUE in the place of one of audit.toml, as in TOML; repeatable."),
]
_Models = Annotated[
    list[str] | None, typer.Option(help="Only this one of several [models.NAME]; repeatable.")
]


def run(
    config: Annotated[Path, typer.Argument(help="The audit.toml.")] = Path("audit.toml"),
    *,
    out: Annotated[
        Path | None, typer.Option(help="The run folder; a new one below runs/ by default.")
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(help="Keep the run below this folder; one of the same model and data is taken up."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    profile: _ProfileName = "standard",
    budget: _Budget = None,
    costs: _Costs = None,
    only: _Only = None,
    skip: _Skip = None,
    settings: _Settings = None,
    model: _Models = None,
    reproducers: Annotated[
        bool,
        typer.Option(
            help="Keep up to 16 rows for each broken limit in artifacts/, so that it can be replayed. "
            "Nothing else keeps rows of the data."
        ),
    ] = True,
    baseline: Annotated[
        Path | None,
        typer.Option(help="An earlier run, to say what changed and to hold limits on change against."),
    ] = None,
    formats: Formats = None,
    as_json: Json = False,
) -> int:
    """Load the model, measure every planned check, judge, and write the run folder with its report.

    A file of several `[models.NAME]` is audited into a folder for each. The exit code is then 1 if a limit
    of any was broken, else 4 if any could not be loaded, else 2 if any cannot say yes, else 0.
    """
    from audit.config import read_configs
    from audit.terminal import console

    if resume and out is None:
        raise ConfigError("--resume needs --out with the run folder to go on with.")
    settings = [*(settings or ()), *(() if reproducers else ("checks.reproducers=false",))]
    configs = _chosen(config, read_configs(config, overrides=settings), model or [])
    given: dict[str, Any] = {"profile": profile, "only": tuple(only or ()), "skip": tuple(skip or ())}
    given |= {"costs": costs, "overrides": tuple(settings), "budget": _share(budget, costs, configs)}
    outputs = _Outputs(machine_formats(formats), page_formats(formats), console(error=as_json), as_json)
    folder, known = _place(config, out, cache, configs, given)
    job = _Job(config, folder, resume or known, outputs, _baselines(baseline, configs))
    if set(configs) == {""}:
        record, files = _audited(configs[""], job, **given)
        _tell(record, files, outputs)
        return record.verdict.exit_code
    return _run_several(configs, job, given)


@dataclass(frozen=True)
class _Outputs:
    """What is written beside the record, and how it is told."""

    others: "tuple[Format, ...]"
    pages: tuple[str, ...]
    screen: "Console"
    as_json: bool


@dataclass(frozen=True)
class _Job:
    """The audit.toml, the run folder, and what to do there."""

    path: Path
    folder: Path
    resume: bool
    outputs: _Outputs
    baselines: "Mapping[str, Path]"


def _baselines(folder: Path | None, configs: "dict[str, Config]") -> "dict[str, Path]":
    """The earlier run of each model, read before anything is measured; of several, each in its own folder."""
    from audit.outcomes import read
    from audit.record import read_record

    found = {} if folder is None else {name: folder / name for name in configs}
    for path in found.values():
        for finding in read_record(path).findings:
            read(finding.artifacts, path if path.is_dir() else path.parent)  # refuses what was altered
    return found


def _against(baseline: Path, folder: Path, config: "Config") -> "Record":
    """The record of a run with its baseline, in the place of the one without.

    What a broken limit on a change can be replayed by is kept too, and named in the journal as in the record.
    """
    from functools import partial

    from audit.compare import compare, pair_of
    from audit.record import write_record
    from audit.reproducer import keep_changes, wanted

    record = compare(baseline, folder)
    if config.checks.reproducers:
        pairs = partial(pair_of, base=baseline, new=folder)
        kept = keep_changes(record, baseline, pairs, wanted(config, folder), folder)
        _journal(record, kept, folder)
        record = kept
    write_record(record, folder)
    return record


def _journal(before: "Record", after: "Record", folder: Path) -> None:
    """A line for each finding that names other files than it did, or tells why it does not."""
    from datetime import UTC, datetime

    from audit import journal

    now = datetime.now(UTC).isoformat(timespec="seconds")
    for old, new in zip(before.findings, after.findings, strict=True):
        if (old.artifacts, old.caveats) != (new.artifacts, new.caveats):
            journal.append(folder, "finding", finding=replace(new, verdicts=()), time=now)


def _chosen(path: Path, configs: "dict[str, Config]", names: list[str]) -> "dict[str, Config]":
    """The configurations of the models that were named; all of them where none was."""
    for name in names:
        if name not in configs or not name:
            hint = nearest(name, [known for known in configs if known])
            raise ConfigError(f"--model {name}: {path} has no [models.{name}]{hint}.")
    return {name: config for name, config in configs.items() if not names or name in names}


def _share(budget: str | None, costs: Path | None, configs: "dict[str, Config]") -> float | None:
    """Seconds for each model; None without a budget."""
    from audit.budget import read_duration

    if budget is not None:
        return read_duration(budget) / len(configs)
    if costs is not None:
        raise ConfigError(f"--costs {costs} is what --budget plans by; add --budget, such as --budget 10m.")
    return None


def _audited(config: "Config", job: _Job, **options: Any) -> "tuple[Record, list[str]]":
    """One model: measured, judged and written, with the files that were made, the report first."""
    from audit.plan import Options
    from audit.supervisor import run as supervise
    from audit.terminal import Watch

    folder, outputs = job.folder, job.outputs
    with Watch(outputs.screen) as watch:
        record = supervise(
            config, job.path, folder, resume=job.resume, notify=watch, options=Options(**options)
        )
    baseline = job.baselines.get(options.get("model", ""))
    if baseline is not None:
        record = _against(baseline, folder, config)
    files = [write_report(folder, "technical-report", None)]
    files += [
        write_page(folder, "technical-report", None, (), form) for form in outputs.pages if form != HTML
    ]
    files += [write_format(folder, form, None) for form in outputs.others]
    return record, [str(file) for file in files]


def _tell(record: "Record", files: list[str], outputs: _Outputs) -> None:
    from audit.terminal import show_outcome

    if outputs.as_json:
        print_json(_facts(record, files))
        return
    show_outcome(record, outputs.screen)
    outputs.screen.print(
        "\n" + "\n".join([f"report: {files[0]}", *files[1:]]), highlight=False, soft_wrap=True
    )


def _facts(record: "Record", files: list[str]) -> dict[str, Any]:
    """What a program is told of one run."""
    from audit.record import plain

    report, *others = files
    facts = {
        "run": str(Path(report).parent.parent),
        "report": report,
        "files": others,
        "left_out": plain(record.left_out),
        "planned_seconds": record.run.get("planned_seconds"),
    }
    return {**{key: value for key, value in facts.items() if value}, **plain(record.verdict)}


def _run_several(configs: "dict[str, Config]", job: _Job, given: dict[str, Any]) -> int:
    """Every model into a folder of its own; one that cannot be loaded does not stop the others."""
    from audit.terminal import show_overall

    told: list[dict[str, Any]] = []
    for name, config in configs.items():
        facts, interrupted = _one_of_several(name, config, job, given)
        told.append({"model": name, **facts})
        if interrupted:
            break
    rest = {"error": "the run was interrupted before it", "exit_code": EXIT_CANNOT_SAY_YES}
    told += [{"model": name, **rest} for name in list(configs)[len(told) :]]
    code = overall(item["exit_code"] for item in told)
    if job.outputs.as_json:
        print_json(told)
    else:
        said = [(t["model"], t.get("verdict", ""), t.get("error") or t["run"]) for t in told]
        show_overall(said, code, job.outputs.screen)
    return code


def _one_of_several(
    name: str, config: "Config", job: _Job, given: dict[str, Any]
) -> tuple[dict[str, Any], bool]:
    """What a program is told of one model, and whether its run was interrupted."""
    from audit import journal
    from audit.terminal import show_outcome

    folder = job.folder / name
    own = replace(job, folder=folder, resume=job.resume and (folder / journal.NAME).exists())
    try:
        record, files = _audited(config, own, model=name, **given)
    except LoadError as error:
        complain(f"{name}: {error}")
        return {"run": str(folder), "error": str(error), "exit_code": error.exit_code}, False
    if not job.outputs.as_json:
        show_outcome(record, job.outputs.screen)
    return _facts(record, files), bool(record.run.get("interrupted"))


def overall(codes: Iterable[int]) -> int:
    """The exit code of several audits: 1 before 4 before 2 before 0."""
    given = set(codes)
    return next((code for code in _GRAVEST_FIRST if code in given), EXIT_OK)


def _place(
    path: Path, out: Path | None, cache: Path | None, configs: "dict[str, Config]", given: Mapping[str, Any]
) -> tuple[Path, bool]:
    """The run folder, and whether a run of exactly this lies there already, in a cache."""
    from audit.identity import identity

    if cache is None:
        return out or _new_folder(path), False
    if out is not None:
        raise ConfigError(f"--cache {cache} and --out {out} both say where the run goes; give one.")
    decide = {name: value for name, value in given.items() if name not in ("costs", "overrides")}
    folder = cache / identity(configs, decide)[:32]
    return folder, any(folder.glob("**/journal.jsonl"))


def _new_folder(config: Path) -> Path:
    from datetime import UTC, datetime

    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    base = Path("runs") / f"{real_path(config).parent.name}-{stamp}"
    free = [base, *(base.with_name(f"{base.name}-{n}") for n in range(2, 100))]
    return next(path for path in free if not path.exists())
