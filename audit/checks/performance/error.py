"""performance.error: how far predicted numbers are off."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from audit.check import check
from audit.checks.fairness.regression import AVERAGES, moments, prediction_errors, too_few
from audit.evidence import Evidence, Figure, Table
from audit.stats import measure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt

    from audit.dataset import Dataset, Doubles
    from audit.evidence import Measure
    from audit.model import Model

    Mask = npt.NDArray[np.bool_]

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_BARS_SHOWN = 40


@check("performance.error", tasks={"regression"}, measures={*AVERAGES, "r_squared"})
def error(model: Model, data: Dataset, *, floor: Annotated[int, Field(ge=1)] = 10) -> Evidence:
    """How far predicted numbers are off.

    For a model that predicts a number (a price, a dose, a risk in money). An error is the prediction minus
    the true value, in the unit of the true values. `mean_absolute_error` is how far a row is off on average,
    whatever the direction; `root_mean_squared_error` the same with large errors weighing more; `mean_error`
    says whether the model predicts too much (above 0) or too little (below 0). `r_squared` compares the model
    with one that gives everybody the mean of the true values: 1 is no error at all, 0 is no better than that
    mean, and below 0 is worse. All are given for the whole and for each group of each sensitive feature.

    It answers: how good is the model on rows like these? It does not say whether these rows are like those
    the model will meet, how large an error may be in use, or whether groups are treated fairly: a group can
    be further off because its true values vary more, which its `r_squared` takes into account and the other
    numbers do not (see the fairness checks for comparisons). A group below `floor` rows is shown and not
    judged, and so is one whose rows are all off by the same.

    Intervals cover the chance in drawing these rows, nothing else. They rest on averages of many rows being
    nearly normal, so they are too narrow where a few rows have very large errors. Sources: Student, 1908
    (means; that of the root is the interval of the mean squared error, square-rooted); Cramer, 1946 (the
    delta method, on the logarithm of the two variances that make `r_squared`).
    """
    errors = prediction_errors(model, data)
    truth = np.asarray(data.targets, dtype=np.float64)
    everyone = np.ones(len(data), dtype=bool)
    found = [list(_numbers(errors, truth, everyone, {}, floor))]
    for name, feature in data.sensitive.items():
        for code, group in enumerate(feature.groups):
            members = feature.codes == code
            if members.any():
                found.append(list(_numbers(errors, truth, members, {name: group}, floor)))
    return Evidence(
        measures=[item for items in found for item in items],
        tables=[_table(errors)],
        figures=list(_figures(data, [item for items in found[1:] for item in items])),
        caveats=_caveats(truth),
    )


def _numbers(
    errors: Doubles, truth: Doubles, members: Mask, group: Mapping[str, str], floor: int
) -> Iterator[Measure]:
    own, targets = errors[members], truth[members]
    rows = len(own)
    for name, (method, better, of) in AVERAGES.items():
        (kept,) = moments(of(own), np.zeros(rows, dtype=np.int64), 1)
        few = too_few(kept, floor)
        yield measure(name, method, kept, n=rows, group=group, unit="", better=better, too_few=few)
    yield measure(
        "r_squared",
        "r_squared",
        _explained(own, targets),
        n=rows,
        group=group,
        unit="",
        better="higher",
        reason=f"the true values of all {rows} rows are the same, so there is nothing to explain",
        too_few=f"{rows} rows are fewer than the floor of {floor}: shown and not judged" * (rows < floor),
    )


def _explained(errors: Doubles, truth: Doubles) -> dict[str, float]:
    """What `r_squared` is derived from: means, deviations and covariance of two squares of each row."""
    squares = errors**2, (truth - truth.mean()) ** 2
    means = [math.fsum(values) / len(truth) for values in squares]
    off, away = (values - middle for values, middle in zip(squares, means, strict=True))
    free = max(len(truth) - 1, 1)
    return {
        "n": len(truth),
        "error": means[0],
        "spread": means[1],
        "error_sd": math.sqrt(float(off @ off) / free),
        "spread_sd": math.sqrt(float(away @ away) / free),
        "covariance": float(off @ away) / free,
    }


def _table(errors: Doubles) -> Table:
    shares = np.quantile(errors, _QUANTILES).tolist()
    return Table(
        name="errors",
        title="Errors of all rows (prediction minus true value)",
        columns=("rows", "too low", "exact", "too high", *(f"{q:.0%} are at most" for q in _QUANTILES)),
        rows=[(len(errors), int((errors < 0).sum()), int((errors == 0).sum()), int((errors > 0).sum()),
               *(float(f"{value:.4g}") for value in shares))],
        note="The last columns are quantiles of the error, rounded to four digits.",
    )  # fmt: skip


def _figures(data: Dataset, items: Sequence[Measure]) -> Iterator[Figure]:
    for name in data.sensitive:
        named = [item for item in items if item.name == "mean_absolute_error" and name in item.group]
        ranked = sorted(named, key=lambda item: item.value or 0.0)
        if ranked:
            yield _bars(name, ranked)


def _bars(name: str, ranked: Sequence[Measure]) -> Figure:
    """Mean absolute errors with intervals, the largest where there are too many to show."""
    shown = ranked[-_BARS_SHOWN:]
    low, high = ranked[0], ranked[-1]
    span = f"from {low.value:.4g} ({low.group[name]}) to {high.value:.4g} ({high.group[name]})"
    return Figure(
        name=f"error_by_{name}",
        title=f"Mean absolute error by {name}: {span}",
        kind="bars",
        alt=f"Mean absolute error by {name}, {span}; {len(shown)} of {len(ranked)} are drawn.",
        data={
            "labels": [f"{item.group[name]} (n = {item.n})" for item in shown],
            "values": [item.value for item in shown],
            "low": [item.low for item in shown],
            "high": [item.high for item in shown],
        },
    )


def _caveats(truth: Doubles) -> list[str]:
    said = (
        f"The true values of these {len(truth)} rows run from {truth.min():.4g} to {truth.max():.4g}, with "
        f"a mean of {truth.mean():.4g}: an error is large or small beside those."
    )
    return [said]
