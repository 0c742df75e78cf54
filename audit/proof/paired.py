"""Paired: how two models differ on the same rows, for the verifier alone."""

import math

from audit.proof.means import student
from audit.proof.proportions import (
    NOTHING,
    Estimate,
    Known,
    Statistics,
    clopper_pearson,
    known,
    normal,
)


def paired_proportions(statistics: Statistics, level: float) -> Estimate:
    """The difference of two shares of the same rows: the wider of Tango's ends and the exact ones."""
    counts = tuple(float(statistics[key]) for key in ("both", "base_only", "new_only", "neither"))
    both, lost, gained = counts[:3]
    rows = math.fsum(counts)
    if rows == 0:
        return NOTHING
    differ, value, z = lost + gained, ((both + gained) - (both + lost)) / rows, normal(level)
    ends = [_tango(counts, value, z, side) for side in (-1.0, 1.0)]
    if differ:
        _, low, high = clopper_pearson({"x": gained, "n": differ}, level)
        ends += [(2.0 * float(end or 0.0) - 1.0) * differ / rows for end in (low, high)]
    return value, max(-1.0, min([*ends, value])), min(1.0, max([*ends, value]))


def _tango(counts: tuple[float, ...], value: float, z: float, side: float) -> float:
    """The difference on one side at which Tango's statistic is z; the end of all where it never is."""
    from scipy.optimize import brentq

    def excess(delta: float) -> float:
        return min(1e12, _statistic(counts, delta)) - z

    if value == side or excess(side) <= 0:
        return side
    return float(brentq(excess, value, side, xtol=1e-15, rtol=1e-14, maxiter=500))


def _statistic(counts: tuple[float, ...], delta: float) -> float:
    """Tango's (1998) statistic; the share q of lost rows solves 2 n q^2 + b q = lost delta (1 - delta)."""
    _, lost, gained, _ = counts
    n = math.fsum(counts)
    b, c = (2 * n - gained + lost) * delta - gained - lost, lost * delta * (1 - delta)
    root = math.sqrt(max(0.0, b * b + 8 * n * c))
    q = max(0.0, 2 * c / (root + b) if b > 0 else (root - b) / (4 * n))
    variance = n * (2 * q + delta - delta * delta)
    gap = abs(gained - lost - n * delta)
    if variance <= 0:
        return 0.0 if gap == 0 else math.inf
    return gap / math.sqrt(variance)


def mean_of_paired(statistics: Statistics, level: float) -> Estimate:
    """The mean of such differences over strata."""
    found = [known(paired_proportions(part, level)) for part in statistics["strata"]]
    parts: list[Known] = [part for part in found if part is not None]
    if not parts or len(parts) < len(found):
        return NOTHING
    value = sum(part[0] for part in parts) / len(parts)
    below, above = (math.sqrt(sum((part[0] - part[end]) ** 2 for part in parts)) for end in (1, 2))
    return value, value - below / len(parts), value + above / len(parts)


def paired_auc(statistics: Statistics, level: float) -> Estimate:
    """The difference of two areas under ROC curves with DeLong's variance."""
    n1, n0 = (float(statistics[key]) for key in ("positives", "negatives"))
    if min(n1, n0) <= 1:
        return NOTHING
    variance = float(statistics["sd_positives"]) ** 2 / n1 + float(statistics["sd_negatives"]) ** 2 / n0
    value, reach = float(statistics["value"]), student(min(n1, n0) - 1.0, level) * math.sqrt(variance)
    return value, value - reach, value + reach
