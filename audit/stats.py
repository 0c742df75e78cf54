"""Intervals. Every one is a function of sufficient statistics and a level, so that it can be derived again.

Two-sided intervals at confidence `level`. No function here knows about limits or verdicts, and none
needs torch. An undefined value (0/0) is None, never a number.

Sources: Wilson (1927); Newcombe (1998), method 10, for differences of proportions; Koopman (1984) for
ratios of proportions; Zou and Donner (2008) for means and ratios of proportions (MOVER); Clopper and
Pearson (1934);
Student (1908) for means; Welch (1947) for differences of means.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from statistics import NormalDist
from typing import Any

from audit.evidence import Measure
from audit.paired import mean_of_paired, paired_auc, paired_bootstrap, paired_proportions
from audit.replicates import estimate as bootstrap_quantiles
from audit.strata import mantel_haenszel_difference, mantel_haenszel_ratio

Statistics = Mapping[str, Any]
Estimate = tuple[float | None, float | None, float | None]
UNDEFINED: Estimate = (None, None, None)
DEFAULT_LEVEL = 0.95
_BISECTIONS = 80
_EXACT_BELOW = 10
_ROUNDING = 1e-12
_WIDEST = 700.0  # of a logarithm: beyond it a number is no longer finite


def normal_quantile(level: float) -> float:
    """Two-sided standard-normal quantile: 1.96 for level .95."""
    return NormalDist().inv_cdf(0.5 + level / 2)


def wilson(statistics: Statistics, level: float) -> Estimate:
    """Wilson score interval of the proportion x/n. Undefined for n = 0."""
    x, n = float(statistics["x"]), float(statistics["n"])
    if n == 0:
        return UNDEFINED
    z = normal_quantile(level)
    p = x / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low = 0.0 if x == 0 else max(0.0, centre - half)
    high = 1.0 if x == n else min(1.0, centre + half)
    return p, low, high


def clopper_pearson(statistics: Statistics, level: float) -> Estimate:
    """Exact interval of the proportion x/n: never below its nominal coverage, for tiny tables."""
    from scipy.special import betaincinv

    x, n = float(statistics["x"]), float(statistics["n"])
    if n == 0:
        return UNDEFINED
    tail = (1 - level) / 2
    low = 0.0 if x == 0 else float(betaincinv(x, n - x + 1, tail))
    high = 1.0 if x == n else float(betaincinv(x + 1, n - x, 1 - tail))
    return x / n, low, high


def newcombe(statistics: Statistics, level: float) -> Estimate:
    """Difference x1/n1 - x0/n0 with Newcombe's hybrid score interval (method 10).

    Below ten rows in either group the hybrid is made of exact limits instead: the score interval of a
    handful of rows covers less than it says.
    """
    level = _shared(statistics, level)
    p1, l1, u1, p0, l0, u0 = _two(statistics, level)
    if p1 is None or l1 is None or u1 is None or p0 is None or l0 is None or u0 is None:
        return UNDEFINED
    d = p1 - p0
    return d, d - math.hypot(p1 - l1, u0 - p0), d + math.hypot(u1 - p1, p0 - l0)


def _two(statistics: Statistics, level: float) -> tuple[float | None, ...]:
    """Both proportions with their limits: exact ones where either group has fewer than ten rows."""
    tiny = min(float(statistics["n1"]), float(statistics["n0"])) < _EXACT_BELOW
    one = clopper_pearson if tiny else wilson
    first = one({"x": statistics["x1"], "n": statistics["n1"]}, level)
    return (*first, *one({"x": statistics["x0"], "n": statistics["n0"]}, level))


def difference_of_many(statistics: Statistics, level: float) -> Estimate:
    """Difference x1/n1 - x0/n0 of a slice picked out of `searched` ones, valid for all of them at once.

    The level is shared by all slices that were searched (Bonferroni), at any level asked for, so that the
    worst of thousands is not judged as if it had been the only one. Newcombe's hybrid (MOVER) over exact
    limits of both rates: at levels that extreme the Wilson limits of a small slice are too narrow.
    """
    each = bonferroni(level, int(statistics["searched"]))
    p1, l1, u1 = clopper_pearson({"x": statistics["x1"], "n": statistics["n1"]}, each)
    p0, l0, u0 = clopper_pearson({"x": statistics["x0"], "n": statistics["n0"]}, each)
    if p1 is None or l1 is None or u1 is None or p0 is None or l0 is None or u0 is None:
        return UNDEFINED
    d = p1 - p0
    return d, d - math.hypot(p1 - l1, u0 - p0), d + math.hypot(u1 - p1, p0 - l0)


def koopman(statistics: Statistics, level: float) -> Estimate:
    """Ratio (x1/n1)/(x0/n0) with Koopman's chi-square (score) interval.

    Undefined when either n is 0 or nobody in the reference is selected: a ratio to zero is not a number.
    Below ten rows in either group it is widened to what exact limits of both proportions allow.
    """
    level = _shared(statistics, level)
    x1, n1, x0, n0 = (float(statistics[k]) for k in ("x1", "n1", "x0", "n0"))
    if n1 == 0 or n0 == 0 or x0 == 0:
        return UNDEFINED
    ratio = (x1 / n1) / (x0 / n0)
    limit = normal_quantile(level) ** 2
    low = 0.0 if x1 == 0 else _score_root(x1, n1, x0, n0, ratio, limit, upper=False)
    high = _score_root(x1, n1, x0, n0, ratio, limit, upper=True)
    if min(n1, n0) >= _EXACT_BELOW:
        return ratio, low, high
    exact_low, exact_high = _exact_ratio(statistics, level)
    return ratio, min(low, exact_low), max(high, exact_high)


def koopman_exact(statistics: Statistics, level: float) -> Estimate:
    """Ratio (x1/n1)/(x0/n0): Koopman's interval, widened to what exact limits of both proportions allow.

    Where few rows were selected, or few were not, the tails of a chi-square statistic are too thin at the
    levels that a family of many comparisons asks for: two of 17 against two of 412 is no rare thing. So
    each end is the wider of Koopman's and of the square-and-add (MOVER) end on the scale of logarithms over
    Clopper-Pearson limits (Zou and Donner, 2008). With many rows the two agree and nothing is widened.
    """
    value, low, high = koopman(statistics, level)
    if value is None or low is None or high is None:
        return UNDEFINED
    exact_low, exact_high = _mover_ratio(statistics, _shared(statistics, level), value)
    return value, min(low, exact_low), max(high, exact_high)


def _mover_ratio(statistics: Statistics, level: float, ratio: float) -> tuple[float, float]:
    """Ends over exact limits; without a logarithm (nobody selected), those that share the error."""
    p1, l1, u1 = clopper_pearson({"x": statistics["x1"], "n": statistics["n1"]}, level)
    p0, l0, u0 = clopper_pearson({"x": statistics["x0"], "n": statistics["n0"]}, level)
    if not (p1 and l1 and u1 and p0 and l0 and u0):
        return _exact_ratio(statistics, level)
    below = math.hypot(math.log(p1 / l1), math.log(u0 / p0))
    above = math.hypot(math.log(u1 / p1), math.log(p0 / l0))
    return ratio * math.exp(-below), ratio * math.exp(above)


def _exact_ratio(statistics: Statistics, level: float) -> tuple[float, float]:
    """The least and greatest ratio of exact limits that each hold with half the error."""
    each = bonferroni(level, 2)
    _, l1, u1 = clopper_pearson({"x": statistics["x1"], "n": statistics["n1"]}, each)
    _, l0, u0 = clopper_pearson({"x": statistics["x0"], "n": statistics["n0"]}, each)
    return float(l1 or 0.0) / float(u0 or 1.0), float(u1 or 1.0) / float(l0 or _ROUNDING)


def _score_root(
    x1: float, n1: float, x0: float, n0: float, ratio: float, limit: float, *, upper: bool
) -> float:
    """The ratio on one side of the estimate at which Koopman's chi-square reaches `limit`."""
    inside = max(ratio, 1e-12)
    outside = inside
    factor = 2.0 if upper else 0.5
    for _ in range(200):
        outside *= factor
        if _koopman_chi_square(outside, x1, n1, x0, n0) > limit:
            break
    for _ in range(_BISECTIONS):
        middle = math.sqrt(inside * outside)
        if _koopman_chi_square(middle, x1, n1, x0, n0) > limit:
            outside = middle
        else:
            inside = middle
    return inside


