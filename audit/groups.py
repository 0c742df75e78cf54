"""Groups: who is compared with whom, as integer tables.

Group x label x prediction counts are a sufficient statistic for every confusion-matrix metric, so a
check counts the rows once and never looks at them again.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from audit.dataset import UNKNOWN, Dataset, Ints


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


def groupings(data: Dataset, depth: int) -> Iterator[Grouping]:
    """Every sensitive feature, then every combination of up to `depth` of them."""
    for size in range(1, depth + 1):
        for names in combinations(data.sensitive, size):
            yield _grouping(data, names)


def _grouping(data: Dataset, names: tuple[str, ...]) -> Grouping:
    parts = [data.sensitive[name] for name in names]
    sizes = [len(part.groups) for part in parts]
    codes = np.ravel_multi_index(tuple(part.codes for part in parts), sizes).astype(np.int64)
    groups = tuple(
        {part.name: part.groups[code] for part, code in zip(parts, place, strict=True)}
        for place in np.ndindex(*sizes)
    )
    known = tuple(UNKNOWN not in group.values() for group in groups)
    return Grouping(" x ".join(names), groups, codes, known)


def count_cells(codes: Ints, labels: Ints, predicted: Ints, groups: int, classes: int) -> Ints:
    """[G, C, C] counts of rows by group, label and prediction, in one pass.

    Args:
        codes: [N] group of each row, in 0..groups-1.
        labels: [N] true class.
        predicted: [N] predicted class.
        groups: number of groups.
        classes: number of classes.
    """
    index = (codes * classes + labels) * classes + predicted
    return np.bincount(index, minlength=groups * classes * classes).reshape(groups, classes, classes)
