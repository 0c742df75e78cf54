"""Cells: the counts of one grouping, and the rates that are shares of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from audit.dataset import UNKNOWN, Ints
from audit.evidence import Better, Cell, Measure, Table
from audit.stats import proportion

Places = tuple[tuple[int, int], ...]
_ALL: Places = ((0, 0), (0, 1), (1, 0), (1, 1))
# name: (numerator, denominator), each as (actual, selected) cells of the 2 x 2 table of a group
RATES: dict[str, tuple[Places, Places]] = {
    "selection_rate": (((0, 1), (1, 1)), _ALL),
    "base_rate": (((1, 0), (1, 1)), _ALL),
    "accuracy": (((0, 0), (1, 1)), _ALL),
    "true_positive_rate": (((1, 1),), ((1, 0), (1, 1))),
    "false_positive_rate": (((0, 1),), ((0, 0), (0, 1))),
    "true_negative_rate": (((0, 0),), ((0, 0), (0, 1))),
    "false_negative_rate": (((1, 0),), ((1, 0), (1, 1))),
    "positive_predictive_value": (((1, 1),), ((0, 1), (1, 1))),
    "negative_predictive_value": (((0, 0),), ((0, 0), (1, 0))),
    "false_discovery_rate": (((0, 1),), ((0, 1), (1, 1))),
    "false_omission_rate": (((1, 0),), ((0, 0), (1, 0))),
}
_NAMED = 12
_NEITHER = ("selection_rate", "base_rate")
_COUNTS = (
    "unfavourable, not selected",
    "unfavourable, selected",
    "favourable, not selected",
    "favourable, selected",
)
_CLASS_COUNTS = (
    "other class, predicted other",
    "other class, predicted so",
    "of the class, predicted other",
    "of the class, predicted so",
)
_DECISIONS = ("not selected", "selected")
_CLASS_DECISIONS = ("predicted other", "predicted so")


@dataclass(frozen=True)
class Cells:
    """The counts of one grouping: everything that confusion-matrix fairness can know.

    Attributes:
        name: `sex`, or `sex x race`.
        groups: one mapping per group, e.g. `{"sex": "Female", "race": "Black"}`.
        table: [G, 2, 2] rows by group, actually favourable, and selected.
        floor: groups with fewer rows are shown and not compared; a rate with a smaller denominator is shown
            and not judged.
        settings: what else the counts depend on: `{"class": name}` for one class against the rest.
        labelled: whether the actual outcome is known; where it is not, all rows stand under unfavourable
            and only what needs no outcome may be derived.
    """

    name: str
    groups: tuple[Mapping[str, str], ...]
    table: Ints
    floor: int = 10
    settings: Mapping[str, str] = field(default_factory=dict)
    labelled: bool = True

    def size(self, group: int) -> int:
        """Rows of a group."""
        return int(self.table[group].sum())

    def label(self, group: int) -> str:
        """A group in words: `Female, Black`."""
        return ", ".join(self.groups[group].values())

    def known(self) -> list[int]:
        """Groups that occur and of which no part is `unknown`."""
        return [g for g in self.occurring() if UNKNOWN not in self.groups[g].values()]

    def unknown(self) -> list[int]:
        """Groups that occur and of which some part is `unknown`."""
        return [g for g in self.occurring() if UNKNOWN in self.groups[g].values()]

    def occurring(self) -> list[int]:
        """Groups with at least one row."""
        return [int(g) for g in np.flatnonzero(self.table.sum(axis=(1, 2)))]

    def compared(self) -> list[int]:
        """Groups that may be compared: known, and with at least `floor` rows."""
        return [g for g in self.known() if self.size(g) >= self.floor]

    def counts(self, group: int, rate: str) -> tuple[int, int]:
        """Numerator and denominator of one of `RATES` in a group."""
        cells = self.table[group]
        top, bottom = RATES[rate]
        return sum(int(cells[place]) for place in top), sum(int(cells[place]) for place in bottom)

    def too_few(self, group: int, rate: str) -> str:
        """The counts in words where a rate has a denominator below the floor; a rate without one has none."""
        x, n = self.counts(group, rate)
        return below(x, n, self.floor, f"{rate.replace('_', ' ')} of {self.label(group)}")

    def having(self, rate: str) -> list[int]:
        """Groups that may be compared in a rate: its denominator too is at least `floor`, and not 0."""
        return [g for g in self.compared() if self.counts(g, rate)[1] >= max(1, self.floor)]

    def left_out(self, rates: Sequence[str], groups: Sequence[int]) -> str:
        """Which of `groups` have no comparable rate, each with its denominator; empty where all have.

        With several rates a group that lacks any of them is named, with the rate.
        """
        several = len(rates) > 1
        names = [
            f"{self.label(g)} ({self.counts(g, rate)[1]} rows{_of(rate) if several else ''})"
            for rate in rates
            for g in sorted(set(groups) - set(self.having(rate)))
        ]
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        return "; ".join(names[:_NAMED]) + more

    def errors(self, group: int) -> tuple[int, int]:
        """False negatives and false positives of a group."""
        return int(self.table[group, 1, 0]), int(self.table[group, 0, 1])


def _of(rate: str) -> str:
    return f" for the {rate.replace('_', ' ')}"


def below(x: int, n: int, floor: int, what: str) -> str:
    """The sentence for `x` of `n` rows where 0 < n < floor; empty otherwise."""
    if not 0 < n < floor:
        return ""
    return f"the {what} is {x} of {n} rows, fewer than the floor of {floor}: shown and not judged"


def one_against_rest(table: Ints, chosen: int) -> Ints:
    """[G, 2, 2] counts by "is of the class" and "is predicted so", from [G, C, C] by label and prediction."""
    hit = table[:, chosen, chosen]
    missed = table[:, chosen, :].sum(axis=1) - hit
    wrongly = table[:, :, chosen].sum(axis=1) - hit
    rest = table.sum(axis=(1, 2)) - hit - missed - wrongly
    return np.stack([rest, wrongly, missed, hit], axis=1).reshape(-1, 2, 2)


def rates(item: Cells, names: Sequence[str]) -> list[Measure]:
    """Those of `RATES` that are named, in every group that occurs, unknown and small ones included."""
    return [
        proportion(
            name,
            *item.counts(g, name),
            group=item.groups[g],
            settings=item.settings,
            better=_better(name),
            too_few=item.too_few(g, name),
        )
        for g in item.occurring()
        for name in RATES
        if name in names
    ]


def _better(rate: str) -> Better:
    if rate in _NEITHER:
        return "neither"
    return "lower" if rate.startswith("false") else "higher"


def cells_table(items: Sequence[Cells]) -> Table:
    """The counts of one grouping for the record; one row a group, or a group and a class.

    Args:
        items: cells of the same grouping, one for each class that was set against the rest.
    """
    first = items[0]
    rows: list[list[Cell]] = [
        [*item.groups[g].values(), *item.settings.values(), *(int(n) for n in _flat(item, g))]
        for item in items
        for g in item.occurring()
    ]
    return Table(
        name=f"cells: {first.name}",
        title=f"Rows by {first.name}: {'actual outcome and ' if first.labelled else ''}decision",
        columns=[*first.groups[0], *first.settings, *_columns(first)],
        rows=rows,
        note="Every number of this check can be derived again from these counts.",
    )


def _columns(item: Cells) -> tuple[str, ...]:
    if item.settings:
        return _CLASS_COUNTS if item.labelled else _CLASS_DECISIONS
    return _COUNTS if item.labelled else _DECISIONS


def _flat(item: Cells, group: int) -> Ints:
    cells = item.table[group]
    flat: Ints = cells.ravel() if item.labelled else cells.sum(axis=0)
    return flat


def read_cells(table: Table, floor: int) -> list[Cells]:
    """The cells that a table of a record holds: what `cells_table` wrote, read again.

    Args:
        table: a table whose name starts with `cells: `.
        floor: the setting `floor` of the finding it stands in.
    """
    last = tuple(table.columns[-2:])
    labelled = last not in (_DECISIONS, _CLASS_DECISIONS)
    per_class = last in (_CLASS_COUNTS[-2:], _CLASS_DECISIONS)
    counts = len(_COUNTS if labelled else _DECISIONS)
    width = len(table.columns) - counts - per_class
    by_class: dict[str, list[Sequence[Cell]]] = {}
    for row in table.rows:
        by_class.setdefault(str(row[width]) if per_class else "", []).append(row)
    return [
        Cells(
            table.name.removeprefix("cells: "),
            tuple(dict(zip(table.columns[:width], map(str, row[:width]), strict=True)) for row in rows),
            _square(rows, counts),
            floor,
            {"class": name} if per_class else {},
            labelled,
        )
        for name, rows in by_class.items()
    ]


def _square(rows: Sequence[Sequence[Cell]], counts: int) -> Ints:
    """[G, 2, 2] from the last `counts` columns; two of them are decisions without an outcome."""
    flat = np.array([row[-counts:] for row in rows], dtype=np.int64)
    empty = np.zeros((len(flat), 4 - counts), dtype=np.int64)
    return np.concatenate([flat, empty], axis=1).reshape(-1, 2, 2)