def _koopman_chi_square(phi: float, x1: float, n1: float, x0: float, n0: float) -> float:
    """Score statistic of p1/p0 = phi at the restricted likelihood maximum, in the form that keeps p0 <= 1."""
    b = phi * (n1 + x0) + x1 + n0
    root = math.sqrt(max(0.0, b * b - 4 * (n1 + n0) * phi * (x1 + x0)))
    p0 = min(1.0, 2 * (x1 + x0) / (b + root))
    p1 = min(1.0, phi * p0)
    total = 0.0
    for x, n, p in ((x1, n1, p1), (x0, n0, p0)):
        variance = n * p * (1 - p)
        gap = x - n * p
        if variance > _ROUNDING * n:
            total += gap * gap / variance
        elif abs(gap) > 1e-9 * max(1.0, n):
            return math.inf
    return total


def odds(statistics: Statistics, level: float) -> Estimate:
    """Ratio x/y of two counts (false negatives over false positives), from Wilson on x/(x+y).

    Undefined when y is 0: neither 0/0 nor a ratio to zero is a number.
    """
    x, y = float(statistics["x"]), float(statistics["y"])
    if y == 0:
        return UNDEFINED
    _, low, high = wilson({"x": x, "n": x + y}, level)
    if low is None or high is None:
        return UNDEFINED
    return x / y, low / (1 - low), high / (1 - high)


