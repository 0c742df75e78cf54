"""Groups: who is compared with whom, as integer tables.

Group x label x prediction counts are a sufficient statistic for every confusion-matrix metric, so a
check counts the rows once and never looks at them again.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from audit.dataset import UNKNOWN, Dataset, Ints, Sensitive
from audit.errors import NotEvaluable

_ROWS_THERE = 2**23
_MOST_GROUPS = 100_000


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
    """The groups that several features make together; those of the last feature vary fastest.

    Raises:
        NotEvaluable: there are more than 100,000 of them.
    """
    sizes = [len(part.groups) for part in parts]
    name = " x ".join(part.name for part in parts)
    if math.prod(sizes) > _MOST_GROUPS:
        raise NotEvaluable(
            f"{name} make {math.prod(sizes):,} groups, more than the {_MOST_GROUPS:,} that can be counted; "
            "choose a smaller depth, fewer features or wider bins"
        )
    codes = parts[0].codes.astype(np.int64, copy=False)
    for part, size in zip(parts[1:], sizes[1:], strict=True):
        codes = codes * size + part.codes
    groups = tuple(
        {part.name: part.groups[code] for part, code in zip(parts, place, strict=True)}
        for place in np.ndindex(*sizes)
    )
    known = tuple(UNKNOWN not in group.values() for group in groups)
    return Grouping(name, groups, codes, known)


def count_table(
    columns: Sequence[Ints], sizes: Sequence[int], weights: Ints | None = None, device: str | None = None
) -> Ints:
    """Counts of the rows by several coded columns, in one pass over them.

    Args:
        columns: [N] each, codes in 0..size-1.
        sizes: number of codes of each column.
        weights: [N] how often each row counts; once where None.
        device: where to count, as torch names it; None and `cpu` count here, by numpy.

    Returns:
        An array of shape `sizes`; whole numbers, exact up to 2**63 wherever they are counted.
    """
    if device not in (None, "cpu"):
        return count_on(device, columns, sizes, weights)
    index = _cell_of([columns[0].astype(np.int64, copy=False), *columns[1:]], sizes)
    if weights is None:
        return np.bincount(index, minlength=math.prod(sizes)).reshape(*sizes)
    table = np.zeros(math.prod(sizes), dtype=np.int64)
    # bincount would add weights up as floats
    np.add.at(table, index, weights)
    return table.reshape(*sizes)


def _cell_of(columns: Sequence[Any], sizes: Sequence[int]) -> Any:
    """[N] place of each row in the flat table; arrays of numpy or tensors of torch, of 64-bit integers."""
    index = columns[0]
    for column, size in zip(columns[1:], sizes[1:], strict=True):
        index = index * size + column
    return index


def count_on(device: str, columns: Sequence[Ints], sizes: Sequence[int], weights: Ints | None = None) -> Ints:
    """The same as `count_table` by torch on a device, a piece of the rows at a time.

    A piece takes some 64 MiB for each column there, whatever the number of rows.
    """
    import torch

    table = torch.zeros(math.prod(sizes), dtype=torch.int64, device=device)
    for start in range(0, len(columns[0]), _ROWS_THERE):
        piece = slice(start, start + _ROWS_THERE)
        there = [_moved(column[piece], device) for column in columns]
        index = _cell_of(there, sizes)
        if weights is None:
            table += torch.bincount(index, minlength=len(table))
        else:
            table.index_add_(0, index, _moved(weights[piece], device))
    counts: Ints = table.cpu().numpy()
    return counts.reshape(*sizes)


def _moved(column: Ints, device: str) -> Any:
    import torch

    # a read-only array would make torch warn, and a tensor of it would be writeable
    whole = column if column.flags.writeable else column.copy()
    return torch.from_numpy(whole).to(device=device, dtype=torch.int64)


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
    data: Dataset, depth: int, labels: Ints, predicted: Ints, classes: int, device: str | None = None
) -> list[tuple[Grouping, Ints]]:
    """Every grouping of `groupings` with its [G, C, C] table, in the same order.

    Only combinations of the greatest depth are counted; the others are sums over those, so two features
    and their combination cost one pass over the rows.

    Args:
        data: its sensitive features make the groups; its rows count as often as it says.
        depth: most features in one combination, at least 1.
        labels: [N] true class, in 0..classes-1.
        predicted: [N] predicted class, in 0..classes-1.
        classes: number of classes.
        device: where to count; see `count_table`.
    """
    outcomes = labels * classes + predicted
    tables: dict[tuple[str, ...], Ints] = {}
    found = list(groupings(data, depth))
    for item in reversed(found):
        wider = next((names for names in tables if set(item.features) < set(names)), None)
        if wider is None:
            sizes = (len(item.groups), classes * classes)
            counts = count_table((item.codes, outcomes), sizes, data.people, device)
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
