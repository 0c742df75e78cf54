"""What a person of a table can change: fixed features, one way only, whole steps, categories, sums, costs.

Numpy only. Everything is in units of the model's input here; the user's units are those of `Feature.unit`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from audit.attack.space import Space
from audit.dataset import Dataset, Doubles, Feature, Floats
from audit.errors import NotApplicable

EPSILONS = (0.5, 1.0, 2.0)
_NAMES_SHOWN = 12
_ROUNDING = 4 * float(np.finfo(np.float32).eps)
_LEAST_STEP_BITS = 0.1


@dataclass(frozen=True, kw_only=True)
class Number:
    """A feature of one input column that may move.

    Attributes:
        name: the user's name for it.
        column: its input column.
        rate: what moving it by one input unit costs.
        step: it moves by whole multiples of this; 0 for any distance.
        low: smallest valid input.
        high: largest valid input.
        sense: 1 where it may only rise, -1 where it may only fall, 0 for both; of the input, not of the
            user's value.
    """

    name: str
    column: int
    rate: float
    step: float
    low: float
    high: float
    sense: int


@dataclass(frozen=True, kw_only=True)
class Group:
    """A categorical feature that may change: one of its input columns is 1 and the others are 0.

    Attributes:
        name: the user's name for it.
        columns: its input columns.
        price: what any change of category costs.
        zeros: whether all 0 is a category of its own that every row may take.
    """

    name: str
    columns: tuple[int, ...]
    price: float
    zeros: bool


@dataclass(frozen=True, kw_only=True)
class Constraints:
    """What may change in a row of [D] inputs, and what it costs. Costs of all changes add up.

    Attributes:
        width: number of input columns, D.
        numbers: numeric and ordinal features that may move.
        groups: categorical features that may change.
        weights: [R, D] factor of each column in each relation.
        least: [R] smallest sum, minus infinity for no bound.
        most: [R] largest sum.
        space: the same as columns, for the report and for the gradient phase.
    """

    width: int
    numbers: tuple[Number, ...]
    groups: tuple[Group, ...]
    weights: Doubles
    least: Doubles
    most: Doubles
    space: Space


def constraints(data: Dataset, protected: Sequence[str] = ()) -> Constraints:
    """What may change in this data's rows.

    A range is as stated, else as seen in the data. A feature whose values are all whole numbers moves by
    whole numbers unless a step is stated. A move by one standard deviation of the data and a change of
    category cost 1 unless a cost is stated.

    Args:
        data: the rows, tabular.
        protected: names of features that are held besides the immutable ones.

    Raises:
        NotApplicable: nothing may change.
    """
    told = features_of(data)
    why = {feature.name: _why_held(data, feature, protected) for feature in told}
    free = [feature for feature in told if not why[feature.name]]
    numbers = tuple(_number(data, f) for f in free if f.kind != "categorical")
    groups = tuple(_group(f) for f in free if f.kind == "categorical")
    if not free:
        raise NotApplicable(f"no feature may change. {' '.join(_held_sentences(why))}")
    weights, least, most = _relations(data)
    caveats = (_COST, *_held_sentences(why), *_in_force(data, free), *_assumed(data, free))
    return Constraints(
        width=data.inputs.shape[1],
        numbers=numbers,
        groups=groups,
        weights=weights,
        least=least,
        most=most,
        space=_space(data, numbers, groups, caveats),
    )


_COST = (
    "Epsilon counts the cost of all changes of a row together: a move by one standard deviation of a number "
    "and a change of category cost 1 each where [data.features] states no cost."
)


def features_of(data: Dataset) -> tuple[Feature, ...]:
    """The features as described; without a description each column is a numeric feature."""
    if data.features:
        return tuple(feature for feature in data.features if feature.columns)
    return tuple(Feature(name=f"column {i}", columns=(i,)) for i in range(data.inputs.shape[1]))


def whole_numbers(data: Dataset, feature: Feature) -> bool:
    """Whether every value of a feature of one column is a whole number of the user's units."""
    if feature.unit is None:
        return False
    cells = data.inputs[:, feature.columns[0]].astype(np.float64)
    values = feature.zero + feature.unit * cells
    slack = _ROUNDING * (abs(feature.zero) + np.abs(feature.unit * cells))
    if not len(values) or slack.max() > _LEAST_STEP_BITS:
        return False
    return bool((np.abs(values - np.round(values)) <= slack).all())


def user_step(data: Dataset, feature: Feature) -> float | None:
    """The step of a number in the user's units: stated, 1 for ordinals and whole numbers, else None."""
    if feature.step is not None:
        return feature.step
    if feature.unit is None:
        return None
    return 1.0 if feature.kind == "ordinal" or whole_numbers(data, feature) else None


def _why_held(data: Dataset, feature: Feature, protected: Sequence[str]) -> str:
    """Why a feature may not change; empty where it may."""
    block = data.inputs[:, list(feature.columns)]
    if feature.immutable:
        return "immutable"
    if feature.name in protected:
        return "protected"
    if feature.kind == "categorical":
        one_hot = bool(np.isin(block, (0, 1)).all() and (block.sum(axis=1) <= 1).all())
        return "" if one_hot else "not one-hot"
    if len(feature.columns) != 1:
        return "made into several inputs"
    if feature.kind == "ordinal" and feature.unit is None:
        return "of steps that its encoder does not keep"
    spread = float(block.std(dtype=np.float64))
    ends = (block.min(), block.max())
    low, high = (ends[i] if v is None else v for i, v in enumerate((feature.low, feature.high)))
    return "constant" if low == high or (spread == 0 and feature.cost is None) else ""


