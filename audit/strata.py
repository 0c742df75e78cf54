"""Mantel-Haenszel: one ratio or difference of proportions over strata that must not be mixed.

A pooled comparison can turn round when a third thing decides who is in which group (Simpson's paradox).
These estimates compare within each stratum and then average. Statistics hold one entry a stratum: `x1` of
`n1` in the group, `x0` of `n0` in the reference. A stratum with nobody in one of the groups compares
nothing and drops out by itself. Sources: Mantel and Haenszel (1959); Greenland and Robins (1985) for the
variance of the logarithm of the ratio; Sato (1989) for that of the difference.
"""

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any

Estimate = tuple[float | None, float | None, float | None]
_UNDEFINED: Estimate = (None, None, None)


def mantel_haenszel_ratio(statistics: Mapping[str, Any], level: float) -> Estimate:
    """Common ratio of proportions. Undefined when nobody in the reference is selected in any stratum."""
    strata = _strata(statistics)
    top = math.fsum(x1 * n0 / (n1 + n0) for x1, n1, _, n0 in strata)
    bottom = math.fsum(x0 * n1 / (n1 + n0) for _, n1, x0, n0 in strata)
    if bottom == 0:
        return _UNDEFINED
    if top == 0:
        return 0.0, None, None
    spread = math.fsum(
        ((x1 + x0) * n1 * n0 - x1 * x0 * (n1 + n0)) / (n1 + n0) ** 2 for x1, n1, x0, n0 in strata
    )
    ratio = top / bottom
    factor = math.exp(_quantile(level) * math.sqrt(spread / (top * bottom)))
    return ratio, ratio / factor, ratio * factor


def mantel_haenszel_difference(statistics: Mapping[str, Any], level: float) -> Estimate:
    """Common difference of proportions, group minus reference. Undefined when no stratum holds both."""
    strata = _strata(statistics)
    weight = math.fsum(n1 * n0 / (n1 + n0) for _, n1, _, n0 in strata)
    if weight == 0:
        return _UNDEFINED
    difference = math.fsum((x1 * n0 - x0 * n1) / (n1 + n0) for x1, n1, x0, n0 in strata) / weight
    p = math.fsum(
        (n1**2 * x0 - n0**2 * x1 + n1 * n0 * (n0 - n1) / 2) / (n1 + n0) ** 2 for x1, n1, x0, n0 in strata
    )
    q = math.fsum((x1 * (n0 - x0) + x0 * (n1 - x1)) / (2 * (n1 + n0)) for x1, n1, x0, n0 in strata)
    half = _quantile(level) * math.sqrt(max(0.0, difference * p + q)) / weight
    return difference, max(-1.0, difference - half), min(1.0, difference + half)


def _strata(statistics: Mapping[str, Any]) -> list[tuple[float, float, float, float]]:
    columns = (statistics[key] for key in ("x1", "n1", "x0", "n0"))
    rows = zip(*columns, strict=True)
    return [(x1, n1, x0, n0) for x1, n1, x0, n0 in rows if n1 > 0 and n0 > 0]


def _quantile(level: float) -> float:
    return NormalDist().inv_cdf(0.5 + level / 2)
