"""Replicates: intervals from what a record keeps of bootstrap draws, for numbers without a formula.

A metric that a user brings may be any function, and a record must not run one. So the record keeps the
quantiles of its draws at a grid of tails, and an interval at any level follows from these alone, never
narrower than the draws themselves would give. Numpy is imported only where there are draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Estimate = tuple[float | None, float | None, float | None]
TAILS = (0.25, 0.2, 0.15, 0.1, 0.075, 0.05, 0.04, 0.03, 0.025, 0.02, 0.015, 0.0125, 0.01, 0.0075, 0.005,
         0.0025, 0.001, 0.0005, 0.00025, 0.0001)  # fmt: skip
_TAIL_DRAWS = 5
_ROUNDING = 1e-9


def quantiles(value: float, drawn: npt.NDArray[np.float64]) -> dict[str, Any]:
    """What the record keeps of one group's draws.

    Args:
        value: the number itself.
        drawn: [D] bootstrap values of it; those that are not finite are left out and counted.

    Returns:
        `value`; `draws` and `undefined`, the finite draws and the others; `spread`, their standard deviation;
        `tails` of which at least five draws lie beyond, with the quantiles `lows` and `highs` at each.
    """
    import numpy as np

    finite = drawn[np.isfinite(drawn)]
    tails = [tail for tail in TAILS if tail * len(finite) >= _TAIL_DRAWS * (1 - _ROUNDING)]
    upper = [1 - tail for tail in tails]
    return {
        "value": value,
        "draws": len(finite),
        "undefined": len(drawn) - len(finite),
        "spread": float(finite.std()) if len(finite) else 0.0,
        "tails": tails,
        "lows": np.quantile(finite, tails).tolist() if tails else [],
        "highs": np.quantile(finite, upper).tolist() if tails else [],
    }


def estimate(statistics: Mapping[str, Any], level: float) -> Estimate:
    """A number from its `quantiles`, or the largest difference of it between groups, with its interval.

    Args:
        statistics: `groups`, a list of what `quantiles` gives: one for the number itself, several for the
            largest difference between any two.
        level: two-sided confidence level.

    Returns:
        Value, low, high; no interval where the draws of a group do not vary.
    """
    groups = statistics["groups"]
    return _one(groups[0], level) if len(groups) == 1 else over_pairs(groups, level, _one)


def _one(kept: Mapping[str, Any], level: float) -> Estimate:
    """Percentiles at the widest kept tail within the one asked for; beyond the grid joined to the normal."""
    value, spread, tail = float(kept["value"]), float(kept["spread"]), (1 - level) / 2
    if spread <= 0:
        return value, None, None
    ends = list(zip(kept["tails"], kept["lows"], kept["highs"], strict=True))
    inside = [(low, high) for at, low, high in ends if at <= tail * (1 + _ROUNDING)]
    if inside:
        low, high = inside[0]
    else:
        reach = NormalDist().inv_cdf(1 - tail) * spread
        low = min([value - reach, *(low for _, low, _ in ends)])
        high = max([value + reach, *(high for _, _, high in ends)])
    return value, min(low, value), max(high, value)


def over_pairs(
    groups: Sequence[Mapping[str, Any]], level: float, one: Callable[[Mapping[str, Any], float], Estimate]
) -> Estimate:
    """The largest difference of a number between any two groups, with an interval that holds for all pairs.

    Each pair gets the hybrid of its two intervals (Zou and Donner, 2008) at a Bonferroni-adjusted level. The
    true largest difference is at least the greatest lower end and at most the end farthest from 0, on either
    side: whichever group has the lower number here may truly have the higher one.

    Args:
        groups: the statistics of each group.
        level: two-sided confidence level of the result.
        one: value, low and high of one group at a level.

    Returns:
        Value, low, high; all None for fewer than two groups, or where a group lacks the number or interval.
    """
    pairs = list(combinations(range(len(groups)), 2))
    found = [one(group, 1 - (1 - level) / max(1, len(pairs))) for group in groups]
    known = [(v, lo, hi) for v, lo, hi in found if v is not None and lo is not None and hi is not None]
    if not pairs or len(known) < len(found):
        return None, None, None
    ordered = [sorted((known[a], known[b]), reverse=True) for a, b in pairs]
    values = [top[0] - base[0] for top, base in ordered]
    lows = [top[0] - base[0] - math.hypot(top[0] - top[1], base[2] - base[0]) for top, base in ordered]
    highs = [top[0] - base[0] + math.hypot(top[2] - top[0], base[0] - base[1]) for top, base in ordered]
    return max(values), max(0.0, *lows), max(*highs, *(-low for low in lows))
