"""Where the model is wrong most, and selects least, among all parts of the data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from audit.check import check
from audit.errors import NotApplicable, NotEvaluable, nearest
from audit.evidence import Cell, Evidence, Figure, Measure, Table
from audit.stats import measure, proportion

if TYPE_CHECKING:
    from audit.dataset import Dataset, Feature
    from audit.products.predictions import Predictions
    from audit.slices import Axis, Search, Slice, Space


@dataclass(frozen=True)
class _Scan:
    """One search: what was searched for, and what was found.

    `counted` is the rate that is reported, `sought` what the search looks for much of: for selection
    these are opposites, since the worst slice is the one selected least. `family` is the number of
    comparisons made by all searches of the check.
    """

    rate: str
    counted: str
    sought: str
    search: Search
    family: int

    @property
    def opposite(self) -> bool:
        return self.counted != self.sought


@check(
    "fairness.slices",
    version="2",
    measures={"error_rate_difference", "selection_rate_difference", "shuffles_as_bad"},
)
def slices(
    data: Dataset,
    predictions: Predictions,
    seed: int,
    *,
    features: tuple[str, ...] = (),
    depth: Literal[1, 2] = 2,
    bins: Annotated[int, Field(ge=2, le=50)] = 8,
    floor: Annotated[int, Field(ge=2)] = 30,
    shown: Annotated[int, Field(ge=1, le=100)] = 10,
    shuffles: Annotated[int, Field(ge=19)] = 99,
) -> Evidence:
    """Worst slices: parts of the data where the model does worst.

    Cuts every feature into parts, not only the sensitive ones, and looks at every part and at every
    combination of two parts of different features: is the model wrong there more often than for all other
    rows (`error_rate_difference`)? Where an outcome is named as favourable, also: is it given there less
    often (`selection_rate_difference`)? Numbers are cut at quantiles, categories are taken as they are. The
    worst slices are shown, each only if it still stands out when the rows of those above it are left aside.

    Whoever looks at thousands of slices finds some that look bad by chance. So the intervals hold for all
    slices that were searched, together, and not only for those shown; the number searched is printed. A
    slice stands out when its interval leaves out 0. `shuffles_as_bad` repeats the search with errors (or
    decisions) dealt out to the rows at random, and says how often some slice then looked at least as bad.

    A model that uses a feature selects differently along it: a slice selected less is a fact to explain and
    not by itself a fault. A slice that is not shown has not been shown to be good: parts below the floor of
    rows, combinations of three features and features that the data does not hold are not searched. A limit
    on these differences speaks of the slices shown. A row for which the model gives no finite score counts
    as wrong and as not selected, and how many there are is said.

    Settings: `features` searched (all), `depth` (most features of a slice), `bins` for a number, `floor`
    (fewest rows of a slice), `shown` slices, `shuffles`.

    Intervals: Newcombe's hybrid method (1998) over exact limits, with a Bonferroni correction for the
    slices searched. The shuffles are the maximum statistic of Westfall and Young (1993). On the search:
    Chung and others, Slice Finder, 2019.
    """
    from audit.slices import MOST_TERMS, Space

    axes = feature_axes(data, features, bins)
    terms = sum(len(axis.terms) for axis in axes)
    space = Space(axes, depth if terms <= MOST_TERMS else 1, floor)
    if not space.family.any():
        raise NotEvaluable(f"no slice of the {len(data)} rows has {floor} rows and leaves {floor} others")
    scans = _scans(data, predictions, space, shown=shown, shuffles=shuffles, seed=seed)
    found = [scan for scan in scans if scan.search.slices]
    if not found:
        raise NotEvaluable("no slice is worse than the rest: the outcomes and decisions hardly vary")
    return Evidence(
        measures=[item for scan in found for item in (*_measures(scan), _chance(scan))],
        tables=[_table(scan) for scan in found],
        figures=[_figure(scan) for scan in found],
        caveats=[*_undecided(predictions, scans), *_caveats(data, space, depth, scans)],
    )


def feature_axes(data: Dataset, wanted: tuple[str, ...], bins: int) -> tuple[Axis, ...]:
    """Every feature of the input, and every sensitive or control feature that is not one of them."""
    from audit.slices import category_axis

    axes = {item.name: _axis(data, item, bins) for item in data.features}
    for name, item in {**data.sensitive, **data.controls}.items():
        axes.setdefault(name, category_axis(name, item.groups, item.codes))
    if not axes:
        raise NotApplicable("the data describes no feature and names no sensitive one to cut it by")
    unknown = [name for name in wanted if name not in axes]
    if unknown:
        raise NotApplicable(f"there is no feature '{unknown[0]}'{nearest(unknown[0], axes)}")
    return tuple(axes[name] for name in wanted or axes)


def _axis(data: Dataset, feature: Feature, bins: int) -> Axis:
    import numpy as np

    from audit.slices import category_axis, numeric_axis

    block = data.inputs.reshape(len(data), -1)[:, list(feature.columns)]
    if feature.kind != "categorical":
        return numeric_axis(feature.name, block[:, 0], bins)
    codes = np.where(block.max(axis=1) > 0, block.argmax(axis=1), len(feature.columns))
    return category_axis(feature.name, (*feature.categories, "another value"), codes)


def _scans(
    data: Dataset, predictions: Predictions, space: Space, *, shown: int, shuffles: int, seed: int
) -> list[_Scan]:
    import numpy as np

    from audit.slices import search

    sought = []
    # without outcomes and without a favourable class `correct` says for itself what is missing
    if data.labelled or data.favourable is None:
        sought.append(("error rate", "wrong", "wrong", ~np.asarray(predictions.correct)))
    if data.favourable is not None:
        # the largest of scores that are not numbers is no decision, whichever class it falls on
        refused = (np.asarray(predictions.predicted) != data.favourable) | ~np.asarray(predictions.finite)
        sought.append(("selection rate", "selected", "not selected", refused))
    family = int(space.family.sum()) * len(sought)
    return [
        _Scan(rate, counted, word, search(space, outcome, shown=shown, shuffles=shuffles, seed=seed), family)
        for rate, counted, word, outcome in sought
    ]


def _counts(scan: _Scan, item: Slice) -> dict[str, int]:
    """The counts of what is reported, slice (1) and rest (0), and the size of the family."""
    x1, x0 = (item.n - item.x, item.n0 - item.x0) if scan.opposite else (item.x, item.x0)
    return {"x1": x1, "n1": item.n, "x0": x0, "n0": item.n0, "searched": scan.family}


def _measures(scan: _Scan) -> list[Measure]:
    return [
        measure(
            f"{scan.rate.replace(' ', '_')}_difference",
            "difference_of_many",
            _counts(scan, item),
            n=item.n,
            group=item.terms,
            unit="difference",
            better="zero" if scan.opposite else "lower",
        )
        for item in scan.search.slices
    ]


def _chance(scan: _Scan) -> Measure:
    search = scan.search
    return proportion("shuffles_as_bad", search.as_bad, search.shuffles, settings={"rate": scan.rate})


def _stands_out(scan: _Scan, item: Measure) -> bool:
    """Whether the interval leaves out 0 on the side that was sought."""
    if item.low is None or item.high is None:
        return False
    return item.high < 0 if scan.opposite else item.low > 0


def _name(item: Measure) -> str:
    return " and ".join(f"{feature}: {term}" for feature, term in item.group.items())


def _table(scan: _Scan) -> Table:
    rows: list[list[Cell]] = []
    for item in _measures(scan):
        x1, n1, x0, n0 = (int(item.statistics[key]) for key in ("x1", "n1", "x0", "n0"))
        answer = "yes" if _stands_out(scan, item) else "no"
        rows.append([_name(item), n1, x1, x1 / n1, n0, x0, x0 / n0, item.value, item.low, item.high, answer])
    columns = ["slice", "rows", scan.counted, scan.rate, "rows of the rest", f"{scan.counted} in the rest"]
    columns += [f"{scan.rate} of the rest", "difference", "low", "high", "stands out"]
    return Table(
        name=f"slices: {scan.rate}",
        title=f"The slices that are worst by {scan.rate}, the worst first",
        columns=columns,
        rows=rows,
        note=f"The 95 % intervals hold for all {scan.family:,} comparisons of the search at once.",
    )


def _figure(scan: _Scan) -> Figure:
    measures = _measures(scan)
    title = _title(scan, measures)
    return Figure(
        name=f"worst slices by {scan.rate}",
        title=title,
        kind="bars",
        alt=f"{title}. Differences to the rest, with intervals that hold for all slices searched.",
        data={
            "labels": [f"{_name(item)} (n = {item.n})" for item in measures],
            "values": [item.value for item in measures],
            "low": [item.low for item in measures],
            "high": [item.high for item in measures],
        },
    )


def _title(scan: _Scan, measures: list[Measure]) -> str:
    worst, first = measures[0], scan.search.slices[0]
    if not any(_stands_out(scan, item) for item in measures):
        return f"By {scan.rate}, none of the slices shown stands out among {scan.search.searched:,} searched"
    counts = _counts(scan, first)
    inside, outside = counts["x1"] / first.n, counts["x0"] / first.n0
    return (
        f"The {scan.rate} stands out most where {_name(worst)}: {inside:.3f} against {outside:.3f} elsewhere"
    )


def _undecided(predictions: Predictions, scans: list[_Scan]) -> Iterator[str]:
    lost = int((~predictions.finite).sum())
    if lost:
        counted = " and as ".join(scan.sought for scan in scans)
        yield (
            f"{lost} of {len(predictions.finite)} rows got a score that is not a finite number; they count "
            f"as {counted}."
        )


def _caveats(data: Dataset, space: Space, depth: int, scans: list[_Scan]) -> list[str]:
    searched = int(space.family.sum())
    family = f"{searched:,} slices of {len(space.axes)} features with at least {space.floor} rows"
    rates = " and ".join(scan.rate for scan in scans)
    widened = f"the intervals are widened for all {scans[0].family:,} comparisons"
    caveats = [f"{family} were searched by {rates}; {widened}."]
    for scan in scans:
        search = scan.search
        if not search.slices:
            caveats.append(f"By {scan.rate}, no slice is worse than the rest: the outcome hardly varies.")
            continue
        caveats.append(
            f"By {scan.rate}, some slice looked at least as bad as the worst one in {search.as_bad} of "
            f"{search.shuffles} random shuffles."
        )
    if space.depth < depth:
        caveats.append(
            "Only single features were searched: there are too many parts to combine. Fewer `features` or "
            "`bins` make combinations possible."
        )
    if data.source.get("encoder"):
        caveats.append("Edges of numbers are in the units of the model's input, after the encoder.")
    return caveats
