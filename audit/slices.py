"""Slices: a search for the parts of the data where an outcome is most frequent. Numpy only.

Every feature is cut into bins; a slice is one term of a feature (`age: below 25`) or two terms of two
features. All slices are counted from the tables of pairs of features, so the search never looks at the
rows of a slice. The family of slices depends on the features alone, never on the outcome.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
import numpy.typing as npt

from audit.dataset import Ints

Bools = npt.NDArray[np.bool_]
Doubles = npt.NDArray[np.float64]
MOST_TERMS = 2_500
_CANDIDATES = 300
_FEWEST_SHUFFLES = 19
_SHUFFLED_CELLS = 100_000_000
_EXACT_IN_SINGLE = 2**24


@dataclass(frozen=True)
class Axis:
    """One feature, cut into B bins, and the T terms that a slice may be made of.

    Attributes:
        name: the user's name for the feature.
        codes: [N] bin of each row.
        terms: [T] the terms in words: `below 25`, `25 to below 33`, `north`.
        members: [T, B] whether a bin belongs to a term.
    """

    name: str
    codes: Ints
    terms: tuple[str, ...]
    members: Bools


def category_axis(name: str, categories: Sequence[str], codes: Ints) -> Axis:
    """A feature whose terms are its categories; `codes` [N] index into `categories`."""
    return Axis(name, codes.astype(np.int64), tuple(categories), np.eye(len(categories), dtype=bool))


def numeric_axis(name: str, values: npt.NDArray[np.floating], bins: int) -> Axis:
    """A numeric feature in up to `bins` bins of about equally many rows, or one bin for each of few values.

    Its terms are the single bins and everything below or from an edge. Edges are values that occur.

    Args:
        name: the user's name for it.
        values: [N] finite values.
        bins: most bins, at least 2.
    """
    starts = np.unique(values)
    exact = len(starts) <= bins
    if not exact:
        edges = np.quantile(values, np.arange(1, bins) / bins, method="higher")
        starts = np.unique([starts[0], *edges])
    codes = np.searchsorted(starts, values, side="right") - 1
    spans = list(_spans(len(starts)))
    words = tuple(_words(starts, low, high, exact) for low, high in spans)
    members = np.array([[low <= b < high for b in range(len(starts))] for low, high in spans], dtype=bool)
    return Axis(name, codes.astype(np.int64), words, members)


def _spans(bins: int) -> Iterator[tuple[int, int]]:
    """Single bins, then all from the first and all to the last, as half-open ranges of bins."""
    yield from ((b, b + 1) for b in range(bins))
    yield from ((0, high) for high in range(2, bins))
    yield from ((low, bins) for low in range(1, bins - 1))


def _words(starts: npt.NDArray[np.floating], low: int, high: int, exact: bool) -> str:
    first = f"{starts[low]:.7g}"
    if exact and high - low == 1:
        return first
    if high == len(starts):
        return f"{first} or more"
    end = f"{starts[high]:.7g}"
    return f"below {end}" if low == 0 else f"{first} to below {end}"


@dataclass(frozen=True)
class Space:
    """The axes of a search and the slices it may look at.

    Attributes:
        axes: the features.
        depth: most terms of a slice, 1 or 2.
        floor: fewest rows of a slice, and of the rest it is compared with.
    """

    axes: tuple[Axis, ...]
    depth: int
    floor: int

    @cached_property
    def codes(self) -> Ints:
        """[F, N] bin of each row by feature."""
        return np.stack([axis.codes for axis in self.axes])

    @cached_property
    def members(self) -> npt.NDArray[np.floating]:
        """[T, K] which of all bins belong to which of all terms, as 0 and 1."""
        # single precision adds whole numbers exactly up to 2**24, in half the time
        kind = np.float32 if self.codes.shape[1] < _EXACT_IN_SINGLE else np.float64
        bins = sum(axis.members.shape[1] for axis in self.axes)
        found = np.zeros((len(self.owner), bins), dtype=kind)
        row = column = 0
        for axis in self.axes:
            terms, width = axis.members.shape
            found[row : row + terms, column : column + width] = axis.members
            row, column = row + terms, column + width
        return found

    @cached_property
    def owner(self) -> Ints:
        """[T] the feature of each term."""
        return np.repeat(np.arange(len(self.axes)), [len(axis.terms) for axis in self.axes])

    @cached_property
    def rows(self) -> Doubles:
        """Rows of every slice, as `count` lays them out."""
        return self.count(self.codes)

    @cached_property
    def family(self) -> Bools:
        """The slices that are searched, as `count` lays them out.

        A pair that holds the same rows as one of its terms is left out: it is that term.
        """
        total, single = self.codes.shape[1], np.diag(self.rows)
        large: Bools = (self.rows >= self.floor) & (total - self.rows >= self.floor)
        if self.depth == 1:
            return large
        smaller = self.rows < np.minimum(single[:, None], single[None, :])
        pairs = (self.owner[:, None] < self.owner[None, :]) & smaller
        return large & (pairs | np.eye(len(single), dtype=bool))

    def count(self, codes: Ints) -> Doubles:
        """How many of the given rows, [F, M] bins, lie in each slice.

        Returns:
            [T, 1] by term for depth 1; for depth 2 [T, T], single terms on the diagonal and pairs of terms
            of two features above it.
        """
        sizes = [axis.members.shape[1] for axis in self.axes]
        single = [np.bincount(c, minlength=size) for c, size in zip(codes, sizes, strict=True)]
        if self.depth == 1:
            parts = [axis.members @ rows for axis, rows in zip(self.axes, single, strict=True)]
            return np.concatenate(parts).astype(np.float64)[:, None]
        start = np.concatenate([[0], np.cumsum(sizes)])
        table = np.diag(np.concatenate(single)).astype(self.members.dtype)
        for a, b in combinations(range(len(sizes)), 2):
            cells = np.bincount(codes[a] * sizes[b] + codes[b], minlength=sizes[a] * sizes[b])
            table[start[a] : start[a + 1], start[b] : start[b + 1]] = cells.reshape(sizes[a], sizes[b])
        return (self.members @ table @ self.members.T).astype(np.float64)

    def mask(self, term: int) -> Bools:
        """[N] which rows lie in a term."""
        axis = self.axes[self.owner[term]]
        first = int(np.searchsorted(self.owner, self.owner[term]))
        found: Bools = axis.members[term - first][axis.codes]
        return found

    def words(self, first: int, second: int) -> dict[str, str]:
        """A slice as feature and term in the user's words."""
        offset = np.searchsorted(self.owner, np.arange(len(self.axes)))
        axes = [(self.axes[self.owner[t]], int(t - offset[self.owner[t]])) for t in (first, second)]
        return {axis.name: axis.terms[place] for axis, place in axes}


