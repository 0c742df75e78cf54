"""reliability.conformal: sets of labels that hold the truth as often as promised, and for whom."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from audit.check import check
from audit.checks.reliability.shifted import Condition, Severities, clean, lost_caveats, spoilt
from audit.dataset import UNKNOWN, Dataset, Doubles, Ints
from audit.errors import NotApplicable, NotEvaluable
from audit.evidence import Cell, Evidence, Figure, Measure, Scalar, Table
from audit.reliability.answers import Answers
from audit.reliability.conformal import (
    aps_scores,
    coverage_range,
    halves,
    lac_scores,
    needed_rank,
    sets,
    threshold,
)
from audit.shift.outcome import groups
from audit.stats import mean, measure, proportion

if TYPE_CHECKING:
    from audit.model import Model
    from audit.products.predictions import Predictions

_METHODS = ("LAC", "APS")
_LEVEL = 0.95
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Tested:
    """The test half under one condition, with the sets of one method.

    Attributes:
        condition: the rows as they are, or corrupted.
        method: `LAC` or `APS`.
        held: [n] whether the set holds the true label.
        size: [n] labels in the set.
    """

    condition: Condition
    method: str
    held: Flags
    size: Ints

    @property
    def settings(self) -> dict[str, Scalar]:
        return {"method": self.method, **self.condition.settings}


@check(
    "reliability.conformal", needs={"logits"}, measures={"coverage", "coverage_difference", "mean_set_size"}
)
def conformal(
    model: Model,
    data: Dataset,
    predictions: Predictions,
    seed: int,
    *,
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.1,
    corruption: str = "",
    severities: Severities | None = None,
    floor: Annotated[int, Field(ge=2)] = 50,
) -> Evidence:
    """Label sets with a promised coverage: conformal prediction.

    In place of one label a model can give a set of labels that holds the true one with a stated probability,
    1 - `alpha`. Split conformal prediction keeps that promise for any model, on one condition: the rows it
    is used on must be like those it was calibrated on. This check deals the rows into two halves by the
    audit's seed, calibrates on one and tests on the other. It asks how large the sets must be, for whom the
    promise is kept, and what is left of it when the test half is spoilt (a corruption) and the calibration
    half is not.

    `coverage` is the share of test rows whose set holds the true label, for all, for each sensitive group and
    for each class; `mean_set_size` is the mean number of labels in a set. Two methods: LAC takes every label
    whose probability is above a threshold (smallest sets); APS takes labels in the order of their probability
    until enough is gathered (larger sets, more even coverage; the random form, whose coverage is exact).
    `coverage_difference` is the largest difference between two known groups of a feature, or between two
    classes, or the coverage under a corruption less that of the same rows as they are.

    The promise is for all rows together. It says nothing of one group or one class, which is why they are
    measured. The intervals cover the chance in the test half; the chance in the calibration half comes on
    top, and a caveat says between what the coverage lies in 95 of 100 calibration sets. The test halves with
    and without corruption hold the same rows, which makes that difference surer than its interval says. A
    mean of sets that all have one size has no interval.

    Settings: `alpha`, `corruption` (a name; noise unless given), `severities` (1 and 5 unless given),
    `floor` (rows of a group or class below which it is shown and not judged).

    Sources: Vovk and others, 2005; Sadinle, Lei and Wasserman, 2019 (LAC); Romano, Sesia and Candes, 2020
    (APS); Angelopoulos and Bates, 2021, arXiv:2107.07511. Intervals: Wilson, 1927; Newcombe, 1998.
    """
    whole = clean(data, predictions)
    if not len(whole.answers):
        raise NotEvaluable(f"none of the {len(data)} rows has scores that are finite numbers")
    first, second = halves(len(whole.answers), seed)
    if needed_rank(len(first), alpha) > len(first):
        raise NotEvaluable(
            f"{len(first)} rows to calibrate on are too few for alpha = {alpha:g}: every set would hold all "
            "labels"
        )
    calibrated, tested = (_part(whole.answers, half) for half in (first, second))
    conditions, caveats = _conditions(model, data, seed, corruption, severities or [1, 5], tested)
    found = [
        item for method in _METHODS for item in _test(method, calibrated, conditions, alpha, seed, len(data))
    ]
    measures = [item for one in found for item in _measures(data, one, floor)]
    measures += [item for method in _METHODS for item in _shifts([f for f in found if f.method == method])]
    return Evidence(
        measures=measures,
        tables=(_table(found, alpha),),
        figures=(_figure(found, alpha),),
        caveats=[_calibration_caveat(len(first), len(second), alpha), *caveats, *lost_caveats(conditions)],
    )


def _part(whole: Answers, half: Ints) -> Answers:
    members = np.zeros(len(whole), dtype=np.bool_)
    members[half] = True
    return whole.of(members)


def _conditions(
    model: Model, data: Dataset, seed: int, corruption: str, severities: Sequence[int], tested: Answers
) -> tuple[list[Condition], list[str]]:
    """The test half as it is, and spoilt where there is a corruption that fits."""
    as_is = Condition({}, tested)
    try:
        return [as_is, *spoilt(model, data, seed, corruption, severities, tested.rows)], []
    except NotApplicable as error:
        if corruption:
            raise
        return [as_is], [f"Not measured under corruption: {error}."]


def _test(
    method: str, calibrated: Answers, conditions: Sequence[Condition], alpha: float, seed: int, total: int
) -> Iterator[_Tested]:
    # one draw for each row of the data, so that a row has the same under every corruption
    uniform = np.random.default_rng([seed, 2]).random(total)
    own = _scores(method, calibrated, uniform)
    at = threshold(own[np.arange(len(calibrated)), calibrated.labels], alpha)
    for one in conditions:
        chosen = sets(_scores(method, one.answers, uniform), at)
        held = chosen[np.arange(len(one.answers)), one.answers.labels]
        yield _Tested(one, method, held, chosen.sum(axis=1))


def _scores(method: str, rows: Answers, uniform: Doubles) -> Doubles:
    shares = np.exp(rows.log_probabilities)
    return lac_scores(shares) if method == "LAC" else aps_scores(shares, uniform[rows.rows])


def _measures(data: Dataset, one: _Tested, floor: int) -> Iterator[Measure]:
    rows, labels = one.condition.answers.rows, one.condition.answers.labels
    for who, members in groups(data, rows):
        yield from _numbers(one, who, members, floor if who else 0)
    names = [
        *data.classes,
        *(f"output {c}" for c in range(len(data.classes), int(labels.max(initial=0)) + 1)),
    ]
    for index, name in enumerate(names):
        yield from _numbers(one, {"class": name}, labels == index, floor)
    for name, feature in data.sensitive.items():
        codes = feature.codes[rows]
        kept = [codes == c for c, group in enumerate(feature.groups) if group != UNKNOWN]
        yield _difference(one, name, kept, floor)
    yield _difference(one, "class", [labels == c for c in range(len(names))], floor)


def _numbers(one: _Tested, who: Mapping[str, str], members: Flags, floor: int) -> Iterator[Measure]:
    n = int(members.sum())
    few = f"{n} test rows, fewer than the floor of {floor}" if n < floor else ""
    fields: dict[str, Any] = {"group": who, "settings": one.settings, "too_few": few}
    yield proportion("coverage", int(one.held[members].sum()), n, better="higher", **fields)
    fields |= {"unit": "labels", "better": "lower"}
    sizes = one.size[members].tolist()
    if n and min(sizes) == max(sizes):
        # a standard deviation of 0 would pass for certainty
        yield Measure(name="mean_set_size", value=float(sizes[0]), n=n, **fields)
    else:
        yield mean("mean_set_size", sizes, reason="0 test rows", **fields)


def _difference(one: _Tested, feature: str, parts: Sequence[Flags], floor: int) -> Measure:
    kept = [part for part in parts if part.sum() >= floor]
    counts = {"x": [int(one.held[p].sum()) for p in kept], "n": [int(p.sum()) for p in kept]}
    reason = f"{len(kept)} of {len(parts)} groups have {floor} test rows, and a difference takes two"
    return measure(
        "coverage_difference",
        "largest_difference",
        counts,
        n=sum(counts["n"]),
        settings={**one.settings, "feature": feature},
        unit="difference",
        better="zero",
        reason=reason,
    )


def _shifts(found: Sequence[_Tested]) -> Iterator[Measure]:
    """Coverage under each corruption less that of the rows as they are."""
    as_is = found[0]
    for one in found[1:]:
        x1, n1, x0, n0 = int(one.held.sum()), len(one.held), int(as_is.held.sum()), len(as_is.held)
        yield measure(
            "coverage_difference",
            "newcombe",
            {"x1": x1, "n1": n1, "x0": x0, "n0": n0},
            n=n1,
            settings=one.settings,
            unit="difference",
            better="zero",
        )


def _table(found: Sequence[_Tested], alpha: float) -> Table:
    rows: list[list[Cell]] = []
    for one in found:
        n, x, empty = len(one.held), int(one.held.sum()), int((one.size == 0).sum())
        single = int((one.size == 1).sum())
        rows.append([one.method, one.condition.name, n, x, x / n if n else None, empty, single])
    return Table(
        name="sets",
        title=f"Sets that hold the true label, promised {1 - alpha:g}",
        columns=("method", "test rows", "rows", "held", "coverage", "empty sets", "sets of one label"),
        rows=rows,
    )


def _figure(found: Sequence[_Tested], alpha: float) -> Figure:
    items = [proportion("coverage", int(one.held.sum()), len(one.held)) for one in found]
    pairs = [(one, item) for one, item in zip(found, items, strict=True) if item.value is not None]
    short = [(one, item) for one, item in pairs if item.high is not None and item.high < 1 - alpha]
    told = "; ".join(f"{one.method}, {one.condition.name}: {item.value:.3f}" for one, item in short)
    title = (
        f"The promised coverage of {1 - alpha:g} is missed ({told})"
        if short
        else f"No shortfall from the promised coverage of {1 - alpha:g} is shown"
    )
    return Figure(
        name="coverage",
        title=title,
        kind="bars",
        alt=f"{title}. Coverage by method and condition, with 95 % intervals.",
        data={
            "labels": [f"{one.method}, {one.condition.name} (n = {item.n})" for one, item in pairs],
            "values": [item.value for _, item in pairs],
            "low": [item.low for _, item in pairs],
            "high": [item.high for _, item in pairs],
        },
    )


def _calibration_caveat(first: int, second: int, alpha: float) -> str:
    low, high = coverage_range(first, alpha, _LEVEL)
    k = needed_rank(first, alpha)
    return (
        f"{first} rows calibrate and {second} test. Over calibration sets of {first} rows, coverage is "
        f"Beta({k}, {first + 1 - k}) distributed where nothing shifts: between {low:.3f} and {high:.3f} in "
        f"95 of 100 of them, not {1 - alpha:g} in each."
    )
