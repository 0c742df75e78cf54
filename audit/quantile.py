"""Quantiles of a number of each row, from counts of its rounded values: no row is kept."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

Estimate = tuple[float | None, float | None, float | None]
_DIGITS = 3


def counted(values: Sequence[float]) -> dict[str, list[Any]]:
    """The values to three digits, ascending, and how often each occurs: fewer than rows, and naming none."""
    rounded = Counter(float(f"{value:.{_DIGITS}g}") for value in values)
    keys = sorted(rounded)
    return {"values": keys, "counts": [rounded[key] for key in keys]}


def quantile(statistics: Mapping[str, Any], level: float) -> Estimate:
    """The quantile `q` of n counted values, with the interval of the order statistics.

    The rank of the true quantile among n rows is binomial(n, q), so two order statistics hold it with at
    least the level asked for, whatever the distribution (Conover, 1999, section 3.2). No interval where the
    rows are too few for one.

    Args:
        statistics: `values` ascending, their `counts`, and `q` in (0, 1).
        level: two-sided.
    """
    from scipy.special import bdtr

    values, counts, q = statistics["values"], statistics["counts"], float(statistics["q"])
    n = sum(counts)
    if not n:
        return None, None, None
    tail = (1 - level) / 2
    value = _at_rank(values, counts, max(1, math.ceil(n * q)))
    low, high = _largest_rank(n, q, tail, bdtr), _smallest_rank(n, q, tail, bdtr)
    if low < 1 or high > n:
        return value, None, None
    return value, _at_rank(values, counts, low), _at_rank(values, counts, high)


def _largest_rank(n: int, q: float, tail: float, below: Any) -> int:
    """The largest rank r (from 1; 0 for none) with P(fewer than r of n rows lie below) <= tail."""
    low, high = 0, n
    while low < high:
        middle = (low + high + 1) // 2
        if float(below(middle - 1, n, q)) <= tail:
            low = middle
        else:
            high = middle - 1
    return low


def _smallest_rank(n: int, q: float, tail: float, below: Any) -> int:
    """The smallest rank r (n + 1 for none) with P(r or more of n rows lie below) <= tail."""
    low, high = 1, n + 1
    while low < high:
        middle = (low + high) // 2
        if 1 - float(below(middle - 1, n, q)) <= tail:
            high = middle
        else:
            low = middle + 1
    return low


def _at_rank(values: Sequence[float], counts: Sequence[int], rank: int) -> float:
    """The value at a rank, counted from 1."""
    seen = 0
    for value, count in zip(values, counts, strict=True):
        seen += count
        if seen >= rank:
            return value
    return values[-1]
