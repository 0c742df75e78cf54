"""Derive: from the counts of one grouping to every measure of it."""

from collections.abc import Sequence

from audit.evidence import Measure
from audit.fairness.cells import RATES, Cells, rates
from audit.fairness.comparisons import COMPARED, ERROR_RATIO, LARGEST, TREATMENT, comparisons, error_ratios
from audit.fairness.comparisons import largest as largest_differences
from audit.fairness.controls import STRATIFIED
from audit.fairness.unknowns import BOUNDS, unknown_bounds

_WITHOUT_OUTCOME = (
    "selection_rate",
    "selection_rate_ratio",
    "selection_rate_difference",
    "demographic_parity_difference",
    *BOUNDS,
    *STRATIFIED,
)
METRICS = (
    *RATES,
    ERROR_RATIO,
    *(f"{rate}_{kind}" for rate in COMPARED for kind in ("ratio", "difference")),
    TREATMENT,
    *LARGEST,
    *BOUNDS,
    *STRATIFIED,
)


# Where none are named: what is asked most often. All rates are measured; four of them are compared.
_USUALLY = ("selection_rate", "true_positive_rate", "false_positive_rate", "positive_predictive_value")
USUAL = (
    *RATES,
    ERROR_RATIO,
    *(f"{rate}_{kind}" for rate in _USUALLY for kind in ("ratio", "difference")),
    TREATMENT,
    "demographic_parity_difference",
    "equal_opportunity_difference",
    "equalized_odds_difference",
    "predictive_parity_difference",
    *BOUNDS,
    *STRATIFIED,
)


def chosen(metrics: Sequence[str], *, labelled: bool) -> tuple[str, ...]:
    """The names among `METRICS` that are wanted, `USUAL` for none, and that can be had without outcomes."""
    possible = METRICS if labelled else _WITHOUT_OUTCOME
    return tuple(name for name in possible if name in (metrics or USUAL))


def derive(
    item: Cells, reference: str | Sequence[str] = "best", metrics: Sequence[str] = ()
) -> list[Measure]:
    """Every measure that one table of counts holds; a pure function of the counts.

    Args:
        item: the counts of one grouping.
        reference: see `audit.fairness.comparisons.pairs`.
        metrics: names among `METRICS`; none means `USUAL`. Stratified values need `audit.fairness.controls`.
    """
    names = chosen(metrics, labelled=item.labelled)
    return [
        *rates(item, names),
        *(error_ratios(item) if ERROR_RATIO in names else []),
        *comparisons(item, reference, names),
        *largest_differences(item, names),
        *unknown_bounds(item, names),
    ]
