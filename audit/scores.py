"""Score bins: AUC, KS and calibration error from counts of rows by label and score bin. Numpy only.

Group x label x bin counts are all that these numbers need, and the cell bootstrap draws from them:
`multinomial(N, cells / N)` has the distribution of the cells of a bootstrap over rows, at a cost that does
not grow with the rows (Efron, 1979). Bins hold equal shares of all rows and never part equal scores.
"""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from audit.replicates import Estimate, over_pairs

BINS = 1024
DRAWS = 1000
Ints = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]
_TAIL_DRAWS = 5
_NO_SPREAD = 1e-12
_HALF = 0.5
_BIASED = frozenset({"ks", "ece"})


def equal_mass_bins(scores: Doubles, bins: int = BINS) -> Ints:
    """[N] bin of each row, 0 to bins - 1, rising with the score.

    With no more than `bins` different scores each has a bin of its own, and nothing is lost.

    Args:
        scores: [N] finite scores.
        bins: number of bins; each holds about N / bins rows, more where scores are equal.
    """
    values, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    if len(values) <= bins:
        return place.reshape(-1).astype(np.int64)
    first = np.cumsum(counts) - counts
    found: Ints = (first * bins // len(scores))[place.reshape(-1)]
    return found


def count_scores(codes: Ints, labels: Ints, places: Ints, groups: int, bins: int) -> Ints:
    """[G, 2, B] counts of rows by group, label (0 or 1) and score bin, in one pass.

    Args:
        codes: [N] group of each row.
        labels: [N] 1 for the favourable class.
        places: [N] score bin of each row.
        groups: number of groups.
        bins: number of bins.
    """
    index = (codes * 2 + labels) * bins + places
    return np.bincount(index, minlength=groups * 2 * bins).reshape(groups, 2, bins)


def compact(table: Ints) -> dict[str, list[int]]:
    """The counts [2, B] of one group for `auc` and `ks`, with runs of bins of a single label joined.

    Ranks between the labels stay as they are, so both numbers and their bootstrap do too.
    """
    negatives: list[int] = []
    positives: list[int] = []
    for negative, positive in table.T.tolist():
        if negative + positive == 0:
            continue
        joins = bool(negatives) and (
            (negative == 0 and negatives[-1] == 0) or (positive == 0 and positives[-1] == 0)
        )
        if joins:
            negatives[-1] += negative
            positives[-1] += positive
        else:
            negatives.append(negative)
            positives.append(positive)
    return {"negatives": negatives, "positives": positives}


def auc(negatives: Ints, positives: Ints) -> Doubles:
    """[...] area under the ROC curve from counts [..., B]; pairs within a bin count half; NaN for 0/0."""
    below = np.cumsum(negatives, axis=-1) - negatives / 2
    pairs = negatives.sum(axis=-1) * positives.sum(axis=-1)
    return _divide((positives * below).sum(axis=-1), pairs)


def ks(negatives: Ints, positives: Ints) -> Doubles:
    """[...] Kolmogorov-Smirnov distance of the scores of the two labels, from counts [..., B]."""
    gap: Doubles = np.abs(_curve("ks", negatives, positives, ())).max(axis=-1)
    return gap


def ece(negatives: Ints, positives: Ints, scores: Sequence[float]) -> Doubles:
    """[...] expected calibration error: mean over rows of |observed rate - mean score| of their bin.

    Args:
        negatives: [..., B] counts.
        positives: [..., B] counts.
        scores: [B] mean score of the rows of each bin, in [0, 1].
    """
    gap: Doubles = np.abs(_curve("ece", negatives, positives, scores)).sum(axis=-1)
    return gap


def replicates(cells: Mapping[str, Any], metric: str, draws: int, seed: int) -> Doubles:
    """[draws] bootstrap values of `auc`, `ks` or `ece` from the counts of one group; NaN where 0/0.

    Args:
        cells: `negatives` and `positives`, [B] each, and `scores` for `ece`.
        metric: the number.
        draws: bootstrap replicates.
        seed: seed of the draws; the same for every group.
    """
    return _drawn(cells, metric, draws, seed)[0]


def _drawn(cells: Mapping[str, Any], metric: str, draws: int, seed: int) -> tuple[Doubles, Doubles]:
    negatives, positives = tuple(cells["negatives"]), tuple(cells["positives"])
    return _replicates(negatives, positives, tuple(cells.get("scores", ())), metric, draws, seed)


@lru_cache(maxsize=1024)
def _replicates(
    negatives: tuple[int, ...],
    positives: tuple[int, ...],
    scores: tuple[float, ...],
    metric: str,
    draws: int,
    seed: int,
) -> tuple[Doubles, Doubles]:
    """[draws] values of the metric, and [K, draws] by how much noise alone may have pushed it up."""
    below, above = _resampled(negatives, positives, draws, seed)
    values = _value(metric, below, above, scores)
    if metric not in _BIASED:
        return values, np.zeros((0, draws))
    curve = _curve(metric, np.asarray(negatives), np.asarray(positives), scores)
    gaps = np.abs(_curve(metric, below, above, scores) - curve)
    if metric == "ks":
        return values, gaps.max(axis=-1)[None]
    return values, np.stack([gaps.sum(axis=-1), _calibrated(negatives, positives, scores, draws, seed)])


@lru_cache(maxsize=2)
def _resampled(
    negatives: tuple[int, ...], positives: tuple[int, ...], draws: int, seed: int
) -> tuple[Ints, Ints]:
    """[draws, B] each: counts of both labels in bootstrap samples; AUC and KS share them."""
    cells = np.array([*negatives, *positives], dtype=np.int64)
    rows = int(cells.sum())
    drawn = np.random.default_rng(seed).multinomial(rows, cells / rows, size=draws)
    return drawn[:, : len(negatives)], drawn[:, len(negatives) :]


def _calibrated(
    negatives: tuple[int, ...], positives: tuple[int, ...], scores: tuple[float, ...], draws: int, seed: int
) -> Doubles:
    """[draws] calibration errors of samples whose outcomes are drawn from the scores themselves.

    Consistency resampling (Broecker and Smith, 2007). A bin in which nobody has the outcome does not vary in
    a bootstrap, so its gap would pass for certain; drawn from its score, it varies as it should.
    """
    rows = np.asarray(negatives) + np.asarray(positives)
    drawn = np.random.default_rng(seed).binomial(rows, np.clip(scores, 0.0, 1.0), size=(draws, len(rows)))
    return ece(rows - drawn, drawn, scores)


def _curve(metric: str, negatives: Ints, positives: Ints, scores: Sequence[float]) -> Doubles:
    """[..., B] signed gaps whose absolute sum (ECE) or greatest absolute value (KS) is the metric."""
    if metric == "ks":
        below, above = (
            _divide(np.cumsum(part, axis=-1), part.sum(axis=-1, keepdims=True))
            for part in (negatives, positives)
        )
        return below - above
    rows = negatives + positives
    return _divide(positives - rows * np.asarray(scores, dtype=np.float64), rows.sum(axis=-1, keepdims=True))


def estimate(statistics: Mapping[str, Any], level: float) -> Estimate:
    """A number from score bins, or the largest difference of it between groups, with its interval.

    One group gives the number itself, two or more the largest difference between any two (`over_pairs`).

    Args:
        statistics: `metric` (`auc`, `ks`, `ece` or `brier`), `groups`, `draws` and `seed`. A group holds
            `negatives` and `positives` by bin, `scores` too for `ece`, and what `moments` gives for `brier`.
        level: two-sided confidence level.

    Returns:
        Value, low, high; all None where a group has no such number.
    """
    groups = statistics["groups"]

    def one(cells: Mapping[str, Any], at: float) -> Estimate:
        return _one(cells, statistics, at)

    return one(groups[0], level) if len(groups) == 1 else over_pairs(groups, level, one)


def _one(cells: Mapping[str, Any], statistics: Mapping[str, Any], level: float) -> Estimate:
    """One group's number with its interval."""
    metric = statistics["metric"]
    if metric == "brier":
        return _mean(cells, level)
    negatives, positives = (np.asarray(cells[key], dtype=np.int64) for key in ("negatives", "positives"))
    sizes = int(negatives.sum()), int(positives.sum())
    if sum(sizes) == 0 or (metric != "ece" and min(sizes) == 0):
        return None, None, None
    value = float(_value(metric, negatives, positives, cells.get("scores", ())))
    drawn, noise = _drawn(cells, metric, statistics["draws"], statistics["seed"])
    units = sum(sizes) if metric == "ece" else min(sizes)
    finite = np.isfinite(drawn)
    low, high = _interval(value, drawn[finite], noise[:, finite], level, units)
    if metric == "auc" and 0 < value < 1:
        least, most = _auc_limits(value, *sizes, level)
        low, high = min(low, least), max(high, most)
    return value, low, high


def _auc_limits(value: float, negatives: int, positives: int, level: float) -> tuple[float, float]:
    """Limits of an AUC between 0 and 1 on the logit scale, with the variance of Hanley and McNeil (1982).

    Joined to the bootstrap, which draws from a handful of ranks where one class is rare: with 10 positives
    among 1,000 and a true AUC of .98 its 95 % interval held the truth in 74 of 100 samples.
    """
    pairs, a = negatives * positives, value
    first, second = a / (2 - a), 2 * a * a / (1 + a)
    spread = a * (1 - a) + (positives - 1) * (first - a * a) + (negatives - 1) * (second - a * a)
    half = NormalDist().inv_cdf(0.5 + level / 2) * math.sqrt(spread / pairs) / (a * (1 - a))
    centre = math.log(a / (1 - a))
    least, most = 1 / (1 + math.exp(half - centre)), 1 / (1 + math.exp(-half - centre))
    return min(value, least), max(value, most)


def _interval(value: float, drawn: Doubles, noise: Doubles, level: float, units: int) -> tuple[float, float]:
    """Percentiles of the draws; for KS and ECE, which noise can only push up, with that push taken off.

    KS and ECE of any sample lie above 0, so a percentile would never reach down to 0, and draws lie as far
    above the value as it lies above the truth (Kumar, Liang and Ma, 2019). So the lower end is the value less
    a quantile of the absolute noise, and the upper end the percentile less the mean excess of the draws.
    Where the draws are too few for the level's tails, the normal interval with their spread is joined. Where
    they do not vary at all, what `units` rows cannot rule out is: a share of 1 - tail^(1 / units).
    """
    tail = (1 - level) / 2
    spread = float(drawn.std()) if len(drawn) else 0.0
    if spread <= _NO_SPREAD:
        low, high = value - (1 - tail ** (1 / units)), value + (1 - tail ** (1 / units))
    else:
        kept = max(tail, _TAIL_DRAWS / len(drawn))
        low, high = (float(end) for end in np.quantile(drawn, [kept, 1 - kept]))
        z = NormalDist().inv_cdf(1 - tail) if kept > tail else 0.0
        if len(noise):
            high -= max(0.0, float(drawn.mean()) - value)
            low = value - max(_upper_end(part, kept, z) for part in noise)
        low, high = min(low, value - z * spread), max(high, value + z * spread)
    return max(0.0, min(low, value)), min(1.0, max(high, value))


def _upper_end(noise: Doubles, kept: float, z: float) -> float:
    return max(float(np.quantile(noise, 1 - kept)), float(noise.mean() + z * noise.std()))


def moments(values: Doubles, codes: Ints, groups: int) -> list[dict[str, float]]:
    """By group: `n`, `mean`, `sd` and `skew` of the values, the statistics of `brier`; zeros for no rows.

    Args:
        values: [N] finite values.
        codes: [N] group of each row.
        groups: number of groups.
    """
    n = np.bincount(codes, minlength=groups)
    mean = np.bincount(codes, weights=values, minlength=groups) / np.maximum(n, 1)
    away = values - mean[codes]
    second, third = (np.bincount(codes, weights=away**power, minlength=groups) for power in (2, 3))
    sd = np.sqrt(second / np.maximum(n - 1, 1))
    cubed = np.maximum(n, 1) * sd**3
    skew = np.divide(third, cubed, out=np.zeros_like(cubed), where=cubed > _NO_SPREAD)
    parts = (part.tolist() for part in (n, mean, sd, skew))
    return [dict(zip(("n", "mean", "sd", "skew"), row, strict=True)) for row in zip(*parts, strict=True)]


def _mean(cells: Mapping[str, Any], level: float) -> Estimate:
    """Interval of a mean of values in [0, 1]: Student's joined to Hall's (1992), which allows for skewness.

    Squared errors of a rare outcome are skew: among 200 rows, one in ten favourable, Student's 95 % interval
    alone held the truth in 92 of 100 samples. Losses that do not vary leave open what n rows cannot rule out.
    """
    from scipy.special import stdtrit

    n, mean = float(cells["n"]), float(cells["mean"])
    if n < 2:  # noqa: PLR2004 - one value has no spread
        return None, None, None
    t, error = float(stdtrit(n - 1, 0.5 + level / 2)), float(cells["sd"]) / math.sqrt(n)
    if error <= _NO_SPREAD:
        doubt = 1 - ((1 - level) / 2) ** (1 / n)
        return mean, max(0.0, mean - doubt), min(1.0, mean + doubt)
    skew = float(cells.get("skew", 0.0))
    low, high = mean - error * max(t, _unskewed(t, n, skew)), mean + error * max(t, -_unskewed(-t, n, skew))
    return mean, max(0.0, low), min(1.0, high)


def _unskewed(quantile: float, n: float, skew: float) -> float:
    """The quantile of a studentised mean of skew values: the inverse of Hall's cubic transformation."""
    if abs(skew) < _NO_SPREAD:
        return quantile
    root = math.sqrt(n)
    inside = skew * (quantile / root - skew / (6 * n))
    # Near 1 the difference cbrt(1 + x) - 1 would lose its digits.
    cube = math.expm1(math.log1p(inside) / 3) if inside > -_HALF else math.cbrt(1 + inside) - 1
    return 3 * root / skew * cube


def _value(metric: str, negatives: Ints, positives: Ints, scores: Sequence[float]) -> Doubles:
    if metric == "ece":
        return ece(negatives, positives, scores)
    return auc(negatives, positives) if metric == "auc" else ks(negatives, positives)


def _divide(top: Any, bottom: Any) -> Doubles:
    """The quotient as float64, NaN where `bottom` is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: Doubles = np.asarray(top, dtype=np.float64) / np.asarray(bottom, dtype=np.float64)
    return ratio
