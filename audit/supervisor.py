"""The supervisor: plans a run, lets a worker measure, and keeps every finding whatever happens to the worker.

It imports no torch. Each finding is on disk in `journal.jsonl` before the next check starts. A worker that
dies costs only the check it was running: that one is BROKEN with the signal's name, and a new worker goes on.
"""

import fcntl
import hashlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from audit import journal
from audit.budget import Expected, Here, earlier_run, expected, fit, known_by_table, known_from_run, told
from audit.check import Check
from audit.config import Config
from audit.environment import patient, tool
from audit.errors import ConfigError, LoadError
from audit.judge import judge
from audit.plainfile import real_path
from audit.plan import Options, plan_run
from audit.policy import Verdict
from audit.profile import STANDARD, read_profile, said_of
from audit.record import (
    SCHEMA,
    Finding,
    LeftOut,
    Outcome,
    Planned,
    Record,
    canonical,
    finding_from,
    plain,
    read_record,
    write_record,
)
from audit.registry import Broken, broken_finding, installed_checks
from audit.waiver import Waiver, read_waivers, waived_today
from audit.worker import error_from

Notify = Callable[[str, Mapping[str, Any]], None]
_COMPARED = ("sha256", "fingerprint", "factory_sha256")


_WATCH_SECONDS = 0.5
_ROOT = Path(__file__).resolve().parent.parent
# A package called `audit` in the working directory (-P) or on PYTHONPATH must not be taken for this one.
_WORKER = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); import audit; del sys.path[0]; "
    "from audit.worker import main; main()"
)


def _silent(event: str, fields: Mapping[str, Any]) -> None:
    del event, fields


@dataclass
class _Run:
    """A run under way: what is planned, what is known, what is found."""

    config: Config
    path: Path
    folder: Path
    notify: Notify
    checks: Mapping[str, Check | Broken]
    plan: tuple[Planned, ...]
    options: Options = field(default_factory=Options)
    left_out: tuple[LeftOut, ...] = ()
    budget: dict[str, Any] = field(default_factory=dict)
    first_measured: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    findings: dict[str, Finding] = field(default_factory=dict)
    started: str = ""
    resumed: int = 0
    workers: int = 0
    interrupted: bool = False
    waivers: tuple[Waiver, ...] = ()
    said: Mapping[str, str] = field(default_factory=dict)
    clock: float = field(default_factory=time.monotonic)


def run(
    config: Config,
    path: Path,
    folder: Path,
    *,
    resume: bool = False,
    notify: Notify = _silent,
    options: Options | None = None,
) -> Record:
    """Audit the model of a configuration and write the run folder.

    Args:
        config: the checked configuration; the worker is handed this one, whatever happens to its file.
        path: its file, which the record names.
        folder: the run folder; must be new, unless `resume`.
        resume: go on with the run in `folder`; only what is missing is measured.
        notify: told of `plan`, `ready`, `budget`, `start`, `finding`, `left_out` and `died` as they happen.
        options: the profile, the budget and what else the command line says.

    Returns:
        The record, judged, as written to `record.json`.

    Raises:
        ConfigError: the plan is wrong, the folder holds a run already, or (resume) something changed.
        LoadError: the model or the data cannot be loaded.
    """
    checks, options = installed_checks(), options or Options()
    if options.costs is not None:
        read_record(options.costs)  # refuses what is no run before anything is loaded
    plan, left_out = plan_run(config, options, checks)
    limits, given = config.policy.policy().limits, config.checks.settings
    said = said_of(read_profile(options.profile), given, limits, checks)
    state = _Run(
        config, path, folder, notify, checks, plan, options, left_out, waivers=_waivers(config), said=said
    )
    if resume:
        journal.read(folder)  # refuses what is no run before anything is written there
    with _alone(folder), _stoppable():
        _open(state, resume=resume)
        return _audit(state)


def _waivers(config: Config) -> tuple[Waiver, ...]:
    """The waivers that the configuration names, read before anything is measured."""
    return read_waivers(config.beside(config.policy.waivers)) if config.policy.waivers else ()


def _audit(state: _Run) -> Record:
    """Measure what is missing, judge, and write the record."""
    notify, folder = state.notify, state.folder
    notify(
        "plan",
        {
            "checks": [item.check for item in state.plan],
            "done": sorted(state.findings),
            "left_out": state.left_out,
            "profile": state.options.profile,
        },
    )
    try:
        _measure_missing(state)
    except KeyboardInterrupt:
        state.interrupted = True
        journal.append(folder, "interrupted", time=_now())
    record = judge(_record(state))
    write_record(record, folder)
    if not state.interrupted:
        journal.append(folder, "end", time=_now())
    return record


