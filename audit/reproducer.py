"""Reproducer: the little that it takes to see one broken limit again, kept beside the record.

`artifacts/FINDING/replay.json` says which check broke which limit, with what settings, seed, model and data;
`tensors.npz` holds up to 16 rows that show it. For an attack these are rows of the data and what they were
changed into: the only place of a run folder where rows of the data stand. For any other check they are row
numbers and what the model did with the rows, and for a comparison of groups the counts of its cells.
`[checks] reproducers = false` keeps none. A limit on a change since an earlier run keeps none either.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from audit.config import Config
from audit.dataset import Dataset, Ints
from audit.environment import tool
from audit.errors import ConfigError
from audit.evidence import Evidence, Scalar
from audit.jsontext import parse_json
from audit.judge import judge_finding
from audit.model import Model
from audit.outcomes import Flags, Outcomes, answers
from audit.pairing import members_of
from audit.policy import Judgement, Policy, Verdict
from audit.record import Artifact, Finding, plain
from audit.waiver import fingerprint

SCHEMA = "model-audit/replay/1"
FILE, TENSORS = "replay.json", "tensors.npz"
MOST = 20
"""Broken limits of a run that keep a reproducer, the first that are found."""
ROWS = 16
"""Rows that one reproducer keeps at most."""
_FALLS = {"robust_accuracy": "at_least", "attack_success_rate": "at_most", "flip_rate": "at_most"}
Arrays = dict[str, npt.NDArray[Any]]


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


@dataclass(frozen=True)
class Subject:
    """What was measured: model, rows as the check saw them, seed, and clean answers where there are any."""

    model: Model
    data: Dataset
    seed: int
    predictions: Any = None


@dataclass(frozen=True, kw_only=True)
class Reproducer:
    """One broken limit, as `replay.json` holds it.

    Attributes:
        finding: fingerprint of the judgement (`audit.waiver.fingerprint`).
        kind: `attack`, where the stored examples are shown to the model again; `measure`, where the check is
            measured again.
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
    kind: Literal["attack", "measure"]
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
    beside = Path(os.path.relpath(config.folder.resolve(), run.resolve()))
    return Wanted(policy=config.policy.policy(), config=told, folder=beside)


def keep_reproducers(
    finding: Finding, evidence: Evidence, subject: Subject, given: Wanted, run: Path
) -> tuple[Artifact, ...]:
    """Write a reproducer for each limit that the finding breaks by itself, up to `MOST` in a run.

    Args:
        finding: what was measured.
        evidence: the same, with what an attack found and what became of each row.
        subject: model and rows.
        given: the limits.
        run: the run folder.

    Returns:
        The files, two for each reproducer or one where no row could be kept.
    """
    judged = judge_finding(finding, given.policy).verdicts
    failed = {fingerprint(finding.check, item): item for item in judged if item.verdict is Verdict.FAIL}
    before = {path.parent.name for path in (run / "artifacts").glob(f"*/{FILE}")} - failed.keys()
    kept: list[Artifact] = []
    for name in list(failed)[: max(0, MOST - len(before))]:
        kept += _keep(name, failed[name], finding, _shown(failed[name], finding, evidence, subject), subject,
                      given, run)  # fmt: skip
    return tuple(kept)


@dataclass(frozen=True)
class _Shown:
    """The rows that show a failure, as arrays, and how an attack found them."""

    arrays: Arrays
    attack: Mapping[str, Any] = field(default_factory=dict)


def _shown(item: Judgement, finding: Finding, evidence: Evidence, subject: Subject) -> _Shown:
    fallen = _fallen(item, evidence, subject)
    if fallen is not None:
        return fallen
    kept = evidence.outcomes
    if kept is None and subject.predictions is not None:
        kept = answers(subject.data, subject.predictions)
    return _Shown({} if kept is None else _telling(item, kept, fair=finding.check.startswith("fairness.")))


def _fallen(item: Judgement, evidence: Evidence, subject: Subject) -> _Shown | None:
    """Rows that fell to an attack, where that is what breaks the limit; None where it is not."""
    result, data = evidence.attack, subject.data
    bound = getattr(item, _FALLS.get(item.measure, ""), None)
    if result is None or bound is None or set(item.settings) != {"epsilon"}:
        return None
    epsilon = next((e.epsilon for e in result.at if e.epsilon == item.settings["epsilon"]), None)
    if epsilon is None:
        return None
    rows, points = result.adversarial(epsilon)
    members = np.flatnonzero(_belong(item.group, data, rows))[:ROWS]
    if not len(members):
        return None
    rows, points = rows[members], points[members]
    arrays = {
        "rows": rows,
        "original": data.inputs[rows],
        "adversarial": points,
        "label": data.labels[rows],
        "before": subject.model.predict(data.inputs[rows]).numpy().argmax(axis=1),
        "after": subject.model.predict(points).numpy().argmax(axis=1),
    }
    chosen = ("norm", "scale", "protected")
    told = {key: plain(result.settings[key]) for key in chosen if key in result.settings}
    return _Shown(arrays, {"method": result.method, "epsilon": epsilon, **told})


