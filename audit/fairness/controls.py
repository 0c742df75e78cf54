"""Controls: the same comparison within strata of something else, beside the pooled one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from audit.dataset import UNKNOWN, Ints
from audit.evidence import Cell, Measure, Table
from audit.fairness.cells import Cells, below
from audit.fairness.comparisons import Pair, pairs
from audit.stats import measure

STRATIFIED = ("selection_rate_ratio_stratified", "selection_rate_difference_stratified")
_METHODS = dict(zip(STRATIFIED, ("mantel_haenszel_ratio", "mantel_haenszel_difference"), strict=True))


@dataclass(frozen=True)
class Strata:
    """The decisions of one grouping within the strata of its controls.

    Attributes:
        cells: the same rows pooled; who is compared with whom is decided there.
        control: `department`, or `department x year`.
        strata: one mapping per stratum, e.g. `{"department": "A"}`.
        selected: [G, S] rows selected, by group and stratum.
        rows: [G, S] rows, by group and stratum.
    """

    cells: Cells
    control: str
    strata: tuple[Mapping[str, str], ...]
    selected: Ints
    rows: Ints

    def statistics(self, group: int, base: int) -> dict[str, list[int]]:
        """Counts of two groups, one entry a stratum that holds any of their rows."""
        columns = {
            "x1": self.selected[group],
            "n1": self.rows[group],
            "x0": self.selected[base],
            "n0": self.rows[base],
        }
        held = (columns["n1"] + columns["n0"]) > 0
        return {key: [int(n) for n in column[held]] for key, column in columns.items()}

    def shared(self, group: int, base: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Selected and all rows of each of two groups, in the strata that hold rows of both."""
        both = (self.rows[group] > 0) & (self.rows[base] > 0)
        one, other = (
            (int(self.selected[g][both].sum()), int(self.rows[g][both].sum())) for g in (group, base)
        )
        return one, other


def stratified(item: Strata, reference: str | Sequence[str], names: Sequence[str]) -> list[Measure]:
    """Those of `STRATIFIED` that are named: Mantel-Haenszel ratio and difference of each comparison."""
    return [
        _stratified(item, pair, name)
        for pair in pairs(item.cells, reference)
        for name in STRATIFIED
        if name in names
    ]


def _stratified(item: Strata, pair: Pair, name: str) -> Measure:
    ratio = name.startswith("selection_rate_ratio")
    settings: dict[str, str] = {"control": item.control, **item.cells.settings}
    fields: dict[str, Any] = {
        "n": item.cells.size(pair.group),
        "group": item.cells.groups[pair.group],
        "unit": "ratio" if ratio else "difference",
        "better": "one" if ratio else "zero",
    }
    if pair.base is None:
        return Measure(name=name, value=None, settings=settings, reason=pair.reason, **fields)
    settings["reference"] = item.cells.label(pair.base)
    statistics: dict[str, Any] = dict(item.statistics(pair.group, pair.base))
    held = item.shared(pair.group, pair.base)
    fields["n"] = held[0][1]
    reason = "no stratum holds rows of both groups"
    if fields["n"]:
        reason = "nobody in the reference group was selected in a stratum that holds both groups"
    if pair.picked_from > 1:
        statistics["picked_from"] = pair.picked_from
    found = measure(name, _METHODS[name], statistics, settings=settings, reason=reason, **fields)
    return found if found.value is None else replace(found, too_few=_few(item, pair.group, pair.base, held))


def _few(item: Strata, group: int, base: int, held: Sequence[tuple[int, int]]) -> str:
    """The sentence where either group has fewer rows than the floor in strata that hold both."""
    within = f"in strata of {item.control} that hold both"
    sentences = (
        below(x, n, item.cells.floor, f"selection rate of {item.cells.label(g)} {within}")
        for g, (x, n) in zip((group, base), held, strict=True)
    )
    return next(filter(None, sentences), "")


