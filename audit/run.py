"""Audit, as a Python verb: plan, measure and judge in this process, on a model that is already loaded.

`model-audit run` does the same under a supervisor, which also survives a crash of the process.
"""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from audit.check import Check
from audit.environment import describe_environment, tool
from audit.errors import ConfigError
from audit.judge import judge
from audit.plan import Options, plan_checks
from audit.policy import Policy, Verdict
from audit.profile import STANDARD, read_profile, said_of
from audit.record import SCHEMA, Finding, Outcome, Planned, Record, canonical, write_record
from audit.registry import Broken, broken_finding, installed_checks, installed_products

if TYPE_CHECKING:
    from audit.dataset import Dataset
    from audit.measure import Bench
    from audit.model import Model


def audit(
    model: "Model",
    data: "Dataset",
    *,
    checks: Sequence[str | Check] = ("*",),
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    policy: Policy | None = None,
    seed: int = 0,
    folder: Path | None = None,
    profile: str = STANDARD,
) -> Record:
    """Audit a loaded model and return the judged record.

    Args:
        model: from `audit.load_model`; it goes through the pre-flight first.
        data: from `audit.load_data`.
        checks: names or patterns of installed checks, or `Check` objects that need not be installed.
        settings: settings by full check name.
        policy: what is asked; without one nothing is judged and the exit code is 2.
        seed: seed of every random draw.
        folder: where artifacts and `record.json` go; None writes nothing.
        profile: `quick`, `standard` or `thorough`: what is set where `settings` says nothing, and left out.

    Raises:
        ConfigError: a name, a setting or a limit is wrong.
        LoadError: the model does not answer the data as it should.
    """
    from audit.measure import set_up
    from audit.preflight import PREFLIGHT_ROWS, preflight

    policy = policy or Policy()
    own = {item.name: item for item in checks if isinstance(item, Check)}
    known: dict[str, Check | Broken] = {**installed_checks(), **own}
    patterns = [item.name if isinstance(item, Check) else item for item in checks]
    plan, left_out = plan_checks(patterns, settings or {}, policy.limits, Options(profile=profile), known)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    started, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    if not model.preflight:
        declared = "auto" if model.output == "logits" else model.output
        model = preflight(model, data.inputs[:PREFLIGHT_ROWS], declared)
    bench = set_up(model, data, seed, installed_products())
    said = said_of(read_profile(profile), settings or {}, policy.limits, known)
    findings = [
        replace(item, caveats=(*item.caveats, said[item.check]))
        if item.status == "measured" and item.check in said
        else item
        for item in _measure_all(plan, known, bench, folder)
    ]
    facts = {"seed": seed, "profile": profile, "started": started, "seconds": time.monotonic() - clock}
    record = judge(replace(_record(bench, plan, findings, policy, facts), left_out=left_out))
    if folder is not None:
        write_record(record, folder)
    return record


def _measure_all(
    plan: Sequence[Planned], known: Mapping[str, Check | Broken], bench: "Bench", folder: Path | None
) -> list[Finding]:
    from audit.measure import is_untouched, measure

    findings = []
    changed_by = ""
    for item in plan:
        check = known[item.check]
        if isinstance(check, Broken):
            findings.append(broken_finding(item, check, check.reason))
        elif changed_by:
            reason = f"it was not run: {changed_by} left the model changed"
            findings.append(broken_finding(item, check, reason))
        else:
            findings.append(measure(check, item.settings, bench, folder))
            changed_by = "" if is_untouched(bench) else item.check
    return findings


def _record(
    bench: "Bench",
    plan: tuple[Planned, ...],
    findings: Sequence[Finding],
    policy: Policy,
    facts: Mapping[str, Any],
) -> Record:
    from audit.load import describe_model
    from audit.read import describe_data

    identity = [list(plan), bench.model.fingerprint, bench.data.fingerprint, facts["seed"]]
    return Record(
        schema=SCHEMA,
        tool=tool(),
        run={
            **facts,
            "id": hashlib.sha256(canonical(identity)).hexdigest()[:16],
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "model_state": bench.state,
        },
        environment=describe_environment(bench.model.device),
        model=describe_model(bench.model),
        data=describe_data(bench.data),
        policy=policy,
        plan=plan,
        findings=tuple(findings),
        verdict=Outcome(verdict=Verdict.NOT_JUDGED, exit_code=2),
    )


def load_model(path: str | Path, **section: Any) -> "Model":
    """Load a saved model; keywords are the keys of `[model]` in audit.toml. Paths start here.

    Raises:
        LoadError: the file cannot be loaded safely.
        ConfigError: a keyword is unknown or wrong.
    """
    from audit.config import ModelSection
    from audit.load import load_model as load

    return load(_section(ModelSection, path, section), Path.cwd())


def load_data(
    path: str | Path,
    *,
    classes: Sequence[str] = (),
    task: Literal["classification", "regression"] = "classification",
    **section: Any,
) -> "Dataset":
    """Load data; keywords are the keys of `[data]` in audit.toml. Paths start here.

    Args:
        path: the data file.
        classes: class names in the order of the model's outputs; read from the labels when empty.
        task: that of the model; for `regression` the target is read as numbers.
        section: the other keys, and `input_range` of the model for images.

    Raises:
        LoadError: the file cannot be read or does not hold what it should.
        ConfigError: a keyword is unknown or wrong.
    """
    from audit.config import DataSection
    from audit.read import load_data as load

    input_range = section.pop("input_range", None)
    described = _section(DataSection, path, section)
    return load(described, Path.cwd(), classes=tuple(classes), input_range=input_range, task=task)


def _section(noun: Any, path: str | Path, values: Mapping[str, Any]) -> Any:
    from pydantic import ValidationError

    try:
        return noun(path=Path(path), **values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"'{key}' = {first['input']!r} is wrong: {first['msg']}.") from None
