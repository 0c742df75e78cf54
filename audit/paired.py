"""Paired: intervals for how two models differ on the same rows. Each follows from counts that a record keeps.

Two models judged on the same rows make many of the same mistakes, so what they differ by is known far better
than either number: only rows that they answer differently say anything about the difference.

Sources: McNemar (1947), made exact by conditioning on the rows that differ; Tango (1998) for the score
interval of the difference of paired proportions; DeLong, DeLong and Clarke-Pearson (1988) for areas under
curves; Efron (1979) for the bootstrap; Zou and Donner (2008) for means over strata.
"""

import math
from collections.abc import Callable, Mapping
from statistics import NormalDist
from typing import Any

from audit.replicates import Estimate
from audit.replicates import estimate as from_quantiles

Statistics = Mapping[str, Any]
UNDEFINED: Estimate = (None, None, None)
_BISECTIONS = 60


def paired_proportions(statistics: Statistics, level: float) -> Estimate:
    """Difference of the share of new less that of base, over the same rows.

    Each end is the wider of two: Tango's score interval, and the exact interval given how many rows differ.
    So 0 is left out only where McNemar's exact test agrees, however few rows differ.

    Args:
        statistics: rows by what became of them: `both`, `base_only`, `new_only`, `neither`.
        level: two-sided confidence level.

    Returns:
        Value, low, high in [-1, 1]; all None for no rows.
    """
    lost, gained = float(statistics["base_only"]), float(statistics["new_only"])
    rows = lost + gained + float(statistics["both"]) + float(statistics["neither"])
    if rows == 0:
        return UNDEFINED
    value = (gained - lost) / rows
    low, high = _tango(gained, lost, rows, level)
    exact_low, exact_high = _conditional(gained, lost, rows, level)
    return value, max(-1.0, min(low, exact_low, value)), min(1.0, max(high, exact_high, value))


def _conditional(gained: float, lost: float, rows: float, level: float) -> tuple[float, float]:
    """Clopper-Pearson on the rows that differ, as a difference over all rows; a point where none differs."""
    from scipy.special import betaincinv

    differ, tail = gained + lost, (1 - level) / 2
    if differ == 0:
        return 0.0, 0.0
    low = 0.0 if gained == 0 else float(betaincinv(gained, lost + 1, tail))
    high = 1.0 if lost == 0 else float(betaincinv(gained + 1, lost, 1 - tail))
    return (2 * low - 1) * differ / rows, (2 * high - 1) * differ / rows


def _tango(gained: float, lost: float, rows: float, level: float) -> tuple[float, float]:
    """The differences at which Tango's score statistic reaches the normal quantile on either side."""
    z = NormalDist().inv_cdf(0.5 + level / 2)
    value = (gained - lost) / rows

    def beyond(delta: float) -> bool:
        return abs(_score(gained, lost, rows, delta)) > z

    return _edge(beyond, value, -1.0), _edge(beyond, value, 1.0)


def _edge(beyond: Callable[[float], bool], inside: float, outside: float) -> float:
    if not beyond(outside):
        return outside
    for _ in range(_BISECTIONS):
        middle = (inside + outside) / 2
        inside, outside = (inside, middle) if beyond(middle) else (middle, outside)
    return outside


def _score(gained: float, lost: float, rows: float, delta: float) -> float:
    """Tango's statistic of `delta`, with the share of lost rows at its restricted likelihood maximum."""
    gap = gained - lost - rows * delta
    b = -gained - lost + (2 * rows - gained + lost) * delta
    root = math.sqrt(max(0.0, b * b + 8 * rows * lost * delta * (1 - delta)))
    share = max(0.0, (root - b) / (4 * rows))
    variance = rows * (2 * share + delta * (1 - delta))
    if variance <= 0:
        return 0.0 if gap == 0 else math.copysign(math.inf, gap)
    return gap / math.sqrt(variance)


def mean_of_paired(statistics: Statistics, level: float) -> Estimate:
    """Unweighted mean of paired differences over strata (balanced accuracy), by MOVER over their intervals.

    Args:
        statistics: `strata`, each as `paired_proportions` takes it.
        level: two-sided confidence level.
    """
    found = [paired_proportions(part, level) for part in statistics["strata"]]
    count = len(found)
    if not count or any(value is None for value, _, _ in found):
        return UNDEFINED
    parts = [(value or 0.0, low or 0.0, high or 0.0) for value, low, high in found]
    value = math.fsum(v for v, _, _ in parts) / count
    below = math.hypot(*(v - low for v, low, _ in parts)) / count
    above = math.hypot(*(high - v for v, _, high in parts)) / count
    return value, value - below, value + above


def paired_auc(statistics: Statistics, level: float) -> Estimate:
    """Difference of two areas under ROC curves on the same rows, by DeLong's variance and Student's t.

    Args:
        statistics: `value`; `positives` and `negatives`, the rows of either outcome; `sd_positives` and
            `sd_negatives`, the standard deviations over them of the difference of the placements.
        level: two-sided confidence level.

    Returns:
        Value, low, high; all None for fewer than two rows of either outcome.
    """
    from scipy.special import stdtrit

    sizes = float(statistics["positives"]), float(statistics["negatives"])
    if min(sizes) < 2:  # noqa: PLR2004 - one row has no spread
        return UNDEFINED
    value = float(statistics["value"])
    spreads = float(statistics["sd_positives"]), float(statistics["sd_negatives"])
    error = math.sqrt(sum(sd * sd / n for sd, n in zip(spreads, sizes, strict=True)))
    half = float(stdtrit(min(sizes) - 1, 0.5 + level / 2)) * error
    return value, value - half, value + half


def paired_bootstrap(statistics: Statistics, level: float) -> Estimate:
    """A difference from the quantiles of its bootstrap over rows: percentiles, joined to the normal interval.

    Args:
        statistics: what `audit.replicates.quantiles` keeps of the draws of the difference.
        level: two-sided confidence level.

    Returns:
        Value, low, high; no interval where the draws do not vary.
    """
    value, low, high = from_quantiles({"groups": [statistics]}, level)
    if value is None or low is None or high is None:
        return value, None, None
    half = NormalDist().inv_cdf(0.5 + level / 2) * float(statistics["spread"])
    return value, min(low, value - half), max(high, value + half)


def same_answers(method: str, statistics: Statistics) -> bool:
    """Whether no row says anything about the difference, so that it cannot be significant at any level."""
    if method == "paired_proportions":
        return not (statistics["base_only"] or statistics["new_only"])
    if method == "mean_of_paired":
        return all(same_answers("paired_proportions", part) for part in statistics["strata"])
    if method == "paired_auc":
        return not (statistics["value"] or statistics["sd_positives"] or statistics["sd_negatives"])
    if method == "student_t":
        return not (statistics["mean"] or statistics["sd"])
    if method == "two_intervals":
        return statistics.get("differ") == 0
    return method == "exact"
