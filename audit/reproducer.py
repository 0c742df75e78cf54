"""Reproducer: the little that it takes to see one broken limit again, kept beside the record.

`artifacts/FINDING/replay.json` says which check broke which limit, with what settings, seed, model and data;
`tensors.npz` holds the rows that show it (`audit.shown`), at most 16 and no more than about 4 MiB of them.
Every broken limit keeps one, of four kinds:

* `attack`: rows of the data and the examples that an attack found near them;
* `altered`: rows of the data and what a check made of them, such as noise or another group;
* `measure`: row numbers and what the model did with the rows, and for a comparison of groups the counts of
  its cells;
* `change`: row numbers and what the baseline and this model did with them, for a limit on a change since an
  earlier run, which `replay.json` names.

The first two hold the only rows of the data in a run folder. `[checks] reproducers = false` keeps none.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from audit.arrays import opened_arrays
from audit.config import Config
from audit.environment import tool
from audit.errors import ConfigError
from audit.evidence import Evidence, Scalar
from audit.jsontext import parse_json
from audit.judge import judge_finding
from audit.outcomes import is_outcomes
from audit.pairing import Pair
from audit.plainfile import plain_file, real_path
from audit.policy import Judgement, Policy, Verdict, parts_of
from audit.record import Artifact, Baseline, Finding, Record, plain
from audit.shown import Alteration, Arrays, Shown, Subject, lost_since, shown
from audit.waiver import fingerprint

SCHEMA = "model-audit/replay/1"
FILE, TENSORS = "replay.json", "tensors.npz"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a reproducer is kept for, and what it must tell whoever replays it.

    Attributes:
        policy: the limits.
        config: `[model]` and `[data]` of the configuration, without what is left at its default.
        folder: where their relative paths start.
    """

    policy: Policy
    config: Mapping[str, Any]
    folder: Path


@dataclass(frozen=True, kw_only=True)
class Reproducer:
    """One broken limit, as `replay.json` holds it.

    Attributes:
        finding: fingerprint of the judgement (`audit.waiver.fingerprint`).
        kind: `attack` and `altered`, where the stored rows are shown to the model again; `measure`, where the
            check is measured again; `change`, where it is and is compared with the baseline again.
        check: full name of the check.
        version: its version.
        settings: what it ran with.
        seed: seed of every random draw.
        limit: the limit in words.
        measure: name of the measure.
        group: of whom.
        where: settings of the measure.
        value: the number that broke the limit.
        low: lower end of the interval that was judged.
        high: upper end of it.
        level: its level.
        at_least: the lower limit.
        at_most: the upper limit.
        verdict: FAIL.
        policy: all limits on the check, which share a level.
        rows: indices of the kept rows in the data, as the check saw them.
        attack: `method`, `norm`, `scale`, `epsilon` and `protected` of an attack.
        altered: what was done to the rows; the array `how` is an index into it.
        baseline: the earlier run of a limit on change: its `folder` as seen from the reproducer,
            `record_sha256`, the number then (`base`) and in this run (`new`), and whether this run kept what
            became of each row (`outcomes`).
        tensors_sha256: of `tensors.npz`; empty where no row was kept.
        model: `file`, `sha256`, `factory_sha256`.
        data: `file`, `sha256`, `fingerprint`.
        batch_size: rows in one pass.
        device: where it was measured.
        config: see `Wanted`.
        folder: where its relative paths start, as seen from the reproducer.
        command: what replays it.
        tool: name and version of this tool.
    """

    schema: str = SCHEMA
    finding: str
    kind: Literal["attack", "altered", "measure", "change"]
    check: str
    version: str
    settings: Mapping[str, Any]
    seed: int
    limit: str
    measure: str
    group: Mapping[str, str]
    where: Mapping[str, Scalar]
    value: float | None
    low: float | None
    high: float | None
    level: float | None
    at_least: float | None
    at_most: float | None
    verdict: Verdict
    policy: Policy
    rows: tuple[int, ...] = ()
    attack: Mapping[str, Any] = field(default_factory=dict)
    altered: tuple[Alteration, ...] = ()
    baseline: Mapping[str, Any] = field(default_factory=dict)
    tensors_sha256: str = ""
    model: Mapping[str, Any]
    data: Mapping[str, Any]
    batch_size: int
    device: str
    config: Mapping[str, Any]
    folder: str
    command: str
    tool: Mapping[str, str]


