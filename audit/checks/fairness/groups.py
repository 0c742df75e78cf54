"""Who is selected, and who is judged wrongly, by group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from audit.check import check
from audit.errors import NotApplicable
from audit.evidence import Cell, Evidence, Figure, Measure, Table
from audit.stats import measure, proportion

if TYPE_CHECKING:
    from audit.dataset import Dataset, Ints
    from audit.groups import Grouping
    from audit.products.predictions import Predictions


@dataclass(frozen=True)
class _Counted:
    """One grouping and its [G, 2, 2] table: actually favourable x selected."""

    grouping: Grouping
    table: Ints
    floor: int

    def size(self, group: int) -> int:
        return int(self.table[group].sum())

    def compared(self) -> list[int]:
        """Groups that may be compared: known, and with at least `floor` rows."""
        known = self.grouping.known
        return [g for g in range(len(known)) if known[g] and self.size(g) >= self.floor]


# name: (numerator, denominator), each as (actual, selected) cells of the 2 x 2 table of a group
_RATES: dict[str, tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]] = {
    "selection_rate": (((0, 1), (1, 1)), ((0, 0), (0, 1), (1, 0), (1, 1))),
    "base_rate": (((1, 0), (1, 1)), ((0, 0), (0, 1), (1, 0), (1, 1))),
    "accuracy": (((0, 0), (1, 1)), ((0, 0), (0, 1), (1, 0), (1, 1))),
    "true_positive_rate": (((1, 1),), ((1, 0), (1, 1))),
    "false_positive_rate": (((0, 1),), ((0, 0), (0, 1))),
    "false_negative_rate": (((1, 0),), ((1, 0), (1, 1))),
    "positive_predictive_value": (((1, 1),), ((0, 1), (1, 1))),
}


@check("fairness.groups")
def groups(
    data: Dataset,
    predictions: Predictions,
    *,
    depth: int = 2,
    reference: Literal["best", "largest"] = "best",
    floor: int = 10,
) -> Evidence:
    """Decisions and errors by group.

    Compares how often each group receives the favourable outcome (`selection_rate`), and how often the
    model is right or wrong about people of each group: `true_positive_rate` among those who deserved the
    favourable outcome, `false_positive_rate` among those who did not. Intersections (sex and race
    together) are counted as groups of their own.

    `selection_rate_ratio` divides a group's selection rate by that of the reference group: the impact
    ratio of the four-fifths rule (29 CFR 1607.4(D)) and of New York City Local Law 144.
    `demographic_parity_difference` is the largest difference of selection rates between any two groups,
    `equal_opportunity_difference` the largest difference of true positive rates, and
    `equalized_odds_difference` the larger of that and the same for false positive rates
    (Hardt, Price and Srebro, 2016).

    People whose group is not known form a group called `unknown`: it is counted and shown, and never
    compared. A group below the floor of rows is shown and not compared either. A rate without a
    denominator is undefined; it is not zero. A difference between groups does not by itself show unlawful
    discrimination, and equal rates do not show its absence.
    """
    from audit.groups import groupings

    if not data.sensitive:
        raise NotApplicable("the data names no sensitive feature; list them under [data] sensitive")
    if data.favourable is None:
        raise NotApplicable("no outcome is named as favourable; set [data] favourable to one of the classes")
    counted = [_count(data, predictions, item, floor) for item in groupings(data, depth)]
    measures: list[Measure] = []
    for item in counted:
        measures += [*_rates(item), *_ratios(item, reference), *_differences(item)]
    return Evidence(
        measures=tuple(measures),
        tables=tuple(_table(item) for item in counted),
        figures=tuple(_figure(item) for item in counted if "," not in item.grouping.name),
        caveats=_caveats(data, counted),
    )


def _count(data: Dataset, predictions: Predictions, grouping: Grouping, floor: int) -> _Counted:
    import numpy as np

    from audit.groups import count_cells

    actual = (data.labels == data.favourable).astype(np.int64)
    selected = (np.asarray(predictions.predicted) == data.favourable).astype(np.int64)
    table = count_cells(grouping.codes, actual, selected, len(grouping.groups), 2)
    return _Counted(grouping, table, floor)


def _sum(item: _Counted, group: int, cells: tuple[tuple[int, int], ...]) -> int:
    return sum(int(item.table[group][cell]) for cell in cells)


def _rates(item: _Counted) -> list[Measure]:
    """Every rate of every group that occurs."""
    occurring = [g for g in range(len(item.grouping.groups)) if item.size(g)]
    return [
        proportion(
            name,
            _sum(item, g, top),
            _sum(item, g, bottom),
            group=item.grouping.groups[g],
            better="higher" if name in ("accuracy", "true_positive_rate") else "neither",
        )
        for g in occurring
        for name, (top, bottom) in _RATES.items()
    ]


def _ratios(item: _Counted, reference: str) -> list[Measure]:
    """Each group's selection rate over that of the reference group."""
    compared = item.compared()
    small = [g for g in range(len(item.grouping.groups)) if 0 < item.size(g) < item.floor]
    small = [g for g in small if item.grouping.known[g]]
    undefined = [
        _no_ratio(item, g, f"{item.size(g)} rows are fewer than the floor of {item.floor}") for g in small
    ]
    if len(compared) < 2:  # noqa: PLR2004 - a ratio needs two groups
        alone = "there is no second group to compare with"
        return [*undefined, *(_no_ratio(item, g, alone) for g in compared)]
    base = max(compared, key=lambda g: _rank(item, g, reference))
    return [*undefined, *(_ratio(item, g, base) for g in compared if g != base)]


