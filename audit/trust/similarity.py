"""How alike two explanations of the same rows are: rank correlation, leading features, and signs.

Sources: Spearman 1904; Krishna et al. 2022, arXiv:2202.01602 (feature and sign agreement). Numpy only.
"""

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from audit.trust.pooling import pooled

Doubles = npt.NDArray[np.float64]
_TINY = 1e-12
NEGLIGIBLE = 0.01


def without_negligible(values: Doubles) -> Doubles:
    """[n, M] the values, 0 where one is at most 1 % of its row's largest.

    What carries next to nothing has no rank: in a model of one feature the order of all others is rounding
    and sampling noise, and a rank correlation would weigh it like the rest.
    """
    size = np.abs(values)
    found: Doubles = np.where(size > NEGLIGIBLE * size.max(axis=1, keepdims=True, initial=0), values, 0.0)
    return found


def rank_correlation(one: Doubles, other: Doubles) -> Doubles:
    """[n] Spearman correlation of the values of each row; ties share their mean rank.

    NaN where a row has fewer than two features, is not finite, or all its values are equal on one side:
    then there is no ranking.

    Args:
        one: [n, M] values.
        other: [n, M] values of the same features.
    """
    if one.shape[1] < 2:  # noqa: PLR2004 - one feature has no ranking
        return np.full(len(one), np.nan)
    first, second = (_centred_ranks(without_negligible(values)) for values in (one, other))
    size = np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))
    known = (size > _TINY) & np.isfinite(one).all(axis=1) & np.isfinite(other).all(axis=1)
    product = (first * second).sum(axis=1)
    found: Doubles = np.where(known, product / np.where(known, size, 1.0), np.nan)
    return found


def top_overlap(one: Doubles, other: Doubles, k: int) -> Doubles:
    """[n] Jaccard overlap of the k features of largest magnitude in each row, in [0, 1].

    A feature with at most 1 % of the largest value leads nothing. NaN where a side has no leading feature or
    is not finite. With k at or above the number of features there would be nothing to choose, so k is at
    most half of them.

    Args:
        one: [n, M] values.
        other: [n, M] values of the same features.
        k: features that count as leading, at least 1.
    """
    k = max(1, min(k, one.shape[1] // 2))
    first, second = _leading(one, k), _leading(other, k)
    both = (first & second).sum(axis=1)
    either = (first | second).sum(axis=1)
    known = first.any(axis=1) & second.any(axis=1)
    known &= np.isfinite(one).all(axis=1) & np.isfinite(other).all(axis=1)
    overlap: Doubles = np.where(known, both / np.maximum(either, 1), np.nan)
    return overlap


def sign_change(one: Doubles, other: Doubles) -> Doubles:
    """[n] numbers whose mean is the share of all attribution, by size, that has another sign; chance is 0.5.

    Rows weigh by their attribution, none by too much, see `pooled`. NaN where a row is not finite, and
    everywhere where nothing is attributed at all.

    Args:
        one: [n, M] values.
        other: [n, M] values of the same features.
    """
    finite = np.isfinite(one).all(axis=1) & np.isfinite(other).all(axis=1)
    found = np.full(len(one), np.nan)
    size = (np.abs(one[finite]) + np.abs(other[finite])) / 2
    changed = np.where(np.sign(one[finite]) * np.sign(other[finite]) < 0, size, 0.0).sum(axis=1)
    each = size.sum(axis=1)
    if each.any():
        found[finite] = pooled(changed / np.where(each > 0, each, 1.0), each)
    return found


def _centred_ranks(values: Doubles) -> Doubles:
    ranks: Doubles = np.asarray(rankdata(np.nan_to_num(values), axis=1), dtype=np.float64)
    centred: Doubles = ranks - ranks.mean(axis=1, keepdims=True)
    return centred


def _leading(values: Doubles, k: int) -> npt.NDArray[np.bool_]:
    size = np.abs(without_negligible(np.nan_to_num(values)))
    position = np.argsort(np.argsort(-size, axis=1, kind="stable"), axis=1, kind="stable")
    leads: npt.NDArray[np.bool_] = (position < k) & (size > 0)
    return leads