def wanted(config: Config, run: Path) -> Wanted:
    """What the reproducers of a run are kept for.

    Args:
        config: its configuration.
        run: its folder.
    """
    told = config.model_dump(mode="json", exclude_defaults=True, include={"model", "data"})
    beside = Path(os.path.relpath(real_path(config.folder), real_path(run)))
    return Wanted(policy=config.policy.policy(), config=told, folder=beside)


def keep_reproducers(
    finding: Finding, evidence: Evidence, subject: Subject, given: Wanted, run: Path
) -> tuple[Artifact, ...]:
    """Write a reproducer for each limit that the finding breaks by itself.

    Args:
        finding: what was measured.
        evidence: the same, with what an attack found, how rows were changed and what became of each.
        subject: model and rows.
        given: the limits.
        run: the run folder.

    Returns:
        The files, two for each reproducer or one where no row could be kept.
    """
    judged = judge_finding(finding, given.policy).verdicts
    facts = _facts_of(subject)
    kept: list[Artifact] = []
    for name, item in _failed(finding.check, judged).items():
        found = shown(item, finding, evidence, subject)
        kind = "attack" if found.attack else "altered" if found.altered else "measure"
        kept += _keep(name, item, finding, found, {**facts, "kind": kind}, given, run)
    return tuple(kept)


def _failed(check: str, judged: tuple[Judgement, ...]) -> dict[str, Judgement]:
    return {fingerprint(check, item): item for item in judged if item.verdict is Verdict.FAIL}


def keep_changes(
    record: Record, baseline: Path, pair_of: Callable[[str], Pair | None], given: Wanted, run: Path
) -> Record:
    """The record with a reproducer for each broken limit on a change since its baseline.

    Those that an earlier comparison of the same run left are taken away first.

    Args:
        record: judged, with its baseline.
        baseline: the folder or record.json of the baseline.
        pair_of: what both models did with the rows of a check; None where that is not known.
        given: the limits.
        run: the run folder.
    """
    findings = []
    for item in _before(record, run):
        try:
            findings.append(_with_changes(item, record, baseline, pair_of, given, run))
        except OSError as error:
            said = f"No reproducer of a broken limit on a change could be kept: {error.strerror}."
            findings.append(replace(item, caveats=tuple(dict.fromkeys((*item.caveats, said)))))
    return replace(record, findings=tuple(findings))


def _before(record: Record, run: Path) -> list[Finding]:
    """The findings without the reproducers of an earlier comparison, whose files are taken away."""
    gone = []
    for path in run.glob(f"artifacts/*/{FILE}"):
        try:
            told = read_reproducer(path)
        except ConfigError:
            continue
        if told.kind == "change":
            gone.append(f"artifacts/{path.parent.name}/")
            for name in (TENSORS, FILE):
                path.with_name(name).unlink(missing_ok=True)
    return [
        replace(item, artifacts=tuple(a for a in item.artifacts if not a.path.startswith(tuple(gone))))
        for item in record.findings
    ]


def _with_changes(
    finding: Finding,
    record: Record,
    baseline: Path,
    pair_of: Callable[[str], Pair | None],
    given: Wanted,
    run: Path,
) -> Finding:
    limits = [part for item in given.policy.limits for part in parts_of(item) if part.no_worse_than]
    asked = {str(part) for part in limits if part.check == finding.check}
    broken = _failed(finding.check, tuple(item for item in finding.verdicts if item.limit in asked))
    pair = pair_of(finding.check) if broken else None
    kept: list[Artifact] = []
    for name, item in broken.items():
        arrays = {} if pair is None else lost_since(item, finding.check, pair)
        facts = {**_facts_in(record), "baseline": _earlier(record.baseline, finding, item, baseline, run)}
        kept += _keep(name, item, finding, Shown(arrays), {**facts, "kind": "change"}, given, run)
    return replace(finding, artifacts=(*kept, *finding.artifacts))


def _earlier(
    compared: Baseline | None, finding: Finding, item: Judgement, baseline: Path, run: Path
) -> dict[str, Any]:
    """The baseline as `replay.json` names it."""
    changes = compared.changes if compared else ()
    asked = (finding.check, item.measure, dict(item.group), dict(item.settings))
    same = [
        (change.base, change.new)
        for change in changes
        for part in (change.measure,)
        if (change.check, part.name, dict(part.group), dict(part.settings)) == asked
    ]
    base, new = same[0] if same else (None, None)
    place = os.path.relpath(real_path(baseline), real_path(run / "artifacts" / "finding"))
    digest = compared.record_sha256 if compared else ""
    told = {"folder": Path(place).as_posix(), "record_sha256": digest, "base": base, "new": new}
    return {**told, "outcomes": any(map(is_outcomes, finding.artifacts))}