def odds_difference(statistics: Statistics, level: float) -> Estimate:
    """Difference x1/y1 - x0/y0 of two such ratios, with the MOVER interval (Zou and Donner, 2008)."""
    level = _shared(statistics, level)
    v1, l1, u1 = odds({"x": statistics["x1"], "y": statistics["y1"]}, level)
    v0, l0, u0 = odds({"x": statistics["x0"], "y": statistics["y0"]}, level)
    if v1 is None or l1 is None or u1 is None or v0 is None or l0 is None or u0 is None:
        return UNDEFINED
    d = v1 - v0
    return d, d - math.hypot(v1 - l1, u0 - v0), d + math.hypot(u1 - v1, v0 - l0)


def student_t(statistics: Statistics, level: float) -> Estimate:
    """Mean of n values with standard deviation sd (n - 1 in the denominator). No interval for n < 2."""
    from scipy.special import stdtrit

    n = float(statistics["n"])
    if n == 0:
        return UNDEFINED
    mean = float(statistics["mean"])
    if n < 2:  # noqa: PLR2004 - one value has no spread
        return mean, None, None
    half = float(stdtrit(n - 1, 0.5 + level / 2)) * float(statistics["sd"]) / math.sqrt(n)
    return mean, mean - half, mean + half


def root_student_t(statistics: Statistics, level: float) -> Estimate:
    """Square root of a mean (root mean squared error): the interval of the mean, square-rooted.

    The statistics are those of `student_t` on the squares; a lower end below 0 becomes 0.
    """
    value, low, high = student_t(statistics, level)
    if value is None:
        return UNDEFINED
    if low is None or high is None:
        return math.sqrt(value), None, None
    return math.sqrt(value), math.sqrt(max(0.0, low)), math.sqrt(high)


def r_squared(statistics: Statistics, level: float) -> Estimate:
    """1 - error / spread, of which `error` is the mean squared error and `spread` the variance of the truth.

    Both are means over the same n rows; `error_sd`, `spread_sd` and `covariance` (n - 1 in the denominator)
    are those of what is averaged. The delta method on the logarithm of their ratio (Cramer, 1946), with
    Student's t: no end lies above 1. Undefined where the truth does not vary; no interval for n < 3 or where
    no prediction is off.
    """
    from scipy.special import stdtrit

    n, error, spread = (float(statistics[key]) for key in ("n", "error", "spread"))
    if n == 0 or spread <= 0:
        return UNDEFINED
    ratio = error / spread
    if n < 3 or error <= 0:  # noqa: PLR2004 - two rows lie on a line
        return 1 - ratio, None, None
    own, other = float(statistics["error_sd"]) / error, float(statistics["spread_sd"]) / spread
    variance = own**2 + other**2 - 2 * float(statistics["covariance"]) / (error * spread)
    width = float(stdtrit(n - 1, 0.5 + level / 2)) * math.sqrt(max(0.0, variance) / n)
    factor = math.exp(min(width, _WIDEST))
    return 1 - ratio, 1 - ratio * factor, 1 - ratio / factor


