"""Conformal sets: label sets that hold the truth with a stated probability, whatever the model."""

import math

import numpy as np
import numpy.typing as npt

from audit.dataset import Doubles, Ints

_SLACK = 1e-12


def lac_scores(probabilities: Doubles) -> Doubles:
    """[n, C] 1 - probability of each class (Sadinle, Lei and Wasserman, 2019)."""
    found: Doubles = 1 - probabilities
    return found


def aps_scores(probabilities: Doubles, uniform: Doubles) -> Doubles:
    """[n, C] probability of all more probable classes plus a random share of the class's own.

    Adaptive prediction sets, randomised (Romano, Sesia and Candes, 2020), which makes the coverage exact.

    Args:
        probabilities: [n, C].
        uniform: [n] one draw in [0, 1) for each row.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ranked = np.take_along_axis(probabilities, order, axis=1)
    before = np.cumsum(ranked, axis=1) - ranked
    scores = np.empty_like(probabilities)
    np.put_along_axis(scores, order, before + uniform[:, None] * ranked, axis=1)
    return scores


def threshold(scores: Doubles, alpha: float) -> float:
    """The ceil((n + 1)(1 - alpha))-th smallest score of the calibration rows, [n] scores of true labels.

    Infinity where n is too small for it: every label is then in every set.
    """
    rank = needed_rank(len(scores), alpha)
    return math.inf if rank > len(scores) else float(np.sort(scores)[rank - 1])


def needed_rank(n: int, alpha: float) -> int:
    """ceil((n + 1)(1 - alpha)), the rank among n calibration scores."""
    return math.ceil((n + 1) * (1 - alpha) - 1e-9)


def sets(scores: Doubles, at: float) -> npt.NDArray[np.bool_]:
    """[n, C] which labels are in the set of each row: those whose score is at most the threshold."""
    return np.asarray(scores <= at + _SLACK)


def coverage_range(n: int, alpha: float, level: float) -> tuple[float, float]:
    """Between what the coverage of a calibration set of n rows lies, in `level` of all calibration sets.

    It is Beta(k, n + 1 - k) distributed, k = ceil((n + 1)(1 - alpha)), for scores without ties (Vovk, 2012;
    Angelopoulos and Bates, 2021, section 3.2).
    """
    from scipy.special import betaincinv

    k, tail = needed_rank(n, alpha), (1 - level) / 2
    return float(betaincinv(k, n + 1 - k, tail)), float(betaincinv(k, n + 1 - k, 1 - tail))


def halves(rows: int, seed: int) -> tuple[Ints, Ints]:
    """Positions of a calibration half and a test half of rows, dealt by the seed, each ascending."""
    order = np.random.default_rng([seed, 1]).permutation(rows)
    middle = rows // 2
    return np.sort(order[:middle]).astype(np.int64), np.sort(order[middle:]).astype(np.int64)
