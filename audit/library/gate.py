"""Do the contributions add up? If not, what a library gave is marked and can never pass. Numpy only."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from audit.evidence import Evidence, Measure
from audit.explain.attribution import Attribution
from audit.stats import mean, proportion

TOLERATED = 0.05
_GATED = "mean_abs_attribution"


@dataclass(frozen=True)
class Sums:
    """How far a method's contributions are from adding up.

    Attributes:
        measures: `completeness_error` and `completeness_met_share`.
        doubt: why the attributions must not be relied on; empty where they may be.
    """

    measures: Sequence[Measure]
    doubt: str


def sums(item: Attribution, bound: float) -> Sums:
    """Completeness of the usable rows against a bound; more than 5 % of the rows above it raise a doubt.

    Args:
        item: attributions with a completeness error.
        bound: largest |sum - difference| / |difference| of a row that counts as met.
    """
    error = np.zeros(0) if item.completeness is None else item.completeness[item.usable()]
    finite = error[np.isfinite(error)]
    met = int((finite <= bound).sum())
    missed = len(error) - met
    doubt = ""
    if missed > TOLERATED * len(error):
        doubt = (
            f"the contributions of {missed} of {len(error)} rows miss the difference that they should add up "
            f"to by more than {bound:g} of it, and at most {TOLERATED:.0%} of the rows may"
        )
    reason = "" if len(finite) else "no row has a finite completeness error"
    return Sums(
        [
            mean("completeness_error", finite.tolist(), unit="share", better="lower", reason=reason),
            proportion("completeness_met_share", met, len(error), better="higher"),
        ],
        doubt,
    )


def gated(found: Evidence, doubt: str) -> Evidence:
    """The evidence, its attributions marked as not to be relied on where there is a doubt."""
    if not doubt:
        return found
    marked = [replace(item, unreliable=doubt) if item.name == _GATED else item for item in found.measures]
    caveat = f"Not to be relied on: {doubt}. Integrated gradients or SHAP are to be used instead."
    return replace(found, measures=marked, caveats=[caveat, *found.caveats])