def welch(statistics: Statistics, level: float) -> Estimate:
    """Difference mean1 - mean0 of two groups whose variances may differ. No interval for one row in either.

    Degrees of freedom: Welch (1947) and Satterthwaite (1946).
    """
    from scipy.special import stdtrit

    n1, mean1, sd1, n0, mean0, sd0 = (
        float(statistics[key]) for key in ("n1", "mean1", "sd1", "n0", "mean0", "sd0")
    )
    if n1 == 0 or n0 == 0:
        return UNDEFINED
    difference = mean1 - mean0
    if n1 < 2 or n0 < 2:  # noqa: PLR2004 - one value has no spread
        return difference, None, None
    part1, part0 = sd1 * sd1 / n1, sd0 * sd0 / n0
    variance = part1 + part0
    if variance == 0:
        return difference, difference, difference
    share1, share0 = part1 / variance, part0 / variance
    freedom = 1 / (share1 * share1 / (n1 - 1) + share0 * share0 / (n0 - 1))
    half = float(stdtrit(freedom, 0.5 + level / 2)) * math.sqrt(variance)
    return difference, difference - half, difference + half


def largest_difference(statistics: Statistics, level: float) -> Estimate:
    """Largest difference between the proportions x[i]/n[i], with simultaneous pairwise intervals.

    All pairs get a Newcombe interval at a Bonferroni-adjusted level. The true largest difference is at
    least the greatest of the lower ends and at most the farthest of all ends from 0, on either side (a small
    group may truly lie above one that it lies below here), jointly with
    probability >= level. A percentile bootstrap of max - min is not used: it excludes zero for equal groups.
    """
    return _over_pairs(statistics, level, newcombe)


def _over_pairs(
    statistics: Statistics, level: float, estimate: Callable[[Statistics, float], Estimate]
) -> Estimate:
    pairs = list(combinations(zip(statistics["x"], statistics["n"], strict=True), 2))
    if not pairs:
        return UNDEFINED
    adjusted = bonferroni(level, len(pairs))
    values, lows, highs = [], [], []
    for a, b in pairs:
        (x1, n1), (x0, n0) = (a, b) if a[0] * b[1] >= b[0] * a[1] else (b, a)
        value, low, high = estimate({"x1": x1, "n1": n1, "x0": x0, "n0": n0}, adjusted)
        if value is None or low is None or high is None:
            return UNDEFINED
        values.append(value)
        lows.append(low)
        highs.append(max(high, -low))
    return max(values), max(0.0, *lows), max(highs)


def larger_of_two(statistics: Statistics, level: float) -> Estimate:
    """The larger of two largest differences (equalized odds: of TPR and of FPR), at a shared level."""
    adjusted = bonferroni(level, 2)
    parts = [largest_difference(statistics[k], adjusted) for k in ("first", "second")]
    if any(part[0] is None for part in parts):
        return UNDEFINED
    value, low, high = (max(column) for column in zip(*parts, strict=True))
    return value, low, high


def mean_of_proportions(statistics: Statistics, level: float) -> Estimate:
    """Unweighted mean of the proportions x[i]/n[i] (balanced accuracy), with the MOVER interval over Wilson.

    Undefined when any n[i] is 0. Source: Zou and Donner (2008), which recovers each variance from its own
    interval, so that it does not collapse where a proportion is 0 or 1.
    """
    parts = [wilson({"x": x, "n": n}, level) for x, n in zip(statistics["x"], statistics["n"], strict=True)]
    known = [
        (p, low, high) for p, low, high in parts if p is not None and low is not None and high is not None
    ]
    if not known or len(known) < len(parts):
        return UNDEFINED
    count = len(known)
    value = math.fsum(p for p, _, _ in known) / count
    below = math.hypot(*(p - low for p, low, _ in known)) / count
    above = math.hypot(*(high - p for p, _, high in known)) / count
    return value, max(0.0, value - below), min(1.0, value + above)


def exact(statistics: Statistics, level: float) -> Estimate:
    """A number that was counted in full and carries no sampling error."""
    del level
    value = float(statistics["value"])
    return value, value, value


def wilson_against(statistics: Statistics, level: float) -> Estimate:
    """Difference between the proportion x/n and a stated share, `reference`, that has no sampling error."""
    p, low, high = wilson(statistics, level)
    if p is None or low is None or high is None:
        return UNDEFINED
    stated = float(statistics["reference"])
    return p - stated, low - stated, high - stated