def _belong(group: Mapping[str, str], data: Dataset, rows: Ints) -> Flags:
    """[n] whether each row belongs to the group; nobody where the group is not one of the data's."""
    members: Flags = np.ones(len(rows), dtype=np.bool_)
    for name, value in group.items():
        feature = data.sensitive.get(name)
        if feature is None or value not in feature.groups:
            return np.zeros(len(rows), dtype=np.bool_)
        members &= feature.codes[rows] == feature.groups.index(value)
    return members


def _telling(item: Judgement, kept: Outcomes, *, fair: bool) -> Arrays:
    """The rows that count most: refused people of the group, else wrong answers; the surest ones first."""
    among = members_of(item.group, kept)
    members: Flags = np.ones(len(kept), dtype=np.bool_) if among is None else among
    names, predicted = kept.coded("predicted")
    right = kept.flags.get("correct")
    if fair and predicted is not None and kept.favourable in names:
        against: Flags = predicted != names.index(kept.favourable)
        first = np.zeros(len(kept), dtype=np.bool_) if right is None else ~right
    else:
        against = members if right is None else ~right
        first = against
    alike = np.zeros(len(kept), dtype=np.float32)
    surest = np.abs(kept.numbers.get("score", kept.numbers.get("confidence", alike)))
    places = np.flatnonzero(members & against)
    places = places[np.lexsort((places, -surest[places], ~first[places]))][:ROWS]
    arrays: Arrays = {"rows": kept.rows[places]}
    arrays |= {name: kept.flags[name][places] for name in ("correct",) if name in kept.flags}
    for name in ("label", "predicted"):
        words, codes = kept.coded(name)
        if codes is not None:
            arrays[name] = np.array(words)[codes[places]]
    arrays |= {name: values[places] for name, values in kept.numbers.items()}
    return {**arrays, **(_cells(item, kept) if fair else {})}


def _cells(item: Judgement, kept: Outcomes) -> Arrays:
    """Rows by group of the features that the limit speaks of, true class and predicted class."""
    features = [name for name in item.group if f"group {name}" in kept.codes]
    axes = [kept.coded(name) for name in ("label", "predicted", *(f"group {name}" for name in features))]
    if not features or any(codes is None for _, codes in axes):
        return {}
    shape = [len(words) for words, _ in axes]
    flat = np.ravel_multi_index([codes for _, codes in axes if codes is not None], shape)
    counts = np.bincount(flat, minlength=int(np.prod(shape))).reshape(shape)
    named: Arrays = {"cells": counts, "cells_classes": np.array(axes[0][0])}
    groups = {f"cells_groups_{place}": np.array(words) for place, (words, _) in enumerate(axes[2:])}
    return {**named, "cells_features": np.array(features), **groups}


def _keep(
    name: str, item: Judgement, finding: Finding, shown: _Shown, subject: Subject, given: Wanted, run: Path
) -> list[Artifact]:
    """Write the files of one reproducer."""
    folder = run / "artifacts" / name
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    if shown.arrays:
        np.savez_compressed(folder / TENSORS, **shown.arrays)  # type: ignore[arg-type]  # names for options
        files.append(_artifact(folder / TENSORS, run))
    told = Reproducer(
        finding=name,
        kind="attack" if shown.attack else "measure",
        **{key: getattr(finding, key) for key in ("check", "version", "settings")},
        **{key: getattr(item, key) for key in ("limit", "measure", "group", "value", "low", "high", "level")},
        **{key: getattr(item, key) for key in ("at_least", "at_most", "verdict")},
        where=item.settings,
        seed=subject.seed,
        policy=_about(given.policy, finding.check),
        rows=tuple(int(row) for row in shown.arrays.get("rows", ())),
        attack=shown.attack,
        tensors_sha256=files[0].sha256 if files else "",
        model=_model_facts(subject.model),
        data=_data_facts(subject.data),
        batch_size=subject.model.passes.batch,
        device=str(subject.model.device),
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


def _model_facts(model: Model) -> dict[str, Any]:
    factory = model.source.get("factory_sha256")
    return {"file": model.source.get("file"), "sha256": model.fingerprint, "factory_sha256": factory}


def _data_facts(data: Dataset) -> dict[str, Any]:
    file, digest = data.source.get("file"), data.source.get("sha256")
    return {"file": file, "sha256": digest, "fingerprint": data.fingerprint}


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
        content = path.read_bytes()
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
        if hashlib.sha256(path.read_bytes()).hexdigest() != told.tensors_sha256:
            raise ConfigError(f"{path} was altered: its sha256 is not the one in {FILE}.")
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from None
