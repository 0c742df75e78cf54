"""Shown: the few rows that show a broken limit, as arrays.

At most 16 rows, and no more inputs of rows than fit into 4 MiB, but always one row where any shows it: images
are big and every broken limit keeps its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from audit.dataset import Dataset, Floats, Ints
from audit.evidence import Altered, Evidence, Measure, Turned
from audit.outcomes import Flags, Outcomes, answers
from audit.pairing import Pair, members_of
from audit.policy import Judgement
from audit.record import Finding, plain

if TYPE_CHECKING:
    from audit.model import Model

ROWS = 16
"""Rows that one reproducer keeps at most."""
BYTES = 4 * 2**20
"""Bytes of inputs that one reproducer keeps at most, changed ones among them; one row is always kept."""
_BY_ATTACK = frozenset({"robust_accuracy", "attack_success_rate", "flip_rate"})
_FAIR = "fairness."
Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Subject:
    """What was measured: model, rows as the check saw them, seed, and clean answers where there are any."""

    model: "Model"
    data: Dataset
    seed: int
    predictions: Any = None


@dataclass(frozen=True, kw_only=True)
class Alteration:
    """What was done to a row and how its answer turned, as in `audit.evidence.Altered`."""

    words: str
    turned: Turned


@dataclass(frozen=True)
class Shown:
    """The rows that show a failure, and how they were changed.

    Attributes:
        arrays: `rows` and what is told of each, by name.
        attack: what a changed row must keep to; empty where no distance is meant.
        altered: what was done to the rows; the array `how` is an index into it.
    """

    arrays: Arrays
    attack: Mapping[str, Any] = field(default_factory=dict)
    altered: tuple[Alteration, ...] = ()


def shown(item: Judgement, finding: Finding, evidence: Evidence, subject: Subject) -> Shown:
    """The rows that show a broken limit.

    Rows that fell to what the check did to them, where that breaks the limit; else rows of the data that the
    model answers wrongly, or against the people whom the limit is about; none where nothing is known of rows.

    Args:
        item: the broken limit.
        finding: what was measured.
        evidence: the same, with what an attack found, how rows were changed and what became of each row.
        subject: model and rows.
    """
    number = next((part for part in finding.measures if _is_of(part, item)), None)
    if number is not None and _fell(item, number):
        found = _attacked(item, evidence, subject) or _altered(item, number, evidence, subject)
        if found is not None:
            return found
    kept = evidence.outcomes
    if kept is None and subject.predictions is not None:
        kept = answers(subject.data, subject.predictions)
    return Shown({} if kept is None else _telling(item, kept, fair=finding.check.startswith(_FAIR)))


def _is_of(part: Measure, item: Judgement) -> bool:
    asked = (item.measure, dict(item.group), dict(item.settings))
    return (part.name, dict(part.group), dict(part.settings)) == asked


def _fell(item: Judgement, number: Measure) -> bool:
    """Whether the limit is broken because rows fell: too few held, or too many did not."""
    if number.better == "higher":
        return item.at_least is not None and item.high is not None and item.high < item.at_least
    return item.at_most is not None and item.low is not None and item.low > item.at_most


def _attacked(item: Judgement, evidence: Evidence, subject: Subject) -> Shown | None:
    """Rows that fell to an attack within an epsilon; None where the number is of something else."""
    result, data = evidence.attack, subject.data
    if result is None or item.measure not in _BY_ATTACK or set(item.settings) != {"epsilon"}:
        return None
    epsilon = next((e.epsilon for e in result.at if e.epsilon == item.settings["epsilon"]), None)
    if epsilon is None:
        return None
    rows, points = result.adversarial(epsilon)
    members = np.flatnonzero(_belong(item.group, data, rows))[: _most(data.inputs)]
    if not len(members):
        return None
    chosen = ("norm", "scale", "protected")
    told = {key: plain(result.settings[key]) for key in chosen if key in result.settings}
    arrays = _before_and_after(subject, rows[members], points[members])
    return Shown(arrays, {"method": result.method, "epsilon": epsilon, **told})


def _before_and_after(subject: Subject, rows: Ints, points: Floats) -> Arrays:
    data = subject.data
    found: Arrays = {"rows": rows, "original": data.inputs[rows], "adversarial": points}
    if data.labelled:
        found["label"] = data.labels[rows]
    pairs = (("before", found["original"]), ("after", points))
    return found | {name: classes_of(subject.model, inputs) for name, inputs in pairs}


def _altered(item: Judgement, number: Measure, evidence: Evidence, subject: Subject) -> Shown | None:
    """Rows that fell to what the check did to them: one of each change in turn, that of most rows first."""
    parts = [] if evidence.altered is None else list(evidence.altered(number))
    mine = [(part, part.rows[_belong(item.group, subject.data, part.rows)]) for part in parts]
    mine = sorted((pair for pair in mine if len(pair[1])), key=lambda pair: -len(pair[1]))
    counts = _in_turn([len(rows) for _, rows in mine], _most(subject.data.inputs))
    picked = [(part, rows[:count]) for (part, rows), count in zip(mine, counts, strict=True) if count]
    if not picked:
        return None
    rows = np.concatenate([chosen for _, chosen in picked])
    points = np.concatenate([part.make(chosen) for part, chosen in picked])
    arrays = _before_and_after(subject, rows, points)
    how = np.repeat(np.arange(len(picked)), [len(chosen) for _, chosen in picked])
    held = _still(arrays, how, [part for part, _ in picked], subject.data.favourable)
    if not held.any():
        return None
    told = tuple(Alteration(words=part.words, turned=part.turned) for part, _ in picked)
    kept = {name: values[held] for name, values in {**arrays, "how": how}.items()}
    return Shown(kept, plain(picked[0][0].attack), told)


def _in_turn(sizes: Sequence[int], most: int) -> list[int]:
    """How many to take of each, one of each in turn, until there are `most` or no more."""
    counts = [0] * len(sizes)
    for rank in range(most):
        for place, size in enumerate(sizes):
            if rank < size and sum(counts) < most:
                counts[place] += 1
    return counts


def _still(arrays: Arrays, how: Ints, parts: Sequence[Altered], favourable: int | None) -> Flags:
    """[n] whether the change turns the answer when a row is shown on its own, too."""
    found: Flags = np.zeros(len(how), dtype=np.bool_)
    for place, part in enumerate(parts):
        found |= (how == place) & turned(part.turned, arrays, arrays["before"], arrays["after"], favourable)
    return found


def classes_of(model: "Model", inputs: Floats) -> Ints:
    """[n] class given to each row of inputs [n, ...]; -1 where a score is not a finite number."""
    scores = model.predict(inputs).numpy()
    found: Ints = np.where(np.isfinite(scores).all(axis=1), scores.argmax(axis=1), -1)
    return found


def turned(way: str, kept: Mapping[str, Any], before: Ints, after: Ints, favourable: int | None) -> Flags:
    """[n] whether the answers turned in this way (`audit.evidence.Altered`).

    Args:
        way: `wrong`, `other`, `lost` or `gained`.
        kept: the arrays of a reproducer; `label` is needed for `wrong`.
        before: [n] class given to the rows; -1 for none.
        after: [n] class given to the changed rows.
        favourable: index of the class that is good for a person.
    """
    if way == "wrong":
        wrong: Flags = after != kept["label"]
        return wrong
    found: Flags = (before != after) & (before >= 0) & (after >= 0)
    if way == "lost":
        found &= before == favourable
    if way == "gained":
        found &= after == favourable
    return found


def _most(inputs: Floats) -> int:
    """How many rows are kept, with what they were changed into."""
    each = 2 * inputs.dtype.itemsize * int(np.prod(inputs.shape[1:]))
    return min(ROWS, max(1, BYTES // max(1, each)))


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
    members = _members(item, kept)
    refused = _refused(kept) if fair else None
    right = kept.flags.get("correct")
    if refused is not None:
        against: Flags = refused
        first = np.zeros(len(kept), dtype=np.bool_) if right is None else ~right
    else:
        against = members if right is None else ~right
        first = against
    alike = np.zeros(len(kept), dtype=np.float32)
    surest = np.abs(kept.numbers.get("score", kept.numbers.get("confidence", alike)))
    places = _first(members & against, first, surest)
    arrays: Arrays = {"rows": kept.rows[places], **_said(kept, places, "")}
    return {**arrays, **(_cells(item, kept) if fair else {})}


def _members(item: Judgement, kept: Outcomes) -> Flags:
    """[R] the rows of the group, all of them where it is not one of the data's."""
    among = members_of(item.group, kept)
    return np.ones(len(kept), dtype=np.bool_) if among is None else among