def _zeros_known(feature: Feature) -> bool:
    return bool(feature.dropped) or len(feature.columns) == 1


def _number(data: Dataset, feature: Feature) -> Number:
    column = feature.columns[0]
    cells = data.inputs[:, column]
    unit = 1.0 if feature.unit is None else feature.unit
    step = user_step(data, feature)
    sense = {None: 0, "increase": 1, "decrease": -1}[feature.direction]
    rate = 1 / float(cells.std(dtype=np.float64)) if feature.cost is None else feature.cost * abs(unit)
    return Number(
        name=feature.name,
        column=column,
        rate=rate,
        step=0.0 if step is None else step / abs(unit),
        low=float(np.float32(cells.min() if feature.low is None else feature.low)),
        high=float(np.float32(cells.max() if feature.high is None else feature.high)),
        sense=sense if unit > 0 else -sense,
    )


def _group(feature: Feature) -> Group:
    return Group(
        name=feature.name,
        columns=feature.columns,
        price=1.0 if feature.cost is None else feature.cost,
        zeros=_zeros_known(feature),
    )


def _relations(data: Dataset) -> tuple[Doubles, Doubles, Doubles]:
    by_name = {feature.name: feature for feature in features_of(data)}
    weights = np.zeros((len(data.relations), data.inputs.shape[1]))
    least = np.full(len(data.relations), -np.inf)
    most = np.full(len(data.relations), np.inf)
    for index, relation in enumerate(data.relations):
        shift = 0.0
        for name, factor in relation.terms:
            feature = by_name[name]
            weights[index, feature.columns[0]] += factor * (feature.unit or 1.0)
            shift += factor * feature.zero
        least[index] = least[index] if relation.low is None else relation.low - shift
        most[index] = most[index] if relation.high is None else relation.high - shift
    return weights, least, most


def _space(
    data: Dataset, numbers: Sequence[Number], groups: Sequence[Group], caveats: tuple[str, ...]
) -> Space:
    """Per column: how far one epsilon moves it, and its range."""
    unit: Floats = np.zeros(data.inputs.shape[1], np.float32)
    low, high = data.column_bounds()
    for item in numbers:
        unit[item.column] = 1 / item.rate
    for group in groups:
        unit[list(group.columns)] = 1 / group.price
    return Space(scale="std", unit=unit, low=low, high=high, epsilons=EPSILONS, caveats=caveats)


def _held_sentences(why: dict[str, str]) -> list[str]:
    reasons = dict.fromkeys(reason for reason in why.values() if reason)
    return [f"Held because {reason}: {_listed([n for n in why if why[n] == reason])}." for reason in reasons]


def _in_force(data: Dataset, free: Sequence[Feature]) -> list[str]:
    """What is stated of the features that may change."""
    stated = [
        *(f"{f.name} may only {f.direction}" for f in free if f.direction),
        *(f"{f.name} moves by whole steps of {f.step:g}" for f in free if f.step),
        *(f"{f.name} stays in its stated range" for f in free if f.low is not None),
        *(f"{f.name} costs {f.cost:g}" for f in free if f.cost),
        *(relation.text for relation in data.relations),
    ]
    return [f"Stated and kept: {_listed(stated)}."] if stated else []


def _assumed(data: Dataset, free: Sequence[Feature]) -> list[str]:
    """What nobody stated: steps and ranges that were read off the data, and categories."""
    numbers = [f for f in free if f.kind != "categorical"]
    steps = [f.name for f in numbers if f.step is None and user_step(data, f) is not None]
    ranges = [f.name for f in numbers if f.low is None or f.high is None]
    bare = [f.name for f in free if not (f.direction or f.step or f.cost or f.low is not None)]
    open_groups = [f.name for f in free if f.kind == "categorical" and not _zeros_known(f)]
    without = data.inputs[:, [c for f in free if f.name in open_groups for c in f.columns]]
    sentences = []
    if steps:
        sentences.append(f"Moved by whole numbers because they hold nothing else: {_listed(steps)}.")
    if ranges:
        sentences.append(
            f"Kept in the range that these rows show, for want of a stated one: {_listed(ranges)}."
        )
    if bare:
        sentences.append(
            f"Nothing is stated of {_listed(bare)}, so each may change in any way that its kind allows; a "
            "constraint that is missing makes the model look less robust than it is."
        )
    if without.size and any(_rows_without(data, f) for f in free if f.name in open_groups):
        sentences.append(
            "A row without a category keeps having none or takes a known one; no row loses its own."
        )
    return sentences


def _rows_without(data: Dataset, feature: Feature) -> int:
    block: npt.NDArray[np.float32] = data.inputs[:, list(feature.columns)]
    return int((block.sum(axis=1) == 0).sum())


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