def _open(state: _Run, *, resume: bool) -> None:
    """Start a new journal, or read the one that is there and check that nothing changed."""
    policy = _digest(state.config.policy.policy())
    head = {
        "config_sha256": _digest(state.config.model_dump(mode="json")),
        "policy_sha256": policy,
        "plan_sha256": _digest([list(state.plan), _versions(state), *_told_options(state)]),
    }
    events = journal.read(state.folder) if resume else []
    if not events:
        _create(state.folder, over=resume)
        state.started = _now()
        journal.append(state.folder, "begin", time=state.started, tool=tool(), **head)
        return
    journal.mend(state.folder)
    begin = events[0]
    if begin.get("event") != "begin":
        raise ConfigError(f"{state.folder / journal.NAME} does not start a run; run without --resume.")
    for key, value in head.items():
        if begin.get(key) != value:
            what = key.removesuffix("_sha256").replace("config", "configuration")
            raise ConfigError(
                f"{state.folder} cannot be resumed: the {what} changed since it began; "
                "start a new run folder."
            )
    state.resumed = 1 + sum(event["event"] == "resume" for event in events)
    _take_up(state, events)
    journal.append(state.folder, "resume", time=_now())


def _told_options(state: _Run) -> list[Any]:
    """What the options change beside the plan itself; nothing where none was given."""
    budget = [state.options.budget] if state.options.budget is not None else []
    return [*budget, *([list(state.left_out)] if state.left_out else [])]


def _versions(state: _Run) -> list[str]:
    known = [state.checks[item.check] for item in state.plan]
    return [item.version if isinstance(item, Check) else "" for item in known]


def _create(folder: Path, *, over: bool) -> None:
    """Make the run folder; `over` a journal that was killed before its first line was whole."""
    if (folder / journal.NAME).exists():
        if not over:
            raise ConfigError(f"{folder} already holds a run; add --resume or name another folder.")
        journal.mend(folder)
    try:
        (folder / "artifacts").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"the run folder {folder} cannot be made: {error.strerror}.") from None


def _take_up(state: _Run, events: Sequence[Mapping[str, Any]]) -> None:
    for number, event in enumerate(events, start=1):
        try:
            _take_up_one(state, event)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise ConfigError(
                f"{state.folder / journal.NAME} is damaged in line {number}; start a new run folder."
            ) from None


def _take_up_one(state: _Run, event: Mapping[str, Any]) -> None:
    if event["event"] == "begin":
        state.started = _time_of(event)
    elif event["event"] == "ready":
        facts = {key: dict(event[key].items()) for key in ("model", "data", "environment")}
        state.facts = {**facts, "state": event["state"]}
    elif event["event"] == "budget":
        state.budget = {key: value for key, value in event.items() if key not in ("event", "time")}
        planned = {item.check: item for item in state.plan}
        state.plan = tuple(planned[name] for name in event["plan"])
        state.left_out += tuple(LeftOut(**item) for item in event["left_out"])
    elif event["event"] == "left_out":
        _take_out(state, LeftOut(check=event["check"], reason=event["reason"], title=event.get("title", "")))
    elif event["event"] == "start":
        state.first_measured = state.first_measured or _time_of(event)
    elif event["event"] == "finding":
        finding = finding_from(event["finding"])
        state.findings[finding.check] = finding


def _time_of(event: Mapping[str, Any]) -> str:
    time: str = event["time"]
    datetime.fromisoformat(time)
    return time


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep a second supervisor out of the run folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise ConfigError(f"the run folder {folder} cannot be written: {error.strerror}.") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(f"{folder} is in use by another run; wait for it or name another.") from None
        yield


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM end a run as Ctrl-C does: with a valid run folder."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: Any) -> None:
        del number, frame
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _measure_missing(state: _Run) -> None:
    """Measure every planned check that has no finding, with as many workers as it takes."""
    for item in state.plan:
        known = state.checks[item.check]
        if isinstance(known, Broken) and item.check not in state.findings:
            _keep(state, broken_finding(item, known, known.reason))
    looked = not state.resumed
    while (missing := _missing(state)) or not looked:
        looked = True
        state.workers += 1
        with (state.folder / "worker.log").open("ab") as log, _worker(state, log) as process:
            try:
                _receive_facts(state, process)
            except LoadError as error:
                if state.workers == 1:
                    raise
                _give_up(state, missing, f"no new process could load the model: {error}")
                return
            _plan_budget(state)
            for item in _missing(state):
                if not _measure_one(state, item, process):
                    break


def _missing(state: _Run) -> list[Planned]:
    return [item for item in state.plan if item.check not in state.findings]


