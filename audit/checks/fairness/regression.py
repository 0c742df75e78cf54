"""How far predicted values are off, by group."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from audit.check import check
from audit.errors import NotApplicable, NotEvaluable
from audit.evidence import Evidence, Measure, Table
from audit.groups import count_table, groupings
from audit.stats import measure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from audit.dataset import Dataset, Doubles, Ints
    from audit.evidence import Better, Cell
    from audit.groups import Grouping
    from audit.model import Model

    Statistics = Mapping[str, float]

# name: interval method, the better direction, and what is averaged of the signed errors
AVERAGES: dict[str, tuple[str, Better, Callable[[Doubles], Doubles]]] = {
    "mean_error": ("student_t", "zero", np.positive),
    "mean_absolute_error": ("student_t", "lower", np.abs),
    "root_mean_squared_error": ("root_student_t", "lower", np.square),
}
_COMPARED = ("mean_error", "mean_absolute_error")
_NO_SPREAD = 1e-12


@check(
    "fairness.regression",
    version="2",
    tasks={"regression"},
    measures={*AVERAGES, *(f"{name}_difference" for name in _COMPARED)},
)
def regression(
    model: Model,
    data: Dataset,
    *,
    depth: Annotated[int, Field(ge=1)] = 2,
    floor: Annotated[int, Field(ge=1)] = 10,
    bins: Annotated[int, Field(ge=2)] = 10,
) -> Evidence:
    """Errors of predicted values by group.

    Answers whether a model that predicts a number (a price, a dose, a risk in money) is further off, or off
    in another direction, for some groups of people than for others. An error is the prediction minus the
    true value, in the unit of the target: above 0 the model predicts too much, below 0 too little.

    For each group of each sensitive feature, and for intersections of up to `depth` features,
    `mean_error` says in which direction and how far the group is off on average, `mean_absolute_error` how
    far a person is off whatever the direction, and `root_mean_squared_error` the same with large errors
    weighing more. Intervals are Student's t (1908); that of the root mean squared error is the interval of
    the mean squared error, square-rooted. They rest on averages of many rows being nearly normal, so they
    are too narrow for small groups with a few very large errors.

    `mean_error_difference` and `mean_absolute_error_difference` compare each group with the largest one,
    with Welch's interval (1947), which does not take both groups to be equally spread. The average
    loss of each group is what bounded group loss speaks of (Agarwal, Dudik and Wu, 2019). A table counts the
    errors of each group over `bins` bins that hold about equally many of all rows.

    People whose group is not known form a group called `unknown`: it is counted and shown, and never
    compared. A group below the floor of rows is shown, not compared and not judged. Neither is one whose
    rows all have the same error: how much the errors of others would differ is not known.

    A difference does not say why the model is off, nor whether a prediction above the true value is good or
    bad for the person. True values that were themselves recorded with a bias hide a bias of the model.
    """
    if not data.sensitive:
        raise NotApplicable("the data names no sensitive feature; list them under [data] sensitive")
    errors = prediction_errors(model, data)
    edges = _edges(errors, bins)
    places = np.searchsorted(edges, errors, side="right").astype(np.int64)
    found = list(groupings(data, depth))
    return Evidence(
        measures=[item for grouping in found for item in _measures(grouping, errors, floor)],
        tables=[_table(grouping, places, edges) for grouping in found],
        caveats=[text for grouping in found for text in _unknown(grouping)],
    )


def prediction_errors(model: Model, data: Dataset) -> Doubles:
    """[N] prediction minus target, in the unit of the target.

    Raises:
        NotApplicable: the data hold no true values as numbers.
        NotEvaluable: no rows, not one prediction each, or predictions that are not finite.
    """
    if data.targets is None:
        raise NotApplicable("the data hold no true values as numbers; read them for the task regression")
    if not len(data):
        raise NotEvaluable("the data hold 0 rows")
    answers = model.predict(data.inputs).double().numpy()
    if answers.size != len(data):
        raise NotEvaluable(
            f"the model answers {len(data)} rows with {list(answers.shape)}; it must be one each"
        )
    errors: Doubles = answers.reshape(-1) - data.targets
    undefined = int((~np.isfinite(errors)).sum())
    if undefined:
        raise NotEvaluable(f"the predictions for {undefined} of {len(data)} rows are not finite numbers")
    return errors


def _measures(item: Grouping, errors: Doubles, floor: int) -> Iterator[Measure]:
    """The averages of every group that occurs, then the comparisons of those that are known."""
    found = {name: moments(of(errors), item.codes, len(item.groups)) for name, (_, _, of) in AVERAGES.items()}
    for group, members in enumerate(item.groups):
        for name, (method, better, _) in AVERAGES.items():
            own = found[name][group]
            if own["n"]:
                few = too_few(own, floor)
                yield measure(
                    name, method, own, n=int(own["n"]), group=members, unit="", better=better, too_few=few
                )
    for name in _COMPARED:
        yield from _comparisons(item, name, found[name], floor)


def too_few(own: Statistics, floor: int) -> str:
    """Why nothing may be judged on an average: too few rows, or no spread for an interval; or empty."""
    if own["n"] < floor:
        return f"{own['n']} rows are fewer than the floor of {floor}: shown and not judged"
    if own["sd"] <= _NO_SPREAD * max(1.0, abs(own["mean"])):
        return f"all {own['n']} rows have the same error, so their spread is not known: shown and not judged"
    return ""


def moments(values: Doubles, codes: Ints, groups: int) -> list[Statistics]:
    """n, mean and standard deviation (n - 1) of the values of each group, from two passes of sums."""
    n = np.bincount(codes, minlength=groups)
    means = np.bincount(codes, weights=values, minlength=groups) / np.maximum(n, 1)
    # squares of the distances from the mean: sums of plain squares lose all digits where the mean is large
    squares = np.bincount(codes, weights=(values - means[codes]) ** 2, minlength=groups)
    spreads = np.sqrt(squares / np.maximum(n - 1, 1))
    return [{"n": int(n[g]), "mean": float(means[g]), "sd": float(spreads[g])} for g in range(groups)]


def _comparisons(item: Grouping, name: str, found: list[Statistics], floor: int) -> Iterator[Measure]:
    """Each known group against the largest; undefined, with the reason, where it may not be compared."""
    known = [g for g, told in enumerate(item.known) if told and found[g]["n"]]
    compared = [g for g in known if found[g]["n"] >= floor]
    base = max(compared, key=lambda g: found[g]["n"], default=None)
    for g in known:
        own = found[g]
        if g not in compared:
            yield _not_compared(item, name, g, own, f"{own['n']} rows are fewer than the floor of {floor}")
        elif len(compared) == 1:
            yield _not_compared(item, name, g, own, "there is no second group to compare with")
        elif base is not None and g != base:
            other = found[base]
            yield measure(
                f"{name}_difference",
                "welch",
                {**{f"{k}1": v for k, v in own.items()}, **{f"{k}0": v for k, v in other.items()}},
                n=int(own["n"] + other["n"]),
                group=item.groups[g],
                settings={"reference": ", ".join(item.groups[base].values())},
                unit="",
                better="zero",
                too_few=too_few(own, floor) or too_few(other, floor),
            )


def _not_compared(item: Grouping, name: str, group: int, own: Statistics, reason: str) -> Measure:
    return Measure(
        name=f"{name}_difference",
        value=None,
        reason=reason,
        n=int(own["n"]),
        group=item.groups[group],
        unit="",
        better="zero",
    )


def _edges(errors: Doubles, bins: int) -> Doubles:
    """Inner edges of bins with about equally many rows, rounded as the table prints them."""
    quantiles = np.quantile(errors, np.arange(1, bins) / bins)
    return np.unique([float(f"{value:.4g}") for value in quantiles]) + 0.0


def _table(item: Grouping, places: Ints, edges: Doubles) -> Table:
    counts = count_table((item.codes, places), (len(item.groups), len(edges) + 1))
    rows: list[list[Cell]] = [
        [*members.values(), *counts[g].tolist()] for g, members in enumerate(item.groups) if counts[g].any()
    ]
    shown = [f"{edge:.4g}" for edge in edges]
    between = [f"{low} to under {high}" for low, high in pairwise(shown)]
    return Table(
        name=f"errors: {item.name}",
        title=f"Rows by {item.name} and error (prediction minus true value)",
        columns=[*item.features, f"under {shown[0]}", *between, f"{shown[-1]} and over"],
        rows=rows,
        note="The edges are quantiles of the errors of all rows together.",
    )


def _unknown(item: Grouping) -> Iterator[str]:
    unknown = int((~np.array(item.known))[item.codes].sum())
    if unknown:
        yield (
            f"By {item.name}, {unknown} of {len(item.codes)} rows have no known group; "
            "they are counted and shown, not compared."
        )