def score_bins(statistics: Statistics, level: float) -> Estimate:
    """A number from counts by score bin (AUC, KS, ECE, Brier); see `audit.scores.estimate`."""
    from audit.scores import estimate

    return estimate(statistics, level)


def cramers_v(statistics: Statistics, level: float) -> Estimate:
    """Cramer's V of a table of counts; see `audit.association.cramers_v`."""
    from audit.association import cramers_v as estimate

    return estimate(statistics, level)


def quantile(statistics: Statistics, level: float) -> Estimate:
    """A quantile of counted values with the interval of order statistics; see `audit.quantile.quantile`."""
    from audit.quantile import quantile as estimate

    return estimate(statistics, level)


def calibration_bins(statistics: Statistics, level: float) -> Estimate:
    """A debiased or class-wise calibration error from score bins; see `audit.reliability.bins.estimate`."""
    from audit.reliability.bins import estimate

    return estimate(statistics, level)


def risk_coverage(statistics: Statistics, level: float) -> Estimate:
    """A number of the risk-coverage curve; see `audit.reliability.risk.estimate`."""
    from audit.reliability.risk import estimate

    return estimate(statistics, level)


def rate_at_rate(statistics: Statistics, level: float) -> Estimate:
    """False positive rate at a true positive rate; see `audit.reliability.detection.estimate`."""
    from audit.reliability.detection import estimate

    return estimate(statistics, level)


def two_intervals(statistics: Statistics, level: float) -> Estimate:
    """Difference of two numbers from the interval of each alone (MOVER: Zou and Donner, 2008).

    For two sets of rows that have nothing to do with each other. On the same rows it is wider than it need
    be, as long as what is hard for one model is hard for the other.

    Args:
        statistics: `base` and `new`, each with `method` and `statistics`; `nearness` is `zero` or `one` where
            not the numbers differ but how near they are to it (`nearness_to`), else empty; `differ`, the rows
            that both models answer differently, where it is known and too small for a bootstrap of them.
        level: two-sided confidence level.
    """
    found = []
    for key in ("new", "base"):
        part = statistics[key]
        value, low, high = METHODS[part["method"]](part["statistics"], level)
        if value is None or low is None or high is None:
            return UNDEFINED
        found.append(_nearness(statistics["nearness"], value, low, high))
    (n, n_low, n_high), (b, b_low, b_high) = found
    return n - b, n - b - math.hypot(n - n_low, b_high - b), n - b + math.hypot(n_high - n, b - b_low)


def from_records(old: Measure, new: Measure, **more: Any) -> tuple[str, dict[str, Any]]:
    """Method and statistics of how a measure of two records differs, by what each says alone."""
    sides = {
        key: {"method": item.method, "statistics": item.statistics}
        for key, item in (("base", old), ("new", new))
    }
    nearness = new.better if new.better in ("zero", "one") else ""
    return "two_intervals", {**sides, "nearness": nearness, **more}


def nearness_to(which: str, value: float) -> float:
    """|value| for `zero`, the smaller of value and 1/value for `one`, else the value itself."""
    if which == "zero":
        return abs(value)
    if which == "one":
        return min(value, 1 / value) if value > 0 else 0.0
    return value


def _nearness(which: str, value: float, low: float, high: float) -> tuple[float, float, float]:
    ends = [nearness_to(which, end) for end in (low, high)]
    centre = {"zero": 0.0, "one": 1.0}.get(which)
    if centre is not None and low <= centre <= high:
        ends.append(centre)
    return nearness_to(which, value), min(ends), max(ends)


METHODS: dict[str, Callable[[Statistics, float], Estimate]] = {
    "wilson": wilson,
    "clopper_pearson": clopper_pearson,
    "newcombe": newcombe,
    "difference_of_many": difference_of_many,
    "koopman": koopman,
    "koopman_exact": koopman_exact,
    "odds": odds,
    "odds_difference": odds_difference,
    "student_t": student_t,
    "root_student_t": root_student_t,
    "r_squared": r_squared,
    "welch": welch,
    "largest_difference": largest_difference,
    "larger_of_two": larger_of_two,
    "mean_of_proportions": mean_of_proportions,
    "exact": exact,
    "mantel_haenszel_ratio": mantel_haenszel_ratio,
    "mantel_haenszel_difference": mantel_haenszel_difference,
    "wilson_against": wilson_against,
    "score_bins": score_bins,
    "calibration_bins": calibration_bins,
    "risk_coverage": risk_coverage,
    "rate_at_rate": rate_at_rate,
    "cramers_v": cramers_v,
    "quantile": quantile,
    "bootstrap_quantiles": bootstrap_quantiles,
    "paired_proportions": paired_proportions,
    "mean_of_paired": mean_of_paired,
    "paired_auc": paired_auc,
    "paired_bootstrap": paired_bootstrap,
    "two_intervals": two_intervals,
}