def _rank(item: _Counted, group: int, reference: str) -> tuple[float, int]:
    selected, size = int(item.table[group, :, 1].sum()), item.size(group)
    return (selected / size if reference == "best" else float(size), size)


def _no_ratio(item: _Counted, group: int, reason: str) -> Measure:
    return Measure(
        name="selection_rate_ratio",
        value=None,
        n=item.size(group),
        group=item.grouping.groups[group],
        unit="ratio",
        better="one",
        reason=reason,
    )


def _ratio(item: _Counted, group: int, base: int) -> Measure:
    statistics = {
        "x1": int(item.table[group, :, 1].sum()),
        "n1": item.size(group),
        "x0": int(item.table[base, :, 1].sum()),
        "n0": item.size(base),
    }
    reason = "nobody in the reference group was selected" if not statistics["x0"] else ""
    return measure(
        "selection_rate_ratio",
        "koopman",
        statistics,
        n=item.size(group),
        group=item.grouping.groups[group],
        settings={"reference": _name(item, base)},
        unit="ratio",
        better="one",
        reason=reason,
    )


def _name(item: _Counted, group: int) -> str:
    return ", ".join(item.grouping.groups[group].values())


def _differences(item: _Counted) -> list[Measure]:
    """The largest difference between any two groups that have the rate at all."""
    selection = _series(item, "selection_rate")
    positive, negative = _series(item, "true_positive_rate"), _series(item, "false_positive_rate")
    both = {"first": positive, "second": negative}
    return [
        _difference("demographic_parity_difference", "largest_difference", selection, item),
        _difference("equal_opportunity_difference", "largest_difference", positive, item),
        _difference("equalized_odds_difference", "larger_of_two", both, item),
    ]


def _series(item: _Counted, rate: str) -> dict[str, list[int]]:
    top, bottom = _RATES[rate]
    counts = [(_sum(item, g, top), _sum(item, g, bottom)) for g in item.compared()]
    return {"x": [x for x, n in counts if n], "n": [n for _, n in counts if n]}


def _difference(name: str, method: str, statistics: Mapping[str, object], item: _Counted) -> Measure:
    return measure(
        name,
        method,
        statistics,
        n=int(item.table.sum()),
        settings={"feature": item.grouping.name},
        better="zero",
        unit="difference",
        reason="fewer than two groups have the rate, so there is nothing to compare",
    )


def _table(item: _Counted) -> Table:
    rows: list[list[Cell]] = [
        [_name(item, g), *(int(n) for n in item.table[g].ravel())]
        for g in range(len(item.grouping.groups))
        if item.size(g)
    ]
    columns = ["group", "unfavourable, not selected", "unfavourable, selected"]
    columns += ["favourable, not selected", "favourable, selected"]
    return Table(
        name=f"cells: {item.grouping.name}",
        title=f"Rows by {item.grouping.name}: actual outcome and decision",
        columns=columns,
        rows=rows,
        note="Every number of this check can be derived again from these counts.",
    )


def _figure(item: _Counted) -> Figure:
    rates = [m for m in _rates(item) if m.name == "selection_rate"]
    labels = [f"{', '.join(m.group.values())} (n = {m.n})" for m in rates]
    top = max(rates, key=lambda m: m.value or 0.0)
    bottom = min(rates, key=lambda m: m.value or 0.0)
    title = (
        f"By {item.grouping.name}, {', '.join(top.group.values())} receive the favourable outcome most often "
        f"({top.value:.3f}) and {', '.join(bottom.group.values())} least often ({bottom.value:.3f})"
    )
    return Figure(
        name=f"selection rate by {item.grouping.name}",
        title=title,
        kind="bars",
        alt=title + ", with 95 % intervals.",
        data={
            "labels": labels,
            "values": [m.value for m in rates],
            "low": [m.low for m in rates],
            "high": [m.high for m in rates],
        },
    )


def _caveats(data: Dataset, counted: list[_Counted]) -> tuple[str, ...]:
    caveats = []
    for item in counted:
        unknown = sum(item.size(g) for g, known in enumerate(item.grouping.known) if not known)
        if unknown:
            caveats.append(
                f"By {item.grouping.name}, {unknown} of {len(data)} rows have no known group; "
                "they are counted and shown, not compared."
            )
        for rate in ("true_positive_rate", "false_positive_rate"):
            _, bottom = _RATES[rate]
            without = [_name(item, g) for g in item.compared() if not _sum(item, g, bottom)]
            if without:
                caveats.append(
                    f"By {item.grouping.name}, {'; '.join(without)} have no {rate.replace('_', ' ')}: "
                    "no row has that label, so they take no part in its differences."
                )
    return tuple(caveats)
