"""Draws: numbers whose interval comes from a seeded bootstrap of counts, for the verifier alone.

The random numbers are drawn as they were when it was measured, by the same seed, or there would be nothing
to compare; what is made of them is computed another way. numpy promises the same draws within one version
only, so a difference under another version of numpy is told as what it may be.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt

from audit.proof.means import student
from audit.proof.proportions import NOTHING, Estimate, Statistics, known, normal, split

Doubles = npt.NDArray[np.float64]
Counts = tuple[int, ...]
_FLAT = 1e-12
_LEAST_DRAWS = 5
_TINY = 1e-9
_MOST_SUMMED = 20_000_000
_MOST_DRAWS = 100_000


def bootstrap_quantiles(statistics: Statistics, level: float) -> Estimate:
    """A number from the quantiles of its draws that the record keeps."""
    return _over(statistics["groups"], level, _kept)


def score_bins(statistics: Statistics, level: float) -> Estimate:
    """AUC, KS, ECE or Brier score from counts by score bin."""
    metric, seed = statistics["metric"], (int(statistics.get("draws", 0)), int(statistics.get("seed", 0)))
    return _over(statistics["groups"], level, lambda cells, at: _scored(cells, metric, seed, at))


One = Callable[[Mapping[str, Any], float], Estimate]


def _over(groups: Sequence[Mapping[str, Any]], level: float, one: One) -> Estimate:
    """The number of a single group, or the largest difference between any two of several."""
    if len(groups) == 1:
        return one(groups[0], level)
    pairs = len(groups) * (len(groups) - 1) // 2
    parts = [known(one(group, split(level, pairs))) for group in groups]
    if not pairs or None in parts:
        return NOTHING
    values, lows, highs = [], [0.0], []
    for first, second in permutations([part for part in parts if part is not None], 2):
        (a, a_low, a_high), (b, b_low, b_high) = first, second
        values.append(a - b)
        lows.append(a - b - math.sqrt((a - a_low) ** 2 + (b_high - b) ** 2))
        highs.append(a - b + math.sqrt((a_high - a) ** 2 + (b - b_low) ** 2))
    return max(values), max(lows), max(highs)


def _kept(cells: Mapping[str, Any], level: float) -> Estimate:
    value, spread, tail = float(cells["value"]), float(cells["spread"]), (1.0 - level) / 2.0
    if spread <= 0:
        return value, None, None
    lows, highs = list(cells["lows"]), list(cells["highs"])
    fits = [place for place, at in enumerate(cells["tails"]) if at <= tail * (1 + _TINY)]
    if fits:
        low, high = lows[fits[0]], highs[fits[0]]
    else:
        reach = normal(level) * spread
        low, high = min([*lows, value - reach]), max([*highs, value + reach])
    return value, min(low, value), max(high, value)


def _scored(cells: Mapping[str, Any], metric: str, drawing: tuple[int, int], level: float) -> Estimate:
    if metric == "brier":
        return _brier(cells, level)
    negatives, positives = tuple(cells["negatives"]), tuple(cells["positives"])
    sizes = sum(negatives), sum(positives)
    if not sum(sizes) or (metric != "ece" and not all(sizes)):
        return NOTHING
    scores = tuple(cells.get("scores", ()))
    value = float(_number(metric, np.array(negatives), np.array(positives), scores))
    drawn, noise = _bootstrap(negatives, positives, scores, metric, *drawing)
    finite = np.isfinite(drawn)
    rows = sum(sizes) if metric == "ece" else min(sizes)
    low, high = _percentiles(value, drawn[finite], noise[:, finite], level, rows)
    if metric == "auc" and 0 < value < 1:
        least, most = _hanley(value, sizes, level)
        low, high = min(low, least, value), max(high, most, value)
    return value, low, high


def _number(metric: str, negatives: Any, positives: Any, scores: Sequence[float]) -> Any:
    """[...] the metric, from the highest bin down."""
    if metric == "ece":
        rows = negatives + positives
        share = np.divide(positives, rows, out=np.zeros(rows.shape), where=rows > 0)
        return (rows * abs(share - np.asarray(scores))).sum(axis=-1) / rows.sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        if metric == "auc":
            above = positives[..., ::-1].cumsum(axis=-1)[..., ::-1] - positives / 2.0
            pairs = negatives.sum(axis=-1) * positives.sum(axis=-1)
            return (negatives * above).sum(axis=-1) / pairs
        return abs(_gap(negatives, positives)).max(axis=-1)


def _gap(negatives: Any, positives: Any) -> Any:
    """[..., B] positives less negatives at or above each bin, as shares."""
    above = [part[..., ::-1].cumsum(axis=-1)[..., ::-1] for part in (negatives, positives)]
    with np.errstate(divide="ignore", invalid="ignore"):
        return above[1] / above[1][..., :1] - above[0] / above[0][..., :1]


def _off(negatives: Any, positives: Any, scores: Sequence[float]) -> Any:
    """[..., B] positives less what the scores promised, as shares of all rows."""
    rows = negatives + positives
    return (positives - rows * np.asarray(scores)) / rows.sum(axis=-1, keepdims=True)


@lru_cache(maxsize=4)
def _multinomial(cells: Counts, draws: int, seed: int) -> npt.NDArray[np.int64]:
    counts = np.array(cells)
    if draws > _MOST_DRAWS:
        raise ValueError(f"{draws} draws are more than are drawn again here ({_MOST_DRAWS})")
    return np.random.default_rng(seed).multinomial(counts.sum(), counts / counts.sum(), size=draws)


@lru_cache(maxsize=1024)
def _bootstrap(
    negatives: Counts, positives: Counts, scores: tuple[float, ...], metric: str, draws: int, seed: int
) -> tuple[Doubles, Doubles]:
    """[draws] values, and [K, draws] how far noise alone moved them."""
    drawn = _multinomial((*negatives, *positives), draws, seed)
    below, above = drawn[:, : len(negatives)], drawn[:, len(negatives) :]
    values = _number(metric, below, above, scores)
    here = np.array(negatives), np.array(positives)
    if metric == "auc":
        return values, np.empty((0, draws))
    if metric == "ks":
        return values, abs(_gap(below, above) - _gap(*here)).max(axis=-1)[None]
    rows = here[0] + here[1]
    promised = np.random.default_rng(seed).binomial(rows, np.clip(scores, 0, 1), size=(draws, len(rows)))
    moved = abs(_off(below, above, scores) - _off(*here, scores)).sum(axis=-1)
    return values, np.stack([moved, _number("ece", rows - promised, promised, scores)])


def _beyond(level: float, draws: int) -> tuple[float, float]:
    """The tail at which draws are read, and how many spreads stand in where they are too few for it."""
    tail, fewest = (1.0 - level) / 2.0, _LEAST_DRAWS / draws
    return (tail, 0.0) if tail >= fewest else (fewest, normal(level))


def _percentiles(
    value: float, drawn: Doubles, noise: Doubles, level: float, rows: int
) -> tuple[float, float]:
    spread = float(drawn.std()) if len(drawn) else 0.0
    if spread <= _FLAT:
        unseen = 1.0 - ((1.0 - level) / 2.0) ** (1.0 / rows)
        return max(0.0, value - unseen), min(1.0, value + unseen)
    tail, z = _beyond(level, len(drawn))
    low, high = float(np.quantile(drawn, tail)), float(np.quantile(drawn, 1.0 - tail))
    if len(noise):
        high -= max(0.0, float(drawn.mean()) - value)
        ends = [max(np.quantile(part, 1.0 - tail), part.mean() + z * part.std()) for part in noise]
        low = value - float(max(ends))
    low, high = min(low, value - z * spread, value), max(high, value + z * spread, value)
    return max(0.0, low), min(1.0, high)


def _hanley(a: float, sizes: tuple[int, int], level: float) -> tuple[float, float]:
    """Ends of an AUC on the logit scale (Hanley and McNeil, 1982)."""
    from scipy.special import expit, logit

    n0, n1 = sizes
    variance = a * (1 - a) + (n1 - 1) * (a / (2 - a) - a * a) + (n0 - 1) * (2 * a * a / (1 + a) - a * a)
    reach = normal(level) * math.sqrt(variance / (n0 * n1)) / (a * (1 - a))
    return float(expit(logit(a) - reach)), float(expit(logit(a) + reach))


def _brier(cells: Mapping[str, Any], level: float) -> Estimate:
    """A mean of values in [0, 1] whose skewness Hall's transformation (1992) allows for."""
    n, mean = float(cells["n"]), float(cells["mean"])
    if n <= 1:
        return NOTHING
    error = float(cells["sd"]) / math.sqrt(n)
    if error <= _FLAT:
        unseen = 1.0 - ((1.0 - level) / 2.0) ** (1.0 / n)
        return mean, max(0.0, mean - unseen), min(1.0, mean + unseen)
    t, skew = student(n - 1.0, level), float(cells.get("skew", 0.0))
    down, up = max(t, _hall(t, n, skew)), max(t, -_hall(-t, n, skew))
    return mean, max(0.0, mean - error * down), min(1.0, mean + error * up)