def _shared(statistics: Statistics, level: float) -> float:
    """The level of a comparison that the data picked out of `picked_from`, e.g. with the best group."""
    return bonferroni(level, int(statistics.get("picked_from", 1)))


def bonferroni(level: float, comparisons: int) -> float:
    """The level of each of `comparisons` intervals that together hold with probability >= level."""
    return 1 - (1 - level) / max(1, comparisons)


def measure(
    name: str, method: str, statistics: Statistics, *, level: float = DEFAULT_LEVEL, **fields: Any
) -> Measure:
    """A `Measure` whose value and interval are derived from `statistics` by `method`.

    `reason`, among the fields, is kept only where the value is undefined.
    """
    value, low, high = METHODS[method](statistics, level)
    reason = fields.pop("reason", "") or "the denominator is 0"
    return Measure(
        name=name,
        value=value,
        low=low,
        high=high,
        level=level,
        method=method,
        statistics=statistics,
        reason=reason if value is None else "",
        **fields,
    )


def proportion(name: str, x: int, n: int, **fields: Any) -> Measure:
    """The share x/n with its Wilson interval, the exact one below 10 rows; undefined when n is 0."""
    fields.setdefault("reason", f"{x} of {n} rows: the denominator is 0")
    method = "clopper_pearson" if n < _EXACT_BELOW else "wilson"
    return measure(name, method, {"x": x, "n": n}, n=n, **fields)


def mean(name: str, values: Sequence[float], **fields: Any) -> Measure:
    """The mean of `values` with its Student t interval; undefined for no values."""
    n = len(values)
    centre = math.fsum(values) / n if n else 0.0
    spread = math.sqrt(math.fsum((v - centre) ** 2 for v in values) / (n - 1)) if n > 1 else 0.0
    fields.setdefault("unit", "")
    return measure(name, "student_t", {"n": n, "mean": centre, "sd": spread}, n=n, **fields)


def interval_at(item: Measure, level: float) -> tuple[float | None, float | None]:
    """The interval of a measure at another level, derived from its statistics.

    A method this version does not know is widened on the normal scale, which is exact for a normal
    estimate and close for a large sample.
    """
    if item.method in METHODS and item.statistics:
        _, low, high = METHODS[item.method](item.statistics, level)
        return low, high
    if item.value is None or item.low is None or item.high is None or item.level is None:
        return None, None
    factor = normal_quantile(level) / normal_quantile(item.level)
    return item.value - (item.value - item.low) * factor, item.value + (item.high - item.value) * factor


def rows_needed(item: Measure, limit: float, level: float) -> int | None:
    """About how many rows would settle on which side of `limit` the value lies, if it stays what it is.

    The half-width shrinks with the square root of the rows, so n * (half-width / distance)^2; for a
    proportion the Wilson interval itself is solved. None when the value equals the limit.
    """
    low, high = interval_at(item, level)
    if item.value is None or low is None or high is None or not item.n:
        return None
    distance = abs(item.value - limit)
    if distance <= 1e-12 * max(1.0, abs(limit)):
        return None
    half = (item.value - low) if item.value > limit else (high - item.value)
    rows = max(item.n, math.ceil(item.n * (half / distance) ** 2))
    return _wilson_rows(item.value, limit, level, rows) if item.method == "wilson" else rows


def _wilson_rows(p: float, limit: float, level: float, guess: int) -> int:
    """The smallest n (to 1 %) whose Wilson interval around p no longer contains `limit`."""

    def settled(n: int) -> bool:
        _, low, high = wilson({"x": p * n, "n": n}, level)
        return low is not None and high is not None and (low >= limit or high <= limit)

    high = max(guess, 2)
    while not settled(high):
        high *= 2
    low = 1
    while high - low > max(1, high // 100):
        middle = (low + high) // 2
        low, high = (low, middle) if settled(middle) else (middle, high)
    return high