def strata_table(items: Sequence[Strata]) -> Table:
    """The counts behind the stratified values, for the record; one row a group, stratum and class."""
    first = items[0]
    classes = ["class"] if first.cells.settings else []
    rows: list[list[Cell]] = [
        [
            *item.cells.groups[g].values(),
            *stratum.values(),
            *item.cells.settings.values(),
            int(item.rows[g, s]),
            int(item.selected[g, s]),
        ]
        for item in items
        for g in item.cells.occurring()
        for s, stratum in enumerate(item.strata)
        if item.rows[g, s]
    ]
    return Table(
        name=f"strata: {first.cells.name} by {first.control}",
        title=f"Decisions by {first.cells.name} within {first.control}",
        columns=[*first.cells.groups[0], *first.strata[0], *classes, "rows", "selected"],
        rows=rows,
        note="The stratified values can be derived again from these counts.",
    )


def side_by_side(item: Strata, reference: str | Sequence[str]) -> Table:
    """Pooled and stratified values of every comparison, next to each other."""
    rows: list[list[Cell]] = []
    for pair in pairs(item.cells, reference):
        if pair.base is not None:
            pooled, within = _both(item, pair.group, pair.base)
            names = (item.cells.label(pair.group), item.cells.label(pair.base))
            values = (pooled[0].value, within[0].value, pooled[1].value, within[1].value)
            rows.append([*names, *values])
    per_class = "".join(f", class {name}" for name in item.cells.settings.values())
    return Table(
        name=f"pooled and stratified: {item.cells.name} by {item.control}{per_class}",
        title=f"Selection by {item.cells.name}, pooled and within {item.control}{per_class}",
        columns=["group", "reference", "pooled ratio", "stratified ratio", "pooled difference",
                 "stratified difference"],
        rows=rows,
        note="Stratified: Mantel-Haenszel estimates, which compare only within a stratum.",
    )  # fmt: skip


def _both(item: Strata, group: int, base: int) -> tuple[list[Measure], list[Measure]]:
    """Ratio and difference, pooled and stratified."""
    (x1, n1), (x0, n0) = (item.cells.counts(g, "selection_rate") for g in (group, base))
    pooled = {"x1": x1, "n1": n1, "x0": x0, "n0": n0}
    within = item.statistics(group, base)
    ratio, difference = STRATIFIED
    return (
        [measure(ratio, "koopman_exact", pooled), measure(difference, "newcombe", pooled)],
        [measure(name, _METHODS[name], within) for name in STRATIFIED],
    )


def reversals(item: Strata, reference: str | Sequence[str]) -> list[str]:
    """A sentence for each comparison whose sign turns when it is made within strata (Simpson, 1951).

    Signs that differ while both intervals contain 0 are noise and are not reported.
    """
    found = []
    for pair in pairs(item.cells, reference):
        if pair.base is None:
            continue
        (_, pooled), (_, within) = _both(item, pair.group, pair.base)
        if _turns(pooled, within):
            group, base = item.cells.label(pair.group), item.cells.label(pair.base)
            found.append(
                f"The comparison turns round within {item.control} (Simpson's paradox): pooled, {group} are "
                f"selected {_apart(pooled)} often than {base}; within {item.control}, {_apart(within)}."
            )
    return found


def _turns(pooled: Measure, within: Measure) -> bool:
    if pooled.value is None or within.value is None or pooled.value * within.value >= 0:
        return False
    return any(m.low is not None and m.high is not None and m.low * m.high > 0 for m in (pooled, within))


def _apart(item: Measure) -> str:
    value = item.value or 0.0
    return f"{abs(value):.3f} {'more' if value > 0 else 'less'}"


def unknown_strata(item: Strata) -> int:
    """Rows whose stratum has a part that is unknown; they form a stratum of their own."""
    places = [s for s, stratum in enumerate(item.strata) if UNKNOWN in stratum.values()]
    return int(item.rows[:, places].sum())
