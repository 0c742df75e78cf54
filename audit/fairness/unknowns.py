"""Unknowns: what people of unknown group could do to a comparison, whichever groups they belong to.

Bounds over every division of the unknown rows among the compared groups. They speak of these rows alone:
there is no sampling error in them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from audit.evidence import Better, Measure
from audit.fairness.cells import Cells
from audit.stats import measure

RATIOS = ("selection_rate_ratio_worst", "selection_rate_ratio_best")
DIFFERENCES = ("demographic_parity_difference_worst", "demographic_parity_difference_best")
BOUNDS = (*RATIOS, *DIFFERENCES)
_Counts = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Bounds:
    """Lowest and highest selection rate of any group, when the unknown are divided so or so.

    Attributes:
        ratio_worst: smallest possible ratio of the lowest to the highest rate; None when it is 0/0.
        ratio_best: no division gives a greater one.
        difference_worst: greatest possible difference between two groups.
        difference_best: no division gives a smaller one.
    """

    ratio_worst: float | None
    ratio_best: float | None
    difference_worst: float
    difference_best: float


def bounds(groups: _Counts, selected: int, rejected: int) -> Bounds:
    """What the unknown could make of the lowest and highest selection rate.

    Worst case of two groups: all unknown who were not selected belong to the one, all who were to the
    other; the worst pair is the worst case of all. Best case: those selected lift the lowest groups to a
    common rate, those not selected lower the highest groups to a common rate, and neither can pass the
    rate of everybody together. The best case treats people as divisible, so what whole people can reach
    is at most a fraction of a row from it.

    Args:
        groups: selected and all rows of each known group; two groups at least, none empty.
        selected: unknown rows that were selected.
        rejected: unknown rows that were not.
    """
    low = [x / (n + rejected) for x, n in groups]
    high = [(x + selected) / (n + selected) for x, n in groups]
    others = [max(h for j, h in enumerate(high) if j != i) for i in range(len(groups))]
    ratios = [a / b for a, b in zip(low, others, strict=True) if b]
    bottom, top = _levelled(groups, selected, rejected)
    return Bounds(
        min(1.0, *ratios) if ratios else None,
        bottom / top if top else None,
        max(0.0, *(b - a for a, b in zip(low, others, strict=True))),
        top - bottom,
    )


def _levelled(groups: _Counts, selected: int, rejected: int) -> tuple[float, float]:
    """The highest rate that the lowest group can have, and the lowest that the highest group can have."""
    ordered = sorted(groups, key=lambda c: c[0] / c[1])
    total, rows = sum(x for x, _ in groups) + selected, sum(n for _, n in groups) + selected + rejected
    bottom = top = total / rows
    x_sum, n_sum = selected, selected
    for x, n in ordered:
        x_sum, n_sum = x_sum + x, n_sum + n
        bottom = min(bottom, x_sum / n_sum)
    x_sum, n_sum = 0, rejected
    for x, n in reversed(ordered):
        x_sum, n_sum = x_sum + x, n_sum + n
        top = max(top, x_sum / n_sum)
    return bottom, top


def bounds_of(item: Cells) -> Bounds | None:
    """The bounds of a grouping; None without unknown rows or with fewer than two groups to compare."""
    compared, unknown = item.compared(), item.unknown()
    if not unknown or len(compared) < 2:  # noqa: PLR2004 - a comparison needs two groups
        return None
    pairs = [item.counts(g, "selection_rate") for g in unknown]
    selected = sum(x for x, _ in pairs)
    rejected = sum(n for _, n in pairs) - selected
    return bounds([item.counts(g, "selection_rate") for g in compared], selected, rejected)


def unknown_bounds(item: Cells, names: Sequence[str]) -> list[Measure]:
    """Those of `BOUNDS` that are named; none without unknown rows."""
    found = bounds_of(item)
    if found is None:
        return []
    values = (found.ratio_worst, found.ratio_best, found.difference_worst, found.difference_best)
    return [_bound(item, name, value) for name, value in zip(BOUNDS, values, strict=True) if name in names]


def _bound(item: Cells, name: str, value: float | None) -> Measure:
    ratio = name in RATIOS
    better: Better = "one" if ratio else "zero"
    unit = "ratio" if ratio else "difference"
    rows = int(item.table.sum())
    settings = {"feature": item.name, **item.settings}
    small = item.left_out(("selection_rate",), item.known())
    if value is None:
        reason = f"nobody was selected: 0 of {rows} rows"
        return Measure(
            name=name, value=None, n=rows, settings=settings, unit=unit, better=better, reason=reason
        )
    counted = "it bounds what the unknown rows can do to these rows and carries no sampling error"
    bound = measure(name, "exact", {"value": value}, n=rows, settings=settings, unit=unit, better=better)
    return replace(bound, unreliable=counted, left_out=small)