def _hall(t: float, n: float, skew: float) -> float:
    """The number whose cubic transformation is `t`."""
    if abs(skew) < _FLAT:
        return t
    g = skew / math.sqrt(n)
    inner = g * t - g * g / 6.0
    # near 1 the root less 1 has digits only this way
    root = math.expm1(math.log1p(inner) / 3.0) if abs(inner) < 1 else float(np.cbrt(1.0 + inner)) - 1.0
    return root * 3.0 / g


def calibration_bins(statistics: Statistics, level: float) -> Estimate:
    """The debiased calibration error, or the mean of those of all classes."""
    tables = [cells for cells in statistics["cells"] if cells["scores"]]
    if not tables:
        return NOTHING
    drawing = int(statistics["draws"]), int(statistics["seed"])
    if statistics["metric"] == "classwise":
        ends = np.array([_classwise(cells, drawing, level) for cells in tables]).mean(axis=0)
        value, low, high = (float(end) for end in ends)
        return value, max(0.0, low), min(1.0, max(high, value))
    value, low, high = (float(max(0.0, end) ** 0.5) for end in _debiased(tables[0], drawing, level))
    return value, low, max(high, value)


def _redrawn(cells: Mapping[str, Any], drawing: tuple[int, int]) -> tuple[Any, Any, Any, Any]:
    """Counts of bootstrap samples, and then of outcomes drawn from the scores, from one stream."""
    draws, seed = drawing
    counts = np.array([*cells["negatives"], *cells["positives"]])
    bins = len(cells["scores"])
    rows = counts[:bins] + counts[bins:]
    if draws > _MOST_DRAWS:
        raise ValueError(f"{draws} draws are more than are drawn again here ({_MOST_DRAWS})")
    stream = np.random.default_rng(seed)
    drawn = stream.multinomial(counts.sum(), counts / counts.sum(), size=draws)
    promised = stream.binomial(rows, np.clip(cells["scores"], 0, 1), size=(draws, bins))
    return drawn[:, :bins], drawn[:, bins:], rows - promised, promised


