"""Proportions: intervals of shares, differences and ratios of counts, for the verifier alone.

The same definitions as those that measured, reached another way: a formula there is the root of an equation
here, and the other way round. Nothing here is imported by what measures, and nothing of it by this.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import permutations
from typing import Any

Estimate = tuple[float | None, float | None, float | None]
Known = tuple[float, float, float]
Statistics = Mapping[str, Any]
NOTHING: Estimate = (None, None, None)
_FEW = 10
_FINEST = 1e-300


def split(level: float, parts: float) -> float:
    """The level at which each of `parts` intervals keeps its share of the error of all (Bonferroni)."""
    return 1.0 - (1.0 - level) / max(1, parts)


def normal(level: float) -> float:
    """The two-sided quantile of the standard normal distribution."""
    from scipy.special import ndtri

    return -float(ndtri(upper_tail(level)))


def upper_tail(level: float) -> float:
    """The error above a two-sided interval, with the last digit that a double leaves of 0.5 + level / 2."""
    return 1.0 - (0.5 + level / 2.0)


def known(estimate: Estimate) -> Known | None:
    """The estimate where all three of it are numbers."""
    value, low, high = estimate
    return None if value is None or low is None or high is None else (value, low, high)


def wilson(statistics: Statistics, level: float) -> Estimate:
    """Shares p at which the score test of x out of n just stands: the roots of its quadratic in p."""
    x, n = float(statistics["x"]), float(statistics["n"])
    if n <= 0:
        return NOTHING
    square = normal(level) ** 2
    a, b, c = n + square, 2 * x + square, x * x / n
    larger = b + math.sqrt(max(0.0, b * b - 4 * a * c))
    return x / n, 2 * c / larger, 1.0 if x == n else min(1.0, larger / (2 * a))


def clopper_pearson(statistics: Statistics, level: float) -> Estimate:
    """Shares at which x or more, and x or fewer, of n rows have half the error left."""
    from scipy.special import betainc

    x, n, tail = float(statistics["x"]), float(statistics["n"]), (1.0 - level) / 2.0
    if n <= 0:
        return NOTHING
    low = _share(lambda p: betainc(x, n - x + 1, p) - tail) if x > 0 else 0.0
    # 1 - p is sought, since near 1 a share has no digits left
    high = 1.0 - _share(lambda q: betainc(n - x, x + 1, q) - (1.0 - (1.0 - tail))) if x < n else 1.0
    return x / n, low, high


def _share(excess: Callable[[float], Any]) -> float:
    from scipy.optimize import brentq

    return float(brentq(excess, 0.0, 1.0, xtol=_FINEST, rtol=1e-14, maxiter=500))


def _hybrid(first: Known, second: Known) -> Known:
    """The difference of two numbers with MOVER limits: distances of ends, squared and added."""
    (a, a_low, a_high), (b, b_low, b_high) = first, second
    below = math.sqrt((a - a_low) ** 2 + (b_high - b) ** 2)
    above = math.sqrt((a_high - a) ** 2 + (b - b_low) ** 2)
    return a - b, a - b - below, a - b + above


def hybrid(first: Estimate, second: Estimate) -> Estimate:
    """The difference of two estimates; nothing where either is not known."""
    one, other = known(first), known(second)
    return NOTHING if one is None or other is None else _hybrid(one, other)


Rate = Callable[[Statistics, float], Estimate]


def _pair(rate: Rate, s: Statistics, level: float) -> tuple[Estimate, Estimate]:
    """The rates of both groups."""
    return tuple(rate({"x": s[f"x{g}"], "n": s[f"n{g}"]}, level) for g in "10")  # type: ignore[return-value]


def _picked(statistics: Statistics, level: float) -> float:
    return split(level, int(statistics.get("picked_from", 1)))


def newcombe(statistics: Statistics, level: float) -> Estimate:
    """The difference of two shares: over score limits, or exact ones where either has fewer than ten rows."""
    few = float(statistics["n1"]) < _FEW or float(statistics["n0"]) < _FEW
    rate = clopper_pearson if few else wilson
    return hybrid(*_pair(rate, statistics, _picked(statistics, level)))


def difference_of_many(statistics: Statistics, level: float) -> Estimate:
    """The difference of two shares over exact limits, at the level shared by all that were searched."""
    return hybrid(*_pair(clopper_pearson, statistics, split(level, int(statistics["searched"]))))


def koopman(statistics: Statistics, level: float) -> Estimate:
    """Ratios at which Koopman's score test just stands, found by Brent's method on their logarithm."""
    level = _picked(statistics, level)
    table = x1, n1, x0, n0 = tuple(float(statistics[key]) for key in ("x1", "n1", "x0", "n0"))
    if n1 <= 0 or n0 <= 0 or x0 == 0:
        return NOTHING
    ratio, limit = (x1 / n1) / (x0 / n0), normal(level) ** 2
    low = _crossing(table, ratio, limit, -1.0) if x1 else 0.0
    high = _crossing(table, ratio or 1e-12, limit, 1.0)
    if min(n1, n0) < _FEW:
        exact = _outer_ratio(statistics, level)
        low, high = min(low, exact[0]), max(high, exact[1])
    return ratio, low, high


def koopman_exact(statistics: Statistics, level: float) -> Estimate:
    """Koopman's ends, or those over exact limits of both shares where these lie farther out."""
    found = known(koopman(statistics, level))
    if found is None:
        return NOTHING
    ratio, low, high = found
    level = _picked(statistics, level)
    one, other = (known(part) for part in _pair(clopper_pearson, statistics, level))
    if one is None or other is None or min(*one, *other) == 0:
        ends = _outer_ratio(statistics, level)
    else:
        first, second = (tuple(math.log(number) for number in part) for part in (one, other))
        _, below, above = _hybrid(first, second)  # type: ignore[arg-type]
        ends = (math.exp(below), math.exp(above))
    return ratio, min(low, ends[0]), max(high, ends[1])


