"""Tables: numbers of counted categories and counted values, for the verifier alone."""

from typing import TYPE_CHECKING, Any

from audit.proof.proportions import NOTHING, Estimate, Statistics, clopper_pearson

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Doubles = npt.NDArray[np.float64]

_TWO = 2
_LEAST_EXPECTED = 5.0


def cramers_v(statistics: Statistics, level: float) -> Estimate:
    """Cramer's V from the non-central chi-square distribution, the rarest categories joined first."""
    import numpy as np
    from scipy.stats import chi2_contingency

    table = np.array(statistics["table"], dtype=float)
    if table.ndim != _TWO:
        return NOTHING
    table = table[table.any(axis=1)][:, table.any(axis=0)]
    if min(table.shape, default=0) < _TWO:
        return NOTHING
    table = _joined(table)
    found = chi2_contingency(table, correction=False)
    chi, freedom = float(found.statistic), int(found.dof)
    scale, tail = table.sum() * (min(table.shape) - 1), (1.0 - level) / 2.0

    def strength(extra: float) -> float:
        return min(1.0, float(np.sqrt(max(0.0, extra) / scale)))

    value = strength(chi - freedom)
    low = strength(_extra(chi, freedom, 1.0 - tail))
    high = strength(_extra(max(chi, freedom), freedom, tail))
    return value, min(low, value), max(high, value)


def _joined(table: "Doubles") -> "Doubles":
    """Add the rarest column to the next rarest until each cell is expected to hold 5, or two are left."""
    import numpy as np

    while table.shape[1] > _TWO:
        totals = table.sum(axis=0)
        least = table.sum(axis=1).min() * totals.min() / table.sum()
        if least >= _LEAST_EXPECTED:
            break
        one, other = sorted(range(len(totals)), key=lambda place: (totals[place], place))[:2]
        merged = table[:, one] + table[:, other]
        table = np.column_stack([table[:, : table.shape[1]], merged])
        order = [place for place in range(table.shape[1]) if place not in {one, other}]
        order.insert(other - (one < other), table.shape[1] - 1)
        table = table[:, list(dict.fromkeys(order))]
    return table


def _extra(chi: float, freedom: int, share: float) -> float:
    """The non-centrality under which a statistic is below `chi` with this probability; 0 for none."""
    from scipy.optimize import brentq
    from scipy.stats import ncx2

    def excess(extra: float) -> float:
        return float(ncx2.cdf(chi, freedom, extra)) - share

    if excess(1e-12) <= 0:
        return 0.0
    far = chi + 1.0
    while excess(far) > 0:
        far *= 2.0
    return float(brentq(excess, 1e-12, far, xtol=1e-12, rtol=1e-13))


def quantile(statistics: Statistics, level: float) -> Estimate:
    """A quantile of counted values between two order statistics; ranks are quantiles of the binomial."""
    import numpy as np
    from scipy.stats import binom

    values, ends = statistics["values"], np.cumsum(statistics["counts"])
    n, q, tail = int(ends[-1]) if len(ends) else 0, float(statistics["q"]), (1.0 - level) / 2.0
    if not n:
        return NOTHING

    def at(rank: int) -> float:
        return float(values[int(np.searchsorted(ends, rank))])

    low = int(binom.ppf(tail, n, q))
    low += int(binom.cdf(low, n, q) <= tail)
    high = int(binom.ppf(1.0 - tail, n, q)) + 1
    middle = at(max(1, int(np.ceil(n * q))))
    return (middle, None, None) if low < 1 or high > n else (middle, at(low), at(high))


def rate_at_rate(statistics: Statistics, level: float) -> Estimate:
    """The share of negatives that pass where a stated share of positives does."""
    import numpy as np
    from scipy.stats import binom

    negatives, positives = (np.array(statistics[key][::-1]) for key in ("negatives", "positives"))
    n0, n1, rate = int(negatives.sum()), int(positives.sum()), float(statistics["rate"])
    if not n0 or not n1:
        return NOTHING
    tail = (1.0 - level) / 4.0
    fewest, most = (int(binom.ppf(share, n1, rate)) for share in (tail, 1.0 - tail))
    needs = fewest, int(np.ceil(rate * n1 - 1e-9)), most + 1
    least, passed, greatest = (_passing(negatives, positives, need) for need in needs)
    each = 1.0 - 2.0 * tail
    _, low, _ = clopper_pearson({"x": least, "n": n0}, each)
    _, _, high = clopper_pearson({"x": greatest, "n": n0}, each)
    return passed / n0, low, high


def _passing(negatives: Any, positives: Any, need: int) -> int:
    """Negatives in the fewest bins, from the highest score down, that hold `need` positives."""
    if need <= 0:
        return 0
    reached = positives.cumsum()
    last = int((reached < need).sum())
    return int(negatives[: last + 1].sum())