def _refused(kept: Outcomes) -> Flags | None:
    """[R] whether the model decided against the person; None where no outcome is favourable."""
    names, predicted = kept.coded("predicted")
    if predicted is None or kept.favourable not in names:
        return None
    found: Flags = predicted != names.index(kept.favourable)
    return found


def _first(among: Flags, first: Flags, weight: Any) -> Ints:
    """Up to `ROWS` places among these: those that come first, then by weight, then in their order."""
    places = np.flatnonzero(among)
    found: Ints = places[np.lexsort((places, -weight[places], ~first[places]))][:ROWS]
    return found


def _said(kept: Outcomes, places: Ints, prefix: str) -> Arrays:
    """What one model did with some rows; the label stands there once."""
    arrays = {f"{prefix}{name}": kept.flags[name][places] for name in ("correct",) if name in kept.flags}
    for name in ("label", "predicted"):
        words, codes = kept.coded(name)
        if codes is not None:
            arrays[name if name == "label" else f"{prefix}{name}"] = np.array(words)[codes[places]]
    return arrays | {f"{prefix}{name}": values[places] for name, values in kept.numbers.items()}


def _cells(item: Judgement, kept: Outcomes) -> Arrays:
    """Rows by group of the features that the limit speaks of, true class and predicted class."""
    features = [name for name in item.group if f"group {name}" in kept.codes]
    axes = [kept.coded(name) for name in ("label", "predicted", *(f"group {name}" for name in features))]
    shape = [len(words) for words, _ in axes]
    known = features and all(codes is not None for _, codes in axes)
    if not known or np.prod(shape, dtype=np.float64) * np.dtype(np.int64).itemsize > BYTES:
        return {}
    flat = np.ravel_multi_index([codes for _, codes in axes if codes is not None], shape)
    counts = np.bincount(flat, minlength=int(np.prod(shape))).reshape(shape)
    named: Arrays = {"cells": counts, "cells_classes": np.array(axes[0][0])}
    groups = {f"cells_groups_{place}": np.array(words) for place, (words, _) in enumerate(axes[2:])}
    return {**named, "cells_features": np.array(features), **groups}