def _outer_ratio(statistics: Statistics, level: float) -> tuple[float, float]:
    """Least and greatest ratio of exact limits, each at half the error."""
    (_, l1, u1), (_, l0, u0) = _pair(clopper_pearson, statistics, split(level, 2))
    return float(l1 or 0.0) / float(u0 or 1.0), float(u1 or 1.0) / float(l0 or 1e-12)


def _crossing(table: Sequence[float], ratio: float, limit: float, side: float) -> float:
    """The ratio beyond the estimate, below (-1) or above (1) it, where the statistic first is the limit."""
    from scipy.optimize import brentq

    def excess(step: float) -> float:
        return min(1e300, _score(ratio * math.exp(side * step), table)) - limit

    far = 1.0
    while excess(far) <= 0 and far < 700:  # noqa: PLR2004 - the end of the exponential function
        far += 1.0
    if excess(far) <= 0:
        return ratio * math.exp(side * far)
    return ratio * math.exp(side * float(brentq(excess, 0.0, far, xtol=1e-14, rtol=1e-14, maxiter=500)))


def _score(phi: float, table: Sequence[float]) -> float:
    """The chi-square of the table where the true ratio is `phi`, at its most likely shares.

    Those solve a q^2 - b q + c = 0 for the share q of the reference; the smaller root is the one in [0, 1].
    """
    x1, n1, x0, n0 = table
    a, b, c = (n1 + n0) * phi, (n1 + x0) * phi + x1 + n0, x1 + x0
    q = min(1.0, 2 * c / (b + math.sqrt(max(0.0, b * b - 4 * a * c))))
    return _squared_gap(x1, n1, min(1.0, phi * q)) + _squared_gap(x0, n0, q)


def _squared_gap(x: float, n: float, p: float) -> float:
    gap, variance = abs(x - n * p), n * p * (1.0 - p)
    if variance > 1e-12 * n:
        return gap * gap / variance
    return math.inf if gap > 1e-9 * max(1.0, n) else 0.0


def odds(statistics: Statistics, level: float) -> Estimate:
    """The ratio x/y of two counts, from the share of x among both."""
    x, y = float(statistics["x"]), float(statistics["y"])
    share = known(wilson({"x": x, "n": x + y}, level)) if y else None
    if share is None:
        return NOTHING
    # the complement of a score limit is the score limit of the complement, with more digits near 1
    other = known(wilson({"x": y, "n": x + y}, level)) or share
    return x / y, share[1] / other[2], share[2] / other[1]


def odds_difference(statistics: Statistics, level: float) -> Estimate:
    """The difference of two such ratios."""
    level = _picked(statistics, level)
    return hybrid(*(odds({"x": statistics[f"x{g}"], "y": statistics[f"y{g}"]}, level) for g in "10"))


def wilson_against(statistics: Statistics, level: float) -> Estimate:
    """A share less a stated one."""
    found, stated = known(wilson(statistics, level)), float(statistics["reference"])
    return NOTHING if found is None else tuple(end - stated for end in found)  # type: ignore[return-value]


def largest_difference(statistics: Statistics, level: float) -> Estimate:
    """The largest difference of any two shares: every ordered pair is looked at, none picked beforehand."""
    groups = list(zip(statistics["x"], statistics["n"], strict=True))
    pairs = len(groups) * (len(groups) - 1) // 2
    if not pairs:
        return NOTHING
    each, found = split(level, pairs), []
    for (x1, n1), (x0, n0) in permutations(groups, 2):
        one = known(newcombe({"x1": x1, "n1": n1, "x0": x0, "n0": n0}, each))
        if one is None:
            return NOTHING
        found.append(one)
    value, low, high = (max(column) for column in zip(*found, strict=True))
    return value, max(0.0, low), high


def larger_of_two(statistics: Statistics, level: float) -> Estimate:
    """The larger of two largest differences, each at half the error."""
    parts = [known(largest_difference(statistics[key], split(level, 2))) for key in ("first", "second")]
    if None in parts:
        return NOTHING
    return tuple(max(part[at] for part in parts if part) for at in range(3))  # type: ignore[return-value]


def mean_of_proportions(statistics: Statistics, level: float) -> Estimate:
    """The mean of shares, with the MOVER interval over score limits."""
    pairs = zip(statistics["x"], statistics["n"], strict=True)
    parts = [known(wilson({"x": x, "n": n}, level)) for x, n in pairs]
    if not parts or None in parts:
        return NOTHING
    rates = [part for part in parts if part is not None]
    value = sum(p for p, _, _ in rates) / len(rates)
    below = math.sqrt(sum((p - low) ** 2 for p, low, _ in rates)) / len(rates)
    above = math.sqrt(sum((high - p) ** 2 for p, _, high in rates)) / len(rates)
    return value, max(0.0, value - below), min(1.0, value + above)