def _plan_budget(state: _Run) -> None:
    """Once the model is loaded and its rows are timed: keep what fits into the budget, and say so."""
    seconds = state.options.budget
    if seconds is None or state.budget:
        return
    costs, source = _costs(state)
    spent = _spent(state)
    plan, left_out = fit(state.plan, costs, _limited(state), seconds - spent)
    state.budget = {
        "seconds": seconds,
        "planned_seconds": sum(costs[item.check].seconds for item in plan),
        "spent_before": spent,
        "source": source,
        "plan": [item.check for item in plan],
        "left_out": list(left_out),
    }
    journal.append(state.folder, "budget", **state.budget, time=_now())
    state.plan, state.left_out = plan, state.left_out + left_out
    state.notify("budget", {**state.budget, "expected": [costs[item.check] for item in plan]})


def _costs(state: _Run) -> tuple[dict[str, Expected], str]:
    """What each planned check should take, and where that is known from, in words."""
    model, data = state.facts["model"], state.facts["data"]
    here = Here(
        row_seconds=tuple(state.facts["row_seconds"]),
        data_rows=int(data.get("rows") or 0),
        modality=str(data.get("modality")),
        task=str(model.get("task")),
        capabilities=frozenset(model.get("capabilities") or ()),
    )
    known = known_by_table(here.modality)
    places = [Path("runs"), real_path(state.folder).parent]
    run = state.options.costs or earlier_run(str(model.get("sha256")), places, state.folder)
    if run is not None:
        known |= known_from_run(read_record(run), f"the run {run.name}")
    source = f"the run {run}" if run is not None else "the declared costs of costs.toml"
    return expected(state.plan, state.checks, known, here), source


def _limited(state: _Run) -> set[str]:
    return {limit.check for limit in state.config.policy.policy().limits}


def _spent(state: _Run) -> float:
    """Seconds of this run so far, those of an earlier process that it goes on from among them."""
    before = sum(finding.cost.seconds for finding in state.findings.values()) if state.resumed else 0.0
    return time.monotonic() - state.clock + before


def _take_out(state: _Run, item: LeftOut) -> None:
    state.plan = tuple(planned for planned in state.plan if planned.check != item.check)
    state.left_out += (item,)


def _overdue(state: _Run, item: Planned) -> bool:
    """Leave a check out when the budget is spent, unless a limit speaks of it."""
    budget = state.options.budget
    if budget is None or _spent(state) <= budget or item.check in _limited(state):
        return False
    out = LeftOut(check=item.check, title=item.title, reason=f"the budget of {told(budget)} was spent")
    journal.append(state.folder, "left_out", check=out.check, title=out.title, reason=out.reason, time=_now())
    _take_out(state, out)
    state.notify("left_out", {"left_out": out})
    return True


def _give_up(state: _Run, missing: Sequence[Planned], reason: str) -> None:
    """Broken findings that are not journaled, so that a resume measures these checks after all."""
    for item in missing:
        state.findings[item.check] = broken_finding(item, state.checks[item.check], reason)


@contextmanager
def _worker(state: _Run, log: IO[bytes]) -> Iterator["subprocess.Popen[bytes]"]:
    """A worker process, killed on the way out whatever happened."""
    command = [sys.executable, "-P", "-c", _WORKER, str(_ROOT), str(state.folder)]
    process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        start_new_session=True,
        env=patient(),
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                with suppress(OSError):
                    pipe.close()


def _receive_facts(state: _Run, process: "subprocess.Popen[bytes]") -> None:
    """Wait until the worker has loaded model and data; compare with what was loaded before."""
    answer = _ask(process, state.config.handed_over())
    if answer is None:
        raise LoadError(
            f"the process that loads {state.config.subject} {_how_it_ended(process)}; "
            f"{state.folder / 'worker.log'} holds what it printed last."
        )
    if answer["event"] == "error":
        raise error_from(answer)
    facts = {key: answer[key] for key in ("model", "data", "environment", "state")}
    if state.facts:
        _refuse_changes(state, facts)
    else:
        journal.append(state.folder, "ready", time=_now(), **facts)
    state.facts = {**facts, "row_seconds": answer["row_seconds"]}
    state.notify("ready", facts)


def _refuse_changes(state: _Run, facts: Mapping[str, Any]) -> None:
    for what in ("model", "data"):
        for key in _COMPARED:
            if state.facts[what].get(key) != facts[what].get(key):
                raise ConfigError(
                    f"{state.folder} cannot be resumed: the {what} changed since it began "
                    f"({key} differs); start a new run folder."
                )


