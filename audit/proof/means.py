"""Means: intervals of means and of their differences, over strata, and of numbers counted in full."""

import math

from audit.proof.proportions import NOTHING, Estimate, Statistics, normal, split, upper_tail

_FLAT = 1e-15


def student(freedom: float, level: float) -> float:
    """The two-sided quantile of Student's distribution, from the inverse of the incomplete beta function."""
    from scipy.special import betaincinv

    share = float(betaincinv(freedom / 2.0, 0.5, 2.0 * upper_tail(level)))
    return math.sqrt(freedom * (1.0 - share) / share)


def student_t(statistics: Statistics, level: float) -> Estimate:
    """A mean with its spread; no interval for a single row."""
    n = float(statistics["n"])
    if n <= 0:
        return NOTHING
    mean = float(statistics["mean"])
    if n <= 1:
        return mean, None, None
    reach = student(n - 1.0, level) * float(statistics["sd"]) * n**-0.5
    return mean, mean - reach, mean + reach


def root_student_t(statistics: Statistics, level: float) -> Estimate:
    """The square root of a mean and of its ends, of which a negative one becomes 0."""
    ends = student_t(statistics, level)
    value, low, high = (None if end is None else max(0.0, end) ** 0.5 for end in ends)
    return value, low, high


def welch(statistics: Statistics, level: float) -> Estimate:
    """The difference of two means whose spreads may differ."""
    (n1, m1, v1), (n0, m0, v0) = (
        (float(statistics[f"n{g}"]), float(statistics[f"mean{g}"]), float(statistics[f"sd{g}"]) ** 2)
        for g in "10"
    )
    if not n1 or not n0:
        return NOTHING
    if min(n1, n0) <= 1:
        return m1 - m0, None, None
    variance = v1 / n1 + v0 / n0
    if variance == 0:
        return m1 - m0, m1 - m0, m1 - m0
    share = v1 / n1 / variance
    freedom = 1.0 / (share**2 / (n1 - 1) + (1.0 - share) ** 2 / (n0 - 1))
    reach = student(freedom, level) * math.sqrt(variance)
    return m1 - m0, m1 - m0 - reach, m1 - m0 + reach


def r_squared(statistics: Statistics, level: float) -> Estimate:
    """One less the ratio of error to spread; the logarithm of the ratio has Student's interval."""
    n, error, spread = (float(statistics[key]) for key in ("n", "error", "spread"))
    if n == 0 or spread <= 0:
        return NOTHING
    value = (spread - error) / spread
    if n <= 2 or error <= 0:  # noqa: PLR2004 - two rows lie on a line
        return value, None, None
    a, b = float(statistics["error_sd"]), float(statistics["spread_sd"])
    variance = (a / error) ** 2 - 2 * float(statistics["covariance"]) / error / spread + (b / spread) ** 2
    reach = min(700.0, student(n - 1.0, level) * math.sqrt(max(0.0, variance) / n))  # finite, whatever it is
    place = math.log(error / spread)
    return value, -math.expm1(place + reach), -math.expm1(place - reach)


def exact(statistics: Statistics, level: float) -> Estimate:
    """A number without sampling error is its own interval."""
    del level
    value = float(statistics["value"])
    return value, value, value


def _strata(statistics: Statistics, added: float) -> list[tuple[float, float, float, float]]:
    """Strata that hold both groups, with `added` rows selected and as many not in each."""
    columns = zip(*(statistics[key] for key in ("x1", "n1", "x0", "n0")), strict=True)
    return [
        (x1 + added, n1 + 2 * added, x0 + added, n0 + 2 * added)
        for x1, n1, x0, n0 in columns
        if n1 > 0 and n0 > 0
    ]


def _reach(statistics: Statistics, level: float, variance: float) -> float:
    return normal(split(level, int(statistics.get("picked_from", 1)))) * math.sqrt(variance)


def mantel_haenszel_ratio(statistics: Statistics, level: float) -> Estimate:
    """The common ratio over strata (Greenland and Robins, 1985), on the scale of logarithms."""
    value, variance = _common_ratio(_strata(statistics, 0.0))
    if value is None:
        return NOTHING
    centre: float | None = value
    if variance <= _FLAT:
        centre, variance = _common_ratio(_strata(statistics, 0.5))
    centre, reach = value if centre is None else centre, _reach(statistics, level, variance)
    if value == 0:
        return 0.0, 0.0, max(0.0, centre * math.exp(reach))
    place = math.log(centre)
    return value, min(value, math.exp(place - reach)), max(value, math.exp(place + reach))


def _common_ratio(strata: list[tuple[float, float, float, float]]) -> tuple[float | None, float]:
    r = s = p = 0.0
    for a, n1, c, n0 in strata:
        t = n1 + n0
        r, s = r + a * n0 / t, s + c * n1 / t
        p += (n1 * n0 * (a + c) - a * c * t) / (t * t)
    if s == 0:
        return None, 0.0
    return (0.0, 0.0) if r == 0 else (r / s, p / (r * s))


def mantel_haenszel_difference(statistics: Statistics, level: float) -> Estimate:
    """The common difference over strata with the variance of Sato (1989)."""
    value, variance = _common_difference(_strata(statistics, 0.0))
    if value is None:
        return NOTHING
    centre: float | None = value
    if variance <= _FLAT:
        centre, variance = _common_difference(_strata(statistics, 0.5))
    centre, reach = value if centre is None else centre, _reach(statistics, level, variance)
    return value, max(-1.0, min(value, centre - reach)), min(1.0, max(value, centre + reach))


def _common_difference(strata: list[tuple[float, float, float, float]]) -> tuple[float | None, float]:
    weight = gap = p = q = 0.0
    for a, n1, c, n0 in strata:
        t = n1 + n0
        weight, gap = weight + n1 * n0 / t, gap + (a * n0 - c * n1) / t
        p += (n1 * n1 * c - n0 * n0 * a + n1 * n0 * (n0 - n1) / 2) / (t * t)
        q += (a * (n0 - c) + c * (n1 - a)) / (2 * t)
    if weight == 0:
        return None, 0.0
    difference = gap / weight
    return difference, max(0.0, difference * p + q) / weight**2