@dataclass(frozen=True)
class Slice:
    """One slice against the rest of the rows.

    Attributes:
        terms: feature and term, in the user's words.
        x: rows of the slice with the outcome.
        n: rows of the slice.
        x0: rows of the rest with the outcome.
        n0: rows of the rest.
    """

    terms: Mapping[str, str]
    x: int
    n: int
    x0: int
    n0: int


@dataclass(frozen=True)
class Search:
    """What a search found.

    Attributes:
        slices: the worst first; each still stands out when the rows of those before it are left aside.
        searched: how many slices were compared, the family for which multiplicity is accounted.
        shuffles: how often the outcome was shuffled over the rows.
        as_bad: in how many of these some slice stood out as much as the worst one here.
    """

    slices: tuple[Slice, ...]
    searched: int
    shuffles: int
    as_bad: int


def search(space: Space, outcome: Bools, *, shown: int, shuffles: int, seed: int) -> Search:
    """The slices in which an outcome is most frequent, compared with all other rows.

    Slices are ranked by the standardised excess of the outcome over what a random draw of as many rows
    would hold (hypergeometric mean and variance). `shuffles` draws of the outcome over the rows tell how
    large the greatest excess is by chance (the maximum statistic of Westfall and Young, 1993).

    Args:
        space: what may be searched.
        outcome: [N] whether the row has the outcome.
        shown: most slices returned.
        shuffles: how often to shuffle; less, but at least 19, where that would take more than seconds.
        seed: seed of the shuffles.

    Returns:
        The search; without slices when no slice is large enough or the outcome never varies.
    """
    total, having = len(outcome), int(outcome.sum())
    searched = int(space.family.sum())
    if not searched or having in (0, total):
        return Search((), searched, 0, 0)
    expected, spread = _chance(space.rows, having, total)
    excess = _standardised(space, space.count(space.codes[:, outcome]), expected, spread)
    worst = float(excess.max())
    drawn = _affordable(space, min(having, total - having), shuffles)
    random = np.random.default_rng(seed)
    maxima = [_shuffled_maximum(space, having, expected, spread, random) for _ in range(drawn)]
    as_bad = sum(value >= worst - 1e-9 for value in maxima)
    return Search(tuple(_distinct(space, outcome, excess, shown)), searched, drawn, as_bad)


