"""Calibration errors from score bins that `audit.scores` does not hold: debiased, and the mean over classes.

The intervals are those of `audit.scores`: a bootstrap of the counts, and outcomes drawn from the scores
themselves (consistency resampling: Broecker and Smith, 2007) for bins in which every row has one outcome.
"""

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from audit.dataset import Doubles, Ints
from audit.replicates import Estimate
from audit.scores import count_scores, ece, equal_mass_bins

_TAIL_DRAWS = 5


def score_cells(scores: Doubles, outcomes: npt.NDArray[np.bool_], bins: int) -> dict[str, list[Any]]:
    """Counts by bin of equally many rows: `negatives`, `positives` and mean `scores`; no empty bin.

    Args:
        scores: [n] probabilities.
        outcomes: [n] whether what the score speaks of came true.
        bins: most bins.
    """
    places = equal_mass_bins(scores, bins)
    one = np.zeros_like(places)
    table = count_scores(one, outcomes.astype(np.int64), places, 1, bins)[0]
    sums = np.bincount(places, weights=scores, minlength=bins)
    kept = table.sum(axis=0) > 0
    return {
        "negatives": table[0][kept].tolist(),
        "positives": table[1][kept].tolist(),
        "scores": (sums[kept] / table.sum(axis=0)[kept]).tolist(),
    }


def estimate(statistics: Mapping[str, Any], level: float) -> Estimate:
    """A calibration error with its interval.

    Args:
        statistics: `metric`, `cells` (a list of what `score_cells` gives), `draws`, `seed`. The metric
            `debiased` takes one cell table, `classwise` one for each class.
        level: two-sided confidence level.

    Returns:
        Value, low, high; all None without rows.
    """
    cells = [table for table in statistics["cells"] if table["scores"]]
    if not cells:
        return None, None, None
    draws, seed, tail = int(statistics["draws"]), int(statistics["seed"]), (1 - level) / 2
    if statistics["metric"] == "classwise":
        ends = [_absolute(table, draws, seed, tail) for table in cells]
        value, low, high = (math.fsum(column) / len(ends) for column in zip(*ends, strict=True))
        return value, max(0.0, low), min(1.0, max(high, value))
    value, low, high = _squared(cells[0], draws, seed, tail)
    return tuple(math.sqrt(max(0.0, end)) for end in (value, low, max(high, value)))  # type: ignore[return-value]


def squared_error(negatives: Any, positives: Any, scores: Any) -> Doubles:
    """[...] debiased squared calibration error from counts [..., B]; below 0 where noise says so.

    The mean over rows of (observed rate - mean score)^2 of their bin, less the part of it that the sampling
    of the observed rate adds: rate (1 - rate) / (n - 1). Kumar, Liang and Ma (2019), arXiv:1909.10155.
    """
    rows = np.asarray(negatives) + np.asarray(positives)
    rate = np.asarray(positives) / np.maximum(rows, 1)
    added = rate * (1 - rate) / np.maximum(rows - 1, 1)
    total = ((np.square(rate - np.asarray(scores)) - added) * rows).sum(axis=-1)
    found: Doubles = np.asarray(total / rows.sum(axis=-1), dtype=np.float64)
    return found


def _resampled(cells: Mapping[str, Any], draws: int, seed: int) -> tuple[Any, Any, Any, Any]:
    """Negatives and positives [draws, B] of a bootstrap, and of outcomes drawn from the scores."""
    counts = np.array([cells["negatives"], cells["positives"]], dtype=np.int64)
    total, rows = int(counts.sum()), counts.sum(axis=0)
    random = np.random.default_rng(seed)
    drawn = random.multinomial(total, counts.ravel() / total, size=draws)
    promised = random.binomial(rows, np.clip(cells["scores"], 0.0, 1.0), size=(draws, len(rows)))
    return drawn[:, : len(rows)], drawn[:, len(rows) :], rows - promised, promised


def _absolute(cells: Mapping[str, Any], draws: int, seed: int, tail: float) -> tuple[float, float, float]:
    """ECE of one class; the lower end is not cut at 0, so that means of it are no larger than they should."""
    below, above, missed, promised = _resampled(cells, draws, seed)
    promise: list[float] = list(cells["scores"])
    scores = np.array(promise)
    counts: tuple[Ints, Ints] = np.array(cells["negatives"]), np.array(cells["positives"])
    value, drawn = float(ece(*counts, promise)), ece(below, above, promise)
    rows = counts[0] + counts[1]
    gap = (counts[1] - rows * scores) / rows.sum()
    moved = (above - (below + above) * scores) / (below + above).sum(axis=1, keepdims=True)
    noise = np.abs(moved - gap).sum(axis=1)
    low = value - max(_reach(noise, tail), _reach(ece(missed, promised, promise), tail))
    high = value + _reach(drawn - value, tail) - max(0.0, float(drawn.mean()) - value)
    return value, low, max(value, high)


def _squared(cells: Mapping[str, Any], draws: int, seed: int, tail: float) -> tuple[float, float, float]:
    below, above, missed, promised = _resampled(cells, draws, seed)
    scores = np.asarray(cells["scores"])
    value = float(squared_error(cells["negatives"], cells["positives"], scores))
    drawn = squared_error(below, above, scores)
    noise, chance = drawn - drawn.mean(), squared_error(missed, promised, scores)
    low = value - max(_reach(noise, tail), _reach(chance, tail))
    high = value + max(_reach(-noise, tail), _reach(-chance, tail))
    return value, low, high


def _reach(noise: Doubles, tail: float) -> float:
    """The upper quantile of the noise; joined to the normal one where the draws are too few for the tail."""
    kept = max(tail, _TAIL_DRAWS / len(noise))
    end = float(np.quantile(noise, 1 - kept))
    if kept == tail:
        return end
    return max(end, float(noise.mean() + NormalDist().inv_cdf(1 - tail) * noise.std()))