def _measure_one(state: _Run, item: Planned, process: "subprocess.Popen[bytes]") -> bool:
    """Let the worker measure one check. False when the worker cannot go on."""
    if _overdue(state, item):
        return True
    now = _now()
    journal.append(state.folder, "start", check=item.check, time=now)
    state.first_measured = state.first_measured or now
    state.notify("start", {"check": item.check})
    answer = _ask(process, {"check": item.check, "settings": plain(item.settings)})
    if answer is not None:
        _keep(state, finding_from(answer["finding"]))
        return not answer["changed"]
    reason = f"the process that ran it {_how_it_ended(process)}"
    state.notify("died", {"check": item.check, "reason": reason})
    known = state.checks[item.check]
    _keep(state, broken_finding(item, known, reason))
    return False


def _ask(process: "subprocess.Popen[bytes]", order: Mapping[str, Any]) -> dict[str, Any] | None:
    if process.stdin is None:
        return None
    try:
        process.stdin.write(json.dumps(order).encode() + b"\n")
        process.stdin.flush()
    except BrokenPipeError:
        return None
    return _answer(process)


def _answer(process: "subprocess.Popen[bytes]") -> dict[str, Any] | None:
    """The next whole line of the worker; None when it died, even in the middle of a line.

    The process is watched beside the pipe, which a child that the worker left behind may hold open.
    """
    if process.stdout is None:
        return None
    while not select.select([process.stdout], [], [], _WATCH_SECONDS)[0]:
        if process.poll() is not None:
            return None
    line = process.stdout.readline()
    if not line.endswith(b"\n"):
        return None
    answer: dict[str, Any] = json.loads(line)
    return answer


def _how_it_ended(process: "subprocess.Popen[bytes]") -> str:
    code = process.wait()
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = " (often the system's out-of-memory killer)" if name == "SIGKILL" else ""
    return f"was killed by {name}{hint}"


def _keep(state: _Run, finding: Finding) -> None:
    if finding.status == "measured" and finding.check in state.said:
        finding = replace(finding, caveats=(*finding.caveats, state.said[finding.check]))
    journal.append(state.folder, "finding", finding=finding, time=_now())
    state.findings[finding.check] = finding
    state.notify("finding", {"finding": finding})


def _record(state: _Run) -> Record:
    """The record of what is known now. A planned check without a finding forbids a yes under any policy."""
    findings = tuple(state.findings[item.check] for item in state.plan if item.check in state.findings)
    config = state.config.model_dump(mode="json")
    return Record(
        schema=SCHEMA,
        tool=tool(),
        run=_run_facts(state, config),
        environment=state.facts.get("environment", {}),
        model=state.facts.get("model", {}),
        data=state.facts.get("data", {}),
        policy=state.config.policy.policy(),
        plan=state.plan,
        findings=findings,
        verdict=Outcome(verdict=Verdict.NOT_JUDGED, exit_code=2),
        system=state.config.system,
        left_out=state.left_out,
        waivers=waived_today(state.waivers),
    )


def _run_facts(state: _Run, config: Mapping[str, Any]) -> dict[str, Any]:
    config_sha256 = _digest(config)
    model, data = state.facts.get("model", {}), state.facts.get("data", {})
    identity = [config_sha256, model.get("sha256"), data.get("fingerprint"), state.config.seed]
    if state.options.profile != STANDARD or state.left_out:
        identity.append(_digest([list(state.plan), list(state.left_out)]))
    return {
        "id": _digest(identity)[:16],
        "seed": state.config.seed,
        "started": state.started,
        "finished": _now(),
        "seconds": time.monotonic() - state.clock,
        "resumed": state.resumed,
        "workers": state.workers,
        "interrupted": state.interrupted,
        "config": config,
        "config_sha256": config_sha256,
        "policy_sha256": _digest(state.config.policy.policy()),
        "model_state": state.facts.get("state"),
        "policy_fixed": state.started,
        "first_measured": state.first_measured,
        "config_file": _config_file(state),
        **_run_options(state),
    }


def _run_options(state: _Run) -> dict[str, Any]:
    """How the run was asked for, as far as audit.toml does not say it."""
    options = state.options
    given = {"model_name": options.model, "only": list(options.only), "skip": list(options.skip)}
    return {
        "profile": options.profile,
        "overrides": list(options.overrides),
        "budget_seconds": options.budget,
        "planned_seconds": state.budget.get("planned_seconds"),
        "costs_from": state.budget.get("source"),
        **{key: value for key, value in given.items() if value},
    }


def _config_file(state: _Run) -> str:
    """audit.toml as seen from the run folder."""
    path, folder = real_path(state.path), real_path(state.folder)
    return Path(os.path.relpath(path, folder)).as_posix()


def _digest(value: Any) -> str:
    return hashlib.sha256(canonical(value)).hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