def _chance(rows: Doubles, having: int, total: int) -> tuple[Doubles, Doubles]:
    """Mean and standard deviation of the outcome's count in a random draw of `rows` out of `total`."""
    share = having / total
    variance = rows * share * (1 - share) * (total - rows) / (total - 1)
    return rows * share, np.sqrt(np.maximum(variance, 0.0))


def _standardised(space: Space, counts: Doubles, expected: Doubles, spread: Doubles) -> Doubles:
    """Excess of every slice in standard deviations, minus infinity outside of the family."""
    found = np.full(counts.shape, -np.inf)
    np.divide(counts - expected, spread, out=found, where=space.family)
    return found


def _affordable(space: Space, rows: int, shuffles: int) -> int:
    features = len(space.axes)
    tables = features * (features + 1) // 2 if space.depth > 1 else features
    return min(shuffles, max(_FEWEST_SHUFFLES, _SHUFFLED_CELLS // (tables * rows)))


def _shuffled_maximum(
    space: Space, having: int, expected: Doubles, spread: Doubles, random: np.random.Generator
) -> float:
    """The greatest excess after the outcome is shuffled; counts whichever of it or its absence is rarer."""
    total = space.codes.shape[1]
    rarer = min(having, total - having)
    chosen = np.sort(random.choice(total, size=rarer, replace=False, shuffle=False))
    counts = space.count(space.codes[:, chosen])
    counts = counts if rarer == having else space.rows - counts
    return float(_standardised(space, counts, expected, spread).max())


def _distinct(space: Space, outcome: Bools, excess: Doubles, shown: int) -> Iterator[Slice]:
    """The worst slices; one that keeps less than half of its excess without those before it is left out."""
    free = np.ones(len(outcome), dtype=bool)
    found = 0
    for first, second, size in _candidates(excess):
        if found == shown:
            return
        inside = space.mask(first) & space.mask(second)
        if _excess_within(free, inside, outcome) < size / 2:
            continue
        found += 1
        free &= ~inside
        x, n = int((inside & outcome).sum()), int(inside.sum())
        terms = space.words(first, second)
        yield Slice(terms, x, n, int(outcome.sum()) - x, len(outcome) - n)


def _candidates(excess: Doubles) -> list[tuple[int, int, float]]:
    """Terms and excess of the worst slices above 0; a single term before a pair of the same excess."""
    flat = excess.ravel()
    count = min(_CANDIDATES, int((flat > 0).sum()))
    if not count:
        return []
    top = np.argpartition(flat, -count)[-count:]
    rows, columns = np.unravel_index(top, excess.shape)
    columns = rows if excess.shape[1] == 1 else columns
    order = np.lexsort((columns, rows, rows != columns, -flat[top]))
    return [(int(rows[k]), int(columns[k]), float(flat[top[k]])) for k in order]


def _excess_within(free: Bools, inside: Bools, outcome: Bools) -> float:
    """Standardised excess of a slice among the free rows alone; minus infinity where it has none left."""
    total, having = int(free.sum()), int((free & outcome).sum())
    left = free & inside
    rows, count = int(left.sum()), int((left & outcome).sum())
    if total < 2 or rows in (0, total) or having in (0, total):  # noqa: PLR2004 - no variance to scale by
        return -math.inf
    share = having / total
    variance = rows * share * (1 - share) * (total - rows) / (total - 1)
    return (count - rows * share) / math.sqrt(variance)
