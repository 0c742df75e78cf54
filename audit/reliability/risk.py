"""Risk and coverage: what a model gets wrong when it may leave its least confident rows to a person.

Rows are taken from the most confident down. Everything follows from how many right and wrong rows stand in
each bin of the confidence (runs of one kind joined), and so does its bootstrap.
"""

from collections.abc import Mapping
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from audit.dataset import Doubles
from audit.replicates import Estimate
from audit.scores import compact, count_scores, equal_mass_bins

_TAIL_DRAWS = 5
_SLACK = 1e-12


def risk_cells(rank: Doubles, right: npt.NDArray[np.bool_], bins: int) -> dict[str, list[int]]:
    """Wrong (`negatives`) and right (`positives`) rows by bin of the confidence, from the least confident up.

    Args:
        rank: [n] any number that orders rows as the confidence does.
        right: [n] whether the prediction is right.
        bins: most bins before runs of one kind are joined; rows within a bin count as tied.
    """
    places = equal_mass_bins(rank, bins)
    return compact(count_scores(np.zeros_like(places), right.astype(np.int64), places, 1, bins)[0])


def aurc(wrong: Any, right: Any) -> Doubles:
    """[...] area under the risk-coverage curve from counts [..., B], the most confident bin first.

    The mean over k of the share of errors among the k most confident rows. Rows of one bin stand in random
    order, so the share of errors there is its expectation.
    """
    from scipy.special import digamma

    e, m = np.asarray(wrong, np.float64), np.asarray(wrong, np.float64) + np.asarray(right, np.float64)
    before, done = np.cumsum(m, axis=-1) - m, np.cumsum(e, axis=-1) - e
    harmonic = digamma(before + m + 1) - digamma(before + 1)
    share = np.divide(e, m, out=np.zeros_like(e), where=m > 0)
    area = (done * harmonic + share * (m - before * harmonic)).sum(axis=-1)
    found: Doubles = np.asarray(area / m.sum(axis=-1), dtype=np.float64)
    return found


def excess_aurc(wrong: Any, right: Any) -> Doubles:
    """[...] AURC less that of the best order there is, all wrong rows last (Geifman and others, 2019)."""
    totals = np.asarray(wrong).sum(axis=-1), np.asarray(right).sum(axis=-1)
    nothing = np.zeros_like(totals[0])
    best = aurc(np.stack([nothing, totals[0]], axis=-1), np.stack([totals[1], nothing], axis=-1))
    found: Doubles = np.maximum(aurc(wrong, right) - best, 0.0)
    return found


def coverage_at(wrong: Any, right: Any, risk: float) -> Doubles:
    """[...] the largest share of rows, the most confident first, of which at most `risk` are wrong.

    A threshold stands at the end of a bin; 0 where even the most confident bin has more errors.
    """
    errors = np.cumsum(wrong, axis=-1)
    rows = np.cumsum(np.asarray(wrong) + np.asarray(right), axis=-1)
    held = errors <= risk * rows + _SLACK
    found: Doubles = np.where(held, rows / rows[..., -1:], 0.0).max(axis=-1)
    return found


def estimate(statistics: Mapping[str, Any], level: float) -> Estimate:
    """A number of the risk-coverage curve with its bootstrap interval.

    Args:
        statistics: `metric` (`aurc`, `excess` or `coverage`, with `risk`), `negatives` and `positives` as
            `risk_cells` gives them, `draws`, `seed`.
        level: two-sided confidence level.

    Returns:
        Value, low, high; all None without rows. Where no draw differs (no row is wrong, or every one), the
        ends are what so many rows cannot rule out.
    """
    wrong, right = tuple(statistics["negatives"]), tuple(statistics["positives"])
    n = sum(wrong) + sum(right)
    if n == 0:
        return None, None, None
    metric, risk = statistics["metric"], float(statistics.get("risk", 0.0))
    drawn = _replicates(wrong, right, metric, risk, int(statistics["draws"]), int(statistics["seed"]))
    value = float(_value(metric, np.array(wrong[::-1]), np.array(right[::-1]), risk))
    tail = (1 - level) / 2
    if sum(wrong) == 0 or sum(right) == 0:
        return _unvaried(metric, value, risk, 1 - tail ** (1 / n))
    kept = max(tail, _TAIL_DRAWS / len(drawn))
    low, high = (float(end) for end in np.quantile(drawn, [kept, 1 - kept]))
    if kept > tail:
        reach = NormalDist().inv_cdf(1 - tail) * float(drawn.std())
        low, high = min(low, value - reach), max(high, value + reach)
    return value, max(0.0, min(low, value)), min(1.0, max(high, value))


def _unvaried(metric: str, value: float, risk: float, doubt: float) -> Estimate:
    """Ends where every row is right, or every row wrong; `doubt` is the share that may still be otherwise."""
    if metric == "coverage" and value == 1:
        return 1.0, float(doubt <= risk), 1.0
    return value, max(0.0, value - doubt), min(1.0, value + doubt)


@lru_cache(maxsize=256)
def _replicates(
    wrong: tuple[int, ...], right: tuple[int, ...], metric: str, risk: float, draws: int, seed: int
) -> Doubles:
    cells = np.array([*wrong[::-1], *right[::-1]], dtype=np.int64)
    drawn = np.random.default_rng(seed).multinomial(cells.sum(), cells / cells.sum(), size=draws)
    return _value(metric, drawn[:, : len(wrong)], drawn[:, len(wrong) :], risk)


def _value(metric: str, wrong: Any, right: Any, risk: float) -> Doubles:
    if metric == "coverage":
        return coverage_at(wrong, right, risk)
    return aurc(wrong, right) if metric == "aurc" else excess_aurc(wrong, right)
