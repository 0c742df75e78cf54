"""Association of two columns of categories, from their table of counts."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

Estimate = tuple[float | None, float | None, float | None]
_BISECTIONS = 80
_LEAST_EXPECTED = 5


def cramers_v(statistics: Mapping[str, Any], level: float) -> Estimate:
    """Cramer's V of a table of counts, what chance alone gives taken away, with its interval.

    The chi-square statistic has a non-central distribution; its non-centrality is estimated by the
    statistic less its degrees of freedom, and its interval is inverted from the distribution (Smithson,
    2003, Confidence Intervals). V = sqrt(non-centrality / (n (k - 1))), k the smaller side. For the
    upper end a statistic below its degrees of freedom counts as equal to them: a table closer to
    independence than chance makes it is no evidence of less association. The rarest categories are joined
    until every expected count is 5 or two categories are left (Cochran, 1954): with fewer the statistic does
    not have that distribution and finds association where there is none.

    Args:
        statistics: `table`, counts by group (rows) and category (columns).
        level: two-sided confidence level.

    Returns:
        Value, low, high in [0, 1]; all None where fewer than two rows or columns hold anything.
    """
    table = np.asarray(statistics["table"], dtype=np.float64)
    if table.ndim != 2:  # noqa: PLR2004 - no groups at all
        return None, None, None
    table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    if min(table.shape, default=0) < 2:  # noqa: PLR2004 - association needs two of each
        return None, None, None
    table = _joined(table)
    total = float(table.sum())
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / total
    statistic = float(((table - expected) ** 2 / expected).sum())
    freedom = (table.shape[0] - 1) * (table.shape[1] - 1)
    scale = total * (min(table.shape) - 1)
    value = _strength(max(0.0, statistic - freedom), scale)
    tail = (1 - level) / 2
    low = _strength(_non_centrality(statistic, freedom, 1 - tail), scale)
    high = _strength(_non_centrality(max(statistic, freedom), freedom, tail), scale)
    return value, min(low, value), max(high, value)


def _joined(table: np.ndarray) -> np.ndarray:
    """The table with its rarest columns added together while an expected count is below 5."""
    while table.shape[1] > 2:  # noqa: PLR2004 - association needs two of each
        columns = table.sum(axis=0)
        if table.sum(axis=1).min() * columns.min() >= _LEAST_EXPECTED * table.sum():
            break
        rarest, next_one = np.argsort(columns, kind="stable")[:2]
        table = table.copy()
        table[:, next_one] += table[:, rarest]
        table = np.delete(table, rarest, axis=1)
    return table


def _strength(non_centrality: float, scale: float) -> float:
    return min(1.0, math.sqrt(non_centrality / scale))


def _non_centrality(statistic: float, freedom: int, probability: float) -> float:
    """The non-centrality at which the statistic lies at this quantile; 0 where even none is too much."""
    from scipy.special import chndtr

    if chndtr(statistic, freedom, 0.0) <= probability:
        return 0.0
    low, high = 0.0, statistic + freedom + 10.0
    while chndtr(statistic, freedom, high) > probability:
        high *= 2
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if chndtr(statistic, freedom, middle) > probability else (low, middle)
    return low
