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
Stratum = tuple[float, float, float, float]
_UNDEFINED: Estimate = (None, None, None)
_ROUNDING = 1e-15


def mantel_haenszel_ratio(statistics: Mapping[str, Any], level: float) -> Estimate:
    """Common ratio of proportions. Undefined when nobody in the reference is selected in any stratum.

    Where the counts leave no variance (nobody or everybody selected), half a person is added to each side
    of each stratum for the interval.
    """
    strata = _strata(statistics)
    ratio, spread = _ratio(strata)
    if ratio is None:
        return _UNDEFINED
    centre = ratio
    if spread <= _ROUNDING:
        corrected, spread = _ratio(_corrected(strata))
        centre = corrected if corrected is not None else ratio
    factor = math.exp(_quantile(_shared(statistics, level)) * math.sqrt(spread))
    return ratio, 0.0 if ratio == 0 else min(ratio, centre / factor), max(ratio, centre * factor)


def _ratio(strata: list[Stratum]) -> tuple[float | None, float]:
    """The ratio, and the variance of its logarithm; 0 where it has none."""
    top = math.fsum(x1 * n0 / (n1 + n0) for x1, n1, _, n0 in strata)
    bottom = math.fsum(x0 * n1 / (n1 + n0) for _, n1, x0, n0 in strata)
    if bottom == 0:
        return None, 0.0
    if top == 0:
        return 0.0, 0.0
    spread = math.fsum(
        ((x1 + x0) * n1 * n0 - x1 * x0 * (n1 + n0)) / (n1 + n0) ** 2 for x1, n1, x0, n0 in strata
    )
    return top / bottom, spread / (top * bottom)


def mantel_haenszel_difference(statistics: Mapping[str, Any], level: float) -> Estimate:
    """Common difference of proportions, group minus reference. Undefined when no stratum holds both."""
    strata = _strata(statistics)
    difference, variance = _difference(strata)
    if difference is None:
        return _UNDEFINED
    centre = difference
    if variance <= _ROUNDING:
        corrected, variance = _difference(_corrected(strata))
        centre = corrected if corrected is not None else difference
    half = _quantile(_shared(statistics, level)) * math.sqrt(variance)
    low, high = min(difference, centre - half), max(difference, centre + half)
    return difference, max(-1.0, low), min(1.0, high)


def _difference(strata: list[Stratum]) -> tuple[float | None, float]:
    """The difference and its variance (Sato)."""
    weight = math.fsum(n1 * n0 / (n1 + n0) for _, n1, _, n0 in strata)
    if weight == 0:
        return None, 0.0
    difference = math.fsum((x1 * n0 - x0 * n1) / (n1 + n0) for x1, n1, x0, n0 in strata) / weight
    p = math.fsum(
        (n1**2 * x0 - n0**2 * x1 + n1 * n0 * (n0 - n1) / 2) / (n1 + n0) ** 2 for x1, n1, x0, n0 in strata
    )
    q = math.fsum((x1 * (n0 - x0) + x0 * (n1 - x1)) / (2 * (n1 + n0)) for x1, n1, x0, n0 in strata)
    return difference, max(0.0, difference * p + q) / weight**2


def _corrected(strata: list[Stratum]) -> list[Stratum]:
    return [(x1 + 0.5, n1 + 1, x0 + 0.5, n0 + 1) for x1, n1, x0, n0 in strata]


def _shared(statistics: Mapping[str, Any], level: float) -> float:
    """The level of a comparison that the data picked out of `picked_from`."""
    return 1 - (1 - level) / max(1, int(statistics.get("picked_from", 1)))


def _strata(statistics: Mapping[str, Any]) -> list[Stratum]:
    columns = (statistics[key] for key in ("x1", "n1", "x0", "n0"))
    rows = zip(*columns, strict=True)
    return [(x1, n1, x0, n0) for x1, n1, x0, n0 in rows if n1 > 0 and n0 > 0]


def _quantile(level: float) -> float:
    return NormalDist().inv_cdf(0.5 + level / 2)