def _far(noise: Doubles, level: float) -> float:
    tail, z = _beyond(level, len(noise))
    end = float(np.quantile(noise, 1.0 - tail))
    return max(end, float(noise.mean() + z * noise.std())) if z else end


def _classwise(
    cells: Mapping[str, Any], drawing: tuple[int, int], level: float
) -> tuple[float, float, float]:
    below, above, missed, promised = _redrawn(cells, drawing)
    scores, here = cells["scores"], (np.array(cells["negatives"]), np.array(cells["positives"]))
    value, drawn = float(_number("ece", *here, scores)), _number("ece", below, above, scores)
    noise = abs(_off(below, above, scores) - _off(*here, scores)).sum(axis=1)
    low = value - max(_far(noise, level), _far(_number("ece", missed, promised, scores), level))
    high = value + _far(drawn - value, level) - max(0.0, drawn.mean() - value)
    return value, low, max(value, float(high))


def _debiased(cells: Mapping[str, Any], drawing: tuple[int, int], level: float) -> tuple[float, float, float]:
    below, above, missed, promised = _redrawn(cells, drawing)
    scores = np.array(cells["scores"])
    value = float(_unbiased(np.array(cells["negatives"]), np.array(cells["positives"]), scores))
    drawn, chance = _unbiased(below, above, scores), _unbiased(missed, promised, scores)
    noise = drawn - drawn.mean()
    low = value - max(_far(noise, level), _far(chance, level))
    return value, low, value + max(_far(-noise, level), _far(-chance, level))


