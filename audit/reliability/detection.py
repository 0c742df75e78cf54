"""Detection: what share of foreign rows pass where a stated share of the familiar ones does."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from audit.replicates import Estimate


def estimate(statistics: Mapping[str, Any], level: float) -> Estimate:
    """False positive rate at a true positive rate; its interval allows for the chance in the threshold.

    The threshold lets at least the share `rate` of the positives pass; rows tied with it pass too. Its true
    place has a binomial rank among the positives, so it lies between two of them; the rate of the negatives
    at either has exact limits. Both parts share the error (Bonferroni), so the interval is never too narrow.

    Args:
        statistics: `negatives` and `positives` by score bin, ascending (runs of one kind may be joined), and
            `rate` in (0, 1).
        level: two-sided confidence level.

    Returns:
        Value, low, high; all None where there are no negatives or no positives.
    """
    from scipy.special import betaincinv

    negatives, positives = statistics["negatives"], statistics["positives"]
    n0, n1, rate = sum(negatives), sum(positives), float(statistics["rate"])
    if n0 == 0 or n1 == 0:
        return None, None, None
    tail = (1 - level) / 4
    # one rank more above: the threshold may lie just short of the next positive
    fewest, most = _rank(n1, rate, tail), _rank(n1, rate, 1 - tail) + 1
    least, passed, greatest = (
        _passing(negatives, positives, need) for need in (fewest, math.ceil(rate * n1 - 1e-9), most)
    )
    low = 0.0 if least == 0 else float(betaincinv(least, n0 - least + 1, tail))
    high = 1.0 if greatest == n0 else float(betaincinv(greatest + 1, n0 - greatest, 1 - tail))
    return passed / n0, low, high


def _rank(n: int, rate: float, share: float) -> int:
    """The smallest k with P(X <= k) >= share, X binomial(n, rate)."""
    from scipy.special import bdtr

    low, high = 0, n
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if float(bdtr(middle, n, rate)) >= share else (middle + 1, high)
    return low


def _passing(negatives: Sequence[int], positives: Sequence[int], need: int) -> int:
    """Negatives that pass the highest threshold at which `need` positives do; all where there are fewer."""
    seen = passed = 0
    for below, above in zip(reversed(negatives), reversed(positives), strict=True):
        if seen >= need:
            break
        # in a run of positives alone no negative is met, so stopping at its end changes nothing
        seen, passed = seen + above, passed + below
    return passed
