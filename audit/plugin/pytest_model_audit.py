"""The pytest plugin: `pytest audit.toml` has one test for each limit; fixtures serve tests written by hand.

It is installed as a top-level module of its own, not as a part of the package `audit`, so that it loads in a
repository whose own code has a package of that name. It imports nothing but pytest until a test needs more,
and the audit of a file runs in a process of its own.

Runs lie in pytest's cache, those of the 20 newest sessions, unless `--audit-out` names a folder.

Options: `--audit-profile`, `--audit-out`, `--audit-baseline`. Settings: `audit_file` names the file of the
fixtures, audit.toml in the root folder by default; `audit_model_name` says which of several models.
"""

import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import pytest

_HERE = Path(__file__).resolve().parent
_HOMES = (_HERE, _HERE.parent.parent)  # beside the package where it is installed, inside it in a checkout
_OURS: dict[str, ModuleType] = {}
_SESSION = pytest.StashKey[str]()
_COMMAND = "from audit.cli import main; main()"
_KEPT = 20  # sessions in pytest's cache
_WHOLE = "the audit says yes"
_LENIENCY = {
    "INCONCLUSIVE": "on_inconclusive",
    "NOT_EVALUABLE": "on_not_evaluable",
    "BROKEN": "on_broken",
    "NOT_APPLICABLE": "on_not_applicable",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of this plugin."""
    group = parser.getgroup("model-audit", "audit of a saved model")
    group.addoption("--audit-profile", help="profile of the audit: quick, standard or thorough")
    group.addoption("--audit-out", help="folder that keeps the runs; in pytest's cache by default")
    group.addoption("--audit-baseline", help="an earlier run that limits on change are held against")
    parser.addini("audit_file", "the audit.toml that the fixtures load", default="audit.toml")
    parser.addini("audit_model_name", "which of several [models.NAME] the fixtures load", default="")


def pytest_configure(config: pytest.Config) -> None:
    """Name this session, the same in all its processes."""
    # Not from the environment: a pytest that a test of another session starts is a session of its own.
    worker: Mapping[str, Any] = getattr(config, "workerinput", {})
    config.stash[_SESSION] = str(worker.get("testrunuid") or uuid.uuid4().hex)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> "AuditFile | None":
    """A TOML file that was named on the command line; no audit is run unasked."""
    named = file_path.suffix == ".toml" and file_path.name != "pyproject.toml"
    if named and parent.session.isinitpath(file_path):
        return AuditFile.from_parent(parent, path=file_path)
    return None


class AuditFile(pytest.File):
    """An audit.toml: a test for each limit, and one for the whole; of several models for each of them."""

    def collect(self) -> Iterator[pytest.Item]:
        """Read the limits; nothing is loaded yet."""
        with package(collecting=True):
            from audit.config import read_configs
            from audit.errors import AuditError

            try:
                configs = read_configs(self.path)
            except AuditError as error:
                raise self.CollectError(str(error)) from None
            asked = {name: _asked(config.policy.policy().limits) for name, config in configs.items()}
        for model, limits in asked.items():
            of = f"{model}: " if model else ""
            for check, limit in limits:
                name = f"{of}{check}: {limit}"
                yield LimitItem.from_parent(self, name=name, model=model, check=check, limit=limit)
            yield LimitItem.from_parent(self, name=f"{of}{_WHOLE}", model=model, check="", limit="")


def _asked(limits: Iterable[Any]) -> list[tuple[str, str]]:
    """Check and text of each limit, once; one on a number and on its change is two, as they are judged."""
    from audit.policy import parts_of

    return list(dict.fromkeys((limit.check, str(part)) for limit in limits for part in parts_of(limit)))


class LimitItem(pytest.Item):
    """One limit on a model of an audit.toml, or the exit code of the whole (`check` empty)."""

    def __init__(self, *, model: str, check: str, limit: str, **fields: Any) -> None:
        super().__init__(**fields)
        self.model, self.check, self.limit = model, check, limit
        self.add_marker(pytest.mark.xdist_group(str(self.path)))

    def runtest(self) -> None:
        """Hold the record of this session's audit against the limit."""
        folder = run_folder(self)
        record = json.loads((folder / "record.json").read_bytes())
        report = folder / "reports" / "technical-report.html"
        if self.check:
            _hold(record, self.check, self.limit, report)
        elif record["verdict"]["exit_code"]:
            reasons = "\n".join(record["verdict"]["reasons"])
            _refuse(f"{record['verdict']['verdict']}\n{reasons}\nreport: {report}")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The finding itself, without a trace through this file."""
        if isinstance(excinfo.value, NotHeldError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        """What pytest prints for it."""
        return self.path, None, self.name


class NotHeldError(Exception):
    """A limit that was not held, or an audit that could not run; its text is the whole message."""


def _refuse(text: str) -> NoReturn:
    raise NotHeldError(text)


def _hold(record: Mapping[str, Any], check: str, limit: str, report: Path) -> None:
    """Pass, skip (waived, or let go by the policy) or fail for what the record says of this limit."""
    out = next((item["reason"] for item in record.get("left_out", ()) if item["check"] == check), "")
    missing: Mapping[str, Any] = {
        "verdicts": [],
        "title": check,
        "reason": f"it was asked for and not measured{f': {out}' if out else ''}",
    }
    finding = next((item for item in record["findings"] if item["check"] == check), missing)
    judged = [item for item in finding["verdicts"] if item["limit"] == limit]
    if not judged and finding.get("status", "measured") != "measured":
        judged = finding["verdicts"][:1]  # there all limits have one answer, and none is in parts
    if not judged:
        why = finding["reason"]
        _refuse(f"{check}: {limit}: {why or 'no number was held against it'}\nreport: {report}")
    told = [(item, _leniency(item, record["policy"]), _sentence(item)) for item in judged]
    blocking = [text for item, leniency, text in told if leniency == "fail"]
    if blocking:
        _refuse("\n".join([f"{check}: {finding['title']}", *blocking, f"report: {report}"]))
    let_go = [text for item, _, text in told if item["verdict"] != "PASS"]
    if let_go:
        pytest.skip("; ".join(let_go))


def _leniency(item: Mapping[str, Any], policy: Mapping[str, Any]) -> str:
    if item["verdict"] == "PASS":
        return "pass"
    if item.get("waived"):
        return "warn"
    if not item.get("matched", True):
        return "fail"
    return str(policy.get(_LENIENCY.get(item["verdict"], ""), "fail"))


def _sentence(item: Mapping[str, Any]) -> str:
    whom = ", ".join(f"{key} = {value}" for key, value in item["group"].items())
    value = "" if item["value"] is None else f" {item['measure']} is {item['value']:.4g};"
    needed = f"; about {item['needed_n']} rows would settle it" if item["needed_n"] else ""
    waived = f"; {item['waived']}" if item.get("waived") else ""
    around = f" ({whom})" if whom else ""
    return f"{item['verdict']}: {item['limit']}{around}:{value} {item['reason']}{needed}{waived}"


def run_folder(item: LimitItem) -> Path:
    """The run folder of a model, audited once for all its tests, and once for all processes."""
    home = _home(item.config)
    home.mkdir(parents=True, exist_ok=True)
    folder = home / f"{item.path.parent.name}-{_short(str(item.path))}"
    with (home / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        said = home / f"{folder.name}.log"
        if not said.exists():
            said.write_text(_audit(item, folder), encoding="utf-8")
    own = folder / item.model
    if not (own / "record.json").exists():
        _refuse(_why(said.read_text(encoding="utf-8"), item.model))
    return own


def _why(said: str, model: str) -> str:
    """What the audit said of a model that it gave no record of."""
    lines = said.strip().splitlines()
    own = [line for line in lines if model and line.startswith(f"model-audit: {model}: ")]
    return "\n".join(own or lines[-5:])


def _home(config: pytest.Config) -> Path:
    """A folder that all processes of this session share and that no other session has."""
    kept = config.getoption("--audit-out")
    if kept:
        return Path(config.rootpath, str(kept), config.stash[_SESSION])
    cache = getattr(config, "cache", None)  # there is none under -p no:cacheprovider
    if cache is None:
        _refuse("the audit needs a folder for its run: name one with --audit-out, or allow pytest's cache.")
    place: Path = cache.mkdir("model-audit") / config.stash[_SESSION]
    if not place.exists():
        _prune(place.parent)
    return place


def _prune(folder: Path) -> None:
    """Leave room for one more session among the newest `_KEPT`; another process may prune meanwhile."""

    def changed(path: Path) -> float:
        try:
            return path.stat().st_mtime
        except OSError:
            return 0.0

    sessions = [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()]
    for path in sorted(sessions, key=changed, reverse=True)[_KEPT - 1 :]:
        shutil.rmtree(path, ignore_errors=True)


def _audit(item: LimitItem, folder: Path) -> str:
    """Run the audit in a process of its own, only for the limits that are tested here; what it says."""
    chosen = [
        other for other in item.session.items if isinstance(other, LimitItem) and other.path == item.path
    ]
    only = [] if any(not other.check for other in chosen) else sorted({other.check for other in chosen})
    profile = item.config.getoption("--audit-profile")
    options = [word for name in only for word in ("--only", name)]
    options += [
        word for name in sorted({other.model for other in chosen} - {""}) for word in ("--model", name)
    ]
    options += ["--profile", profile] if profile else []
    baseline = item.config.getoption("--audit-baseline")
    options += ["--baseline", str(item.config.invocation_params.dir / baseline)] if baseline else []
    options += (
        ["--resume"] if any(folder.glob("**/journal.jsonl")) else []
    )  # a test process died in its middle
    # -P and this folder: a folder called `audit` where pytest runs must not be taken for the package.
    command = [sys.executable, "-P", "-c", _COMMAND, "run", str(item.path), "--out", str(folder), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment())  # noqa: S603 - our own
    return done.stderr or f"model-audit ended with exit code {done.returncode} and no record"


def _environment() -> dict[str, str]:
    before = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([str(_root()), *([before] if before else [])])
    return {**os.environ, "PYTHONPATH": path}


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _root() -> Path:
    return next((home for home in _HOMES if (home / "audit" / "registry.py").is_file()), _HERE)


@contextmanager
def package(*, collecting: bool = False) -> Iterator[None]:
    """Make `audit` mean this tool's package; where the repository has one of that name, only for a while.

    Args:
        collecting: the folders of the tests are not on the path yet, so one of that name may still come.
    """
    root = _root()
    if _is_ours(root) and not (collecting and "audit" not in sys.modules):
        yield
        return
    theirs = {name: sys.modules.pop(name) for name in list(sys.modules) if _of_package(name)}
    sys.modules.update(_OURS)
    sys.path.insert(0, str(root))
    try:
        yield
    finally:
        sys.path.remove(str(root))
        _OURS.update({name: sys.modules.pop(name) for name in list(sys.modules) if _of_package(name)})
        sys.modules.update(theirs)


def _of_package(name: str) -> bool:
    return name == "audit" or name.startswith("audit.")


def _is_ours(root: Path) -> bool:
    """Whether `import audit` finds this tool's package here."""
    try:
        found = importlib.util.find_spec("audit")
    except (ImportError, ValueError):
        return False
    return bool(found and found.origin and Path(found.origin).resolve() == root / "audit" / "__init__.py")


@contextmanager
def _told(kind: type[Exception]) -> Iterator[None]:
    """Fail the test with the one sentence of an error."""
    try:
        yield
    except kind as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None


@pytest.fixture(scope="session")
def audit_file(pytestconfig: pytest.Config) -> Path:
    """The audit.toml that `audit_model`, `audit_data` and `audit_check` speak of."""
    name = str(pytestconfig.getini("audit_file"))
    homes = (pytestconfig.rootpath, pytestconfig.invocation_params.dir)
    return next((home / name for home in homes if (home / name).is_file()), homes[0] / name)


@pytest.fixture(scope="session")
def audit_bench(audit_file: Path, pytestconfig: pytest.Config) -> Any:
    """The model and the data of the audit.toml, loaded once, and the products that checks share."""
    with package():
        from audit.config import read_config
        from audit.errors import AuditError
        from audit.measure import set_up
        from audit.registry import installed_products
        from audit.worker import load_both, read_more

        with _told(AuditError):
            config = read_config(audit_file, model=str(pytestconfig.getini("audit_model_name")))
            model, data = load_both(config)
        reread = partial(read_more, config, model)
        return set_up(model, data, config.seed, installed_products(), config.folder, reread)


@pytest.fixture(scope="session")
def audit_model(audit_bench: Any) -> Any:
    """The loaded model: an `audit.Model`."""
    return audit_bench.model


@pytest.fixture(scope="session")
def audit_data(audit_bench: Any) -> Any:
    """The loaded data: an `audit.Dataset`."""
    return audit_bench.data


@pytest.fixture(scope="session")
def audit_check(audit_bench: Any) -> Callable[..., Any]:
    """Run one check: `audit_check("robustness.pgd", epsilon=[0.1])` gives its `audit.Finding`.

    The settings of audit.toml are not used: what a test says is all that it asks. A check that broke, does
    not fit or could not be evaluated fails the test with its reason.
    """

    def run(name: str, **settings: Any) -> Any:
        with package():
            from audit.errors import AuditError
            from audit.measure import measure
            from audit.registry import Broken, installed_checks, make_plan

            with _told(AuditError):
                checks = installed_checks()
                plan = make_plan([name], {name: settings}, [], checks)
            check = checks[name]
            if isinstance(check, Broken):
                pytest.fail(check.reason, pytrace=False)
            finding = measure(check, plan[0].settings, audit_bench, None)
        if finding.status != "measured":
            status = finding.status.replace("_", " ")
            pytest.fail(f"{name} is {status}: {finding.reason}", pytrace=False)
        return finding

    return run
