"""Possible: whether a changed row is a person who could exist, judged anew in double precision.

It reads the description of the features and the stored arrays alone and shares no code with the search, so
that a fault of the search is found here. Every claimed row goes through it; one that fails never counts.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from audit.dataset import Dataset, Doubles, Feature, Floats, Ints
from audit.model import Model

ACCEPTED = 0
REASONS: Mapping[int, str] = dict(
    enumerate(
        (
            "feature that must not change",
            "outside its range",
            "against its direction",
            "not a whole step",
            "not one category",
            "breaks a relation",
            "over the cost",
            "not misclassified in a fresh pass",
        ),
        start=1,
    )
)
_FIXED, _RANGE, _DIRECTION, _STEP, _CATEGORY, _RELATION, _COST, _CLASS = REASONS
COST_TOLERANCE = 1e-5
"""A cost may exceed epsilon by this share."""

_ULP = float(np.finfo(np.float32).eps)
Flags = npt.NDArray[np.bool_]


def judged(
    model: Model, data: Dataset, rows: Ints, points: Floats, epsilon: float, protected: Sequence[str] = ()
) -> npt.NDArray[np.int8]:
    """[n] `ACCEPTED`, or the first reason why a claimed adversarial row does not count.

    Args:
        model: the network, in eval mode; it is asked in a pass of its own.
        data: the rows, with what is stated of their features.
        rows: [n] the rows that were changed.
        points: [n, D] what they were changed into.
        epsilon: largest cost of all changes together.
        protected: names of features that had to stay.
    """
    codes = np.full(len(points), ACCEPTED, dtype=np.int8)
    if not len(points):
        return codes
    scores = model.predict(points).numpy()
    fooled = np.isfinite(scores).all(axis=1) & (scores.argmax(axis=1) != data.labels[rows])
    found = [*flaws(data, rows, points, protected), (_COST, _dear(data, rows, points, epsilon))]
    for code, bad in (*found, (_CLASS, ~fooled)):
        codes[bad & (codes == ACCEPTED)] = code
    return codes


def flaws(
    data: Dataset, rows: Ints, points: Floats, protected: Sequence[str] = ()
) -> Iterator[tuple[int, Flags]]:
    """Each rule with the [n] rows that break it; cost and class are not among them."""
    before, after = data.inputs[rows].astype(np.float64), points.astype(np.float64)
    owned: set[int] = set()
    for feature in data.features:
        columns = list(feature.columns)
        owned.update(columns)
        yield from _of_feature(data, feature, before[:, columns], after[:, columns], protected)
    for column in set(range(before.shape[1])) - owned:
        plain = Feature(name=f"column {column}", columns=(column,))
        yield from _of_feature(data, plain, before[:, [column]], after[:, [column]], protected)
    for terms, low, high in ((item.terms, item.low, item.high) for item in data.relations):
        yield _RELATION, _breaks(data, after, terms, low, high)


def costs(data: Dataset, rows: Ints, points: Floats) -> Doubles:
    """[n] what the changes of each row cost together; infinite where a change has no price."""
    before, after = data.inputs[rows].astype(np.float64), points.astype(np.float64)
    described = data.features or tuple(
        Feature(name=f"column {c}", columns=(c,)) for c in range(before.shape[1])
    )
    total = np.zeros(len(points))
    for feature in described:
        columns = list(feature.columns)
        moved = np.abs(after[:, columns] - before[:, columns])
        if feature.kind == "categorical":
            total += moved.any(axis=1) * (feature.cost or 1.0)
        elif feature.cost is not None:
            total += moved.sum(axis=1) * abs(feature.unit or np.inf) * feature.cost
        else:
            spread = np.std(data.inputs[:, columns].astype(np.float64), axis=0)
            priced = np.divide(moved, spread, out=np.where(moved > 0, np.inf, 0.0), where=spread > 0)
            total += priced.sum(axis=1)
    return total


def _dear(data: Dataset, rows: Ints, points: Floats, epsilon: float) -> Flags:
    dear: Flags = ~(costs(data, rows, points) <= epsilon * (1 + COST_TOLERANCE))
    return dear


def _of_feature(
    data: Dataset, feature: Feature, before: Doubles, after: Doubles, protected: Sequence[str]
) -> Iterator[tuple[int, Flags]]:
    """The rules of one feature; `before` and `after` are [n, k], its own columns."""
    changed: Flags = (before != after).any(axis=1)
    if feature.immutable or feature.name in protected:
        yield _FIXED, changed
    elif feature.kind == "categorical":
        yield _CATEGORY, changed & ~_one_category(feature, before, after)
    elif len(feature.columns) != 1:
        yield _FIXED, changed
    else:
        yield _RANGE, changed & ~_in_range(data, feature, after[:, 0])
        yield _DIRECTION, changed & _backwards(feature, after[:, 0] - before[:, 0])
        yield _STEP, changed & ~_on_a_step(data, feature, before[:, 0], after[:, 0])


def _one_category(feature: Feature, before: Doubles, after: Doubles) -> Flags:
    binary = ((after == 0) | (after == 1)).all(axis=1)
    ones = after.sum(axis=1)
    may_be_none = bool(feature.dropped) or len(feature.columns) == 1
    kept: Flags = binary & ((ones == 1) | ((ones == 0) & (may_be_none | (before.sum(axis=1) == 0))))
    return kept


def _in_range(data: Dataset, feature: Feature, after: Doubles) -> Flags:
    seen = data.inputs[:, feature.columns[0]]
    low = seen.min() if feature.low is None else np.float32(feature.low)
    high = seen.max() if feature.high is None else np.float32(feature.high)
    inside: Flags = (after >= float(low)) & (after <= float(high))
    return inside


def _backwards(feature: Feature, moved: Doubles) -> Flags:
    if feature.direction is None:
        return np.zeros(len(moved), dtype=np.bool_)
    gained = moved * (feature.unit or np.nan)
    right: Flags = gained > 0 if feature.direction == "increase" else gained < 0
    return ~right


def _on_a_step(data: Dataset, feature: Feature, before: Doubles, after: Doubles) -> Flags:
    """Whether a move is a whole number of steps, as far as single precision can say."""
    unit = feature.unit
    if unit is None:
        fine: Flags = np.full(len(after), feature.kind == "numeric" and feature.step is None)
        return fine
    step = feature.step
    if step is None and (feature.kind == "ordinal" or _all_whole(data, feature, unit)):
        step = 1.0
    if step is None:
        return np.ones(len(after), dtype=np.bool_)
    steps = (after - before) * unit / step
    blur = 4 * _ULP * np.maximum(np.abs(before), np.abs(after)) * abs(unit) / step
    return np.abs(steps - np.rint(steps)) <= blur


def _all_whole(data: Dataset, feature: Feature, unit: float) -> bool:
    cells = data.inputs[:, feature.columns[0]].astype(np.float64) * unit
    blur = 4 * _ULP * (np.abs(cells) + abs(feature.zero))
    distance = np.abs((cells + feature.zero) - np.rint(cells + feature.zero))
    return bool(blur.max(initial=0.0) <= 0.1 and (distance <= blur).all())  # noqa: PLR2004 - a tenth of a step


def _breaks(
    data: Dataset,
    after: Doubles,
    terms: Sequence[tuple[str, float]],
    low: float | None,
    high: float | None,
) -> Flags:
    """Whether a sum in the user's units leaves its bounds by more than single precision explains."""
    named = {feature.name: feature for feature in data.features}
    total, size = np.zeros(len(after)), np.zeros(len(after))
    for name, factor in terms:
        feature = named[name]
        part = after[:, feature.columns[0]] * (feature.unit or np.nan)
        total += factor * (part + feature.zero)
        size += abs(factor) * (np.abs(part) + abs(feature.zero))
    slack = 8 * _ULP * size
    under = total < low - slack if low is not None else np.zeros(len(after), dtype=np.bool_)
    over = total > high + slack if high is not None else np.zeros(len(after), dtype=np.bool_)
    broken: Flags = under | over | np.isnan(total)
    return broken