def _unbiased(negatives: Any, positives: Any, scores: Doubles) -> Any:
    """[...] squared error of the rates, less the part that sampling adds (Kumar, Liang and Ma, 2019)."""
    rows = negatives + positives
    safe = np.where(rows > 0, rows, 1)
    rate = positives / safe
    added = positives * negatives / (safe * safe) / np.where(rows > 1, rows - 1, 1)
    return ((rate - scores) ** 2 * rows - added * rows).sum(axis=-1) / rows.sum(axis=-1)


def risk_coverage(statistics: Statistics, level: float) -> Estimate:
    """A number of the risk-coverage curve."""
    wrong, right = (tuple(reversed(statistics[key])) for key in ("negatives", "positives"))
    n = sum(wrong) + sum(right)
    if not n:
        return NOTHING
    metric, risk = statistics["metric"], float(statistics.get("risk", 0.0))
    value = float(_curve(metric, np.array(wrong), np.array(right), risk))
    if not sum(wrong) or not sum(right):
        unseen = 1.0 - ((1.0 - level) / 2.0) ** (1.0 / n)
        if metric == "coverage" and value == 1:
            return 1.0, float(unseen <= risk), 1.0
        return value, max(0.0, value - unseen), min(1.0, value + unseen)
    drawn = _curve_draws(wrong, right, metric, risk, int(statistics["draws"]), int(statistics["seed"]))
    tail, z = _beyond(level, len(drawn))
    reach = z * float(drawn.std())
    low = min(float(np.quantile(drawn, tail)), value - reach, value)
    high = max(float(np.quantile(drawn, 1.0 - tail)), value + reach, value)
    return value, max(0.0, low), min(1.0, high)


@lru_cache(maxsize=64)
def _curve_draws(wrong: Counts, right: Counts, metric: str, risk: float, draws: int, seed: int) -> Doubles:
    drawn = _multinomial((*wrong, *right), draws, seed)
    found: Doubles = _curve(metric, drawn[:, : len(wrong)], drawn[:, len(wrong) :], risk)
    return found


def _curve(metric: str, wrong: Any, right: Any, risk: float) -> Any:
    """[...] the metric, bins from the most confident down."""
    if metric == "coverage":
        errors, rows = wrong.cumsum(axis=-1), (wrong + right).cumsum(axis=-1)
        within = errors - risk * rows <= _FLAT
        return (within * rows).max(axis=-1) / rows[..., -1]
    area = _area(wrong, right)
    if metric == "aurc":
        return area
    errors, others = wrong.sum(axis=-1)[..., None], right.sum(axis=-1)[..., None]
    none = np.zeros_like(errors)
    best = _area(np.concatenate([none, errors], axis=-1), np.concatenate([others, none], axis=-1))
    return np.maximum(area - best, 0.0)


@lru_cache(maxsize=8)
def _harmonic(n: int) -> Doubles:
    """[n + 1] sums 1 + 1/2 + ... + 1/k."""
    found: Doubles = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, n + 1))])
    return found


def _area(wrong: Any, right: Any) -> Any:
    """[...] mean over k of the share of errors among the k most confident rows, ties in random order.

    Row k of a bin that starts after b rows with d errors has (d + s (k - b)) / k errors expected, s the
    share of errors in the bin; harmonic numbers, summed one by one, add this up.
    """
    rows = (wrong + right).astype(np.int64)
    ends = rows.cumsum(axis=-1)
    most = int(ends[..., -1].max())
    if most > _MOST_SUMMED:
        raise ValueError(f"{most} rows are more than can be added up again here ({_MOST_SUMMED})")
    sums = _harmonic(most)
    share = np.divide(wrong, rows, out=np.zeros(rows.shape), where=rows > 0)
    before, errors = ends - rows, wrong.cumsum(axis=-1) - wrong
    total = share * rows + (errors - share * before) * (sums[ends] - sums[before])
    return total.sum(axis=-1) / ends[..., -1]


def paired_bootstrap(statistics: Statistics, level: float) -> Estimate:
    """A difference from the kept quantiles of its draws, joined to the normal interval."""
    found = known(_kept(statistics, level))
    if found is None:
        return float(statistics["value"]), None, None
    value, low, high = found
    reach = normal(level) * float(statistics["spread"])
    return value, min(low, value - reach), max(high, value + reach)