def _keep(
    name: str,
    item: Judgement,
    finding: Finding,
    found: Shown,
    facts: Mapping[str, Any],
    given: Wanted,
    run: Path,
) -> list[Artifact]:
    """Write the files of one reproducer."""
    folder = run / "artifacts" / name
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    if found.arrays:
        np.savez_compressed(folder / TENSORS, **found.arrays)  # type: ignore[arg-type]  # names for options
        files.append(_artifact(folder / TENSORS, run))
    told = Reproducer(
        finding=name,
        **{key: getattr(finding, key) for key in ("check", "version", "settings")},
        **{key: getattr(item, key) for key in ("limit", "measure", "group", "value", "low", "high", "level")},
        **{key: getattr(item, key) for key in ("at_least", "at_most", "verdict")},
        where=item.settings,
        policy=_about(given.policy, finding.check),
        rows=tuple(int(row) for row in found.arrays.get("rows", ())),
        attack=found.attack,
        altered=found.altered,
        tensors_sha256=files[0].sha256 if files else "",
        **facts,
        config=given.config,
        folder=(Path("..", "..") / given.folder).as_posix(),
        command=f"model-audit replay {folder.as_posix()}",
        tool=tool(),
    )
    text = json.dumps(plain(told), indent=2, ensure_ascii=False, allow_nan=False)
    (folder / FILE).write_text(text + "\n", encoding="utf-8")
    return [_artifact(folder / FILE, run), *files]


def _about(policy: Policy, check: str) -> Policy:
    limits = tuple(item for item in policy.limits if item.check == check)
    return Policy(limits=limits, family_wise_level=policy.family_wise_level)


def _facts_of(subject: Subject) -> dict[str, Any]:
    """What was measured and how, from the model and data themselves."""
    model, data = subject.model, subject.data
    file, factory = (model.source.get(key) for key in ("file", "factory_sha256"))
    source = {key: data.source.get(key) for key in ("file", "sha256")}
    return {
        "seed": subject.seed,
        "model": {"file": file, "sha256": model.fingerprint, "factory_sha256": factory},
        "data": {**source, "fingerprint": data.fingerprint},
        "batch_size": model.passes.batch,
        "device": str(model.device),
    }


def _facts_in(record: Record) -> dict[str, Any]:
    """The same from the record of a run."""
    return {
        "seed": record.run["seed"],
        "model": {key: record.model.get(key) for key in ("file", "sha256", "factory_sha256")},
        "data": {key: record.data.get(key) for key in ("file", "sha256", "fingerprint")},
        "batch_size": record.model["batch_size"],
        "device": record.model["device"],
    }


def _artifact(path: Path, run: Path) -> Artifact:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Artifact(path=path.relative_to(run).as_posix(), sha256=digest)


def read_reproducer(folder: Path) -> Reproducer:
    """The reproducer of a folder.

    Raises:
        ConfigError: there is none, or its file is damaged or of another kind.
    """
    from pydantic import TypeAdapter, ValidationError

    path = folder / FILE if folder.is_dir() else folder
    try:
        content = plain_file(path).read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist; broken limits keep one each.") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
    value = parse_json(content, str(path))
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        found = value.get("schema") if isinstance(value, dict) else type(value).__name__
        raise ConfigError(f"{path} is not a reproducer: its schema is {found!r}, not '{SCHEMA}'.")
    try:
        return TypeAdapter(Reproducer).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path} is damaged at '{where}': {first['msg']}.") from None


def read_tensors(folder: Path, told: Reproducer) -> Arrays:
    """The kept rows by name; none where none were kept.

    Raises:
        ConfigError: the file is missing, was altered or cannot be read.
    """
    if not told.tensors_sha256:
        return {}
    path = (folder if folder.is_dir() else folder.parent) / TENSORS
    try:
        if hashlib.sha256(plain_file(path).read_bytes()).hexdigest() != told.tensors_sha256:
            raise ConfigError(f"{path} was altered: its sha256 is not the one in {FILE}.")
        with opened_arrays(path) as stored:
            return dict(stored)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from None
