"""Groups: who is compared with whom, as integer tables.

Group x label x prediction counts are a sufficient statistic for every confusion-matrix metric, so a
check counts the rows once and never looks at them again.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from audit.dataset import UNKNOWN, Dataset, Ints, Sensitive


@dataclass(frozen=True)
class Grouping:
    """A division of the rows by one sensitive feature or by a combination of several.

    Attributes:
        name: `sex`, or `sex x race`.
        groups: one mapping per group, e.g. `{"sex": "Female", "race": "Black"}`.
        codes: [N] index of each row's group.
        known: [G] whether no part of the group is `unknown`.
    """

    name: str
    groups: tuple[Mapping[str, str], ...]
    codes: Ints
    known: tuple[bool, ...]

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features that make the groups."""
        return tuple(self.groups[0])


def groupings(data: Dataset, depth: int) -> Iterator[Grouping]:
    """Every sensitive feature, then every combination of up to `depth` of them."""
    for size in range(1, depth + 1):
        for names in combinations(data.sensitive, size):
            yield cross([data.sensitive[name] for name in names])


def cross(parts: Sequence[Sensitive]) -> Grouping:
    """The groups that several features make together; those of the last feature vary fastest."""
    sizes = [len(part.groups) for part in parts]
    codes = parts[0].codes.astype(np.int64, copy=False)
    for part, size in zip(parts[1:], sizes[1:], strict=True):
        codes = codes * size + part.codes
    groups = tuple(
        {part.name: part.groups[code] for part, code in zip(parts, place, strict=True)}
        for place in np.ndindex(*sizes)
    )
    known = tuple(UNKNOWN not in group.values() for group in groups)
    return Grouping(" x ".join(part.name for part in parts), groups, codes, known)


def count_table(columns: Sequence[Ints], sizes: Sequence[int]) -> Ints:
    """Counts of the rows by several coded columns, in one pass over them.

    Args:
        columns: [N] each, codes in 0..size-1.
        sizes: number of codes of each column.

    Returns:
        An array of shape `sizes`.
    """
    index = columns[0].astype(np.int64, copy=False)
    for column, size in zip(columns[1:], sizes[1:], strict=True):
        index = index * size + column
    return np.bincount(index, minlength=math.prod(sizes)).reshape(*sizes)


def count_cells(codes: Ints, labels: Ints, predicted: Ints, groups: int, classes: int) -> Ints:
    """[G, C, C] counts of rows by group, label and prediction, in one pass.

    Args:
        codes: [N] group of each row, in 0..groups-1.
        labels: [N] true class.
        predicted: [N] predicted class.
        groups: number of groups.
        classes: number of classes.
    """
    return count_table((codes, labels, predicted), (groups, classes, classes))


def count_groupings(
    data: Dataset, depth: int, labels: Ints, predicted: Ints, classes: int
) -> list[tuple[Grouping, Ints]]:
    """Every grouping of `groupings` with its [G, C, C] table, in the same order.

    Only combinations of the greatest depth are counted; the others are sums over those, so two features
    and their combination cost one pass over the rows.

    Args:
        data: its sensitive features make the groups.
        depth: most features in one combination, at least 1.
        labels: [N] true class, in 0..classes-1.
        predicted: [N] predicted class, in 0..classes-1.
        classes: number of classes.
    """
    outcomes = labels * classes + predicted
    tables: dict[tuple[str, ...], Ints] = {}
    found = list(groupings(data, depth))
    for item in reversed(found):
        wider = next((names for names in tables if set(item.features) < set(names)), None)
        if wider is None:
            counts = count_table((item.codes, outcomes), (len(item.groups), classes * classes))
            tables[item.features] = counts.reshape(-1, classes, classes)
        else:
            tables[item.features] = _margin(data, tables[wider], wider, item.features)
    return [(item, tables[item.features]) for item in found]


def _margin(data: Dataset, table: Ints, names: tuple[str, ...], kept: tuple[str, ...]) -> Ints:
    """The table of `kept` features, summed from that of more `names`."""
    outcomes = table.shape[1:]
    sizes = [len(data.sensitive[name].groups) for name in names]
    away = tuple(axis for axis, name in enumerate(names) if name not in kept)
    summed: Ints = table.reshape(*sizes, *outcomes).sum(axis=away)
    return summed.reshape(-1, *outcomes)