def lost_since(item: Judgement, check: str, pair: Pair) -> Arrays:
    """The rows on which the baseline was better and this model is worse, those of the largest step first.

    Args:
        item: a broken limit on a change.
        check: full name of its check.
        pair: what both models did with the same rows.

    Returns:
        `rows`, `label`, and of each model (the baseline's under `base_`) whether it is right, what it
        answers and its score, as far as they were kept; nothing where no such row is.
    """
    members, worse = _members(item, pair.new), _turned_since(item, check, pair)
    further = _further(pair)
    if not (members & worse).any():
        worse = further > 0
    wrong = pair.new.flags.get("correct")
    first = np.zeros(len(pair.new), dtype=np.bool_) if wrong is None else ~wrong
    places = _first(members & worse, first, further)
    if not len(places):
        return {}
    said = _said(pair.base, places, "base_") | _said(pair.new, places, "")
    name = _robust(item)
    for prefix, side in (("base_", pair.base), ("", pair.new)):
        said |= {f"{prefix}robust": side.flags[name][places]} if name in side.flags else {}
    return {"rows": pair.new.rows[places], **said}


def _robust(item: Judgement) -> str:
    epsilon = item.settings.get("epsilon", "")
    return "" if isinstance(epsilon, str) else f"robust {float(epsilon)!r}"


def _turned_since(item: Judgement, check: str, pair: Pair) -> Flags:
    """[R] held under attack, granted, or right before, and not now: what the number is about."""
    name = _robust(item)
    if name in pair.base.flags and name in pair.new.flags:
        return pair.base.flags[name] & ~pair.new.flags[name]
    refused = [_refused(side) for side in (pair.base, pair.new)] if check.startswith(_FAIR) else [None]
    if refused[0] is not None and refused[-1] is not None:
        return refused[-1] & ~refused[0]
    right = [side.flags.get("correct") for side in (pair.base, pair.new)]
    if right[0] is None or right[1] is None:
        return np.zeros(len(pair.new), dtype=np.bool_)
    return right[0] & ~right[1]


def _further(pair: Pair) -> Any:
    """[R] how much further the score is from the true outcome than it was; 0 where that is not kept."""
    names, codes = pair.new.coded("label")
    odds = [side.numbers.get("score") for side in (pair.base, pair.new)]
    none = np.zeros(len(pair.new))
    if codes is None or odds[0] is None or odds[1] is None or pair.new.favourable not in names:
        return none
    true = codes == names.index(pair.new.favourable)
    gaps = [
        np.abs(true - np.exp(-np.logaddexp(0.0, -part.astype(np.float64))))
        for part in odds
        if part is not None
    ]
    return np.nan_to_num(gaps[1] - gaps[0])
