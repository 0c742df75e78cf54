"""Permutation SHAP: each feature's share, from random orders of the features.

shap's TreeExplainer waits until models of trees can be loaded: only torch networks can so far.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from audit.check import check
from audit.explain.summary import AtLeastOne, evidence, require_explanation
from audit.library.gate import gated, sums
from audit.stats import mean

if TYPE_CHECKING:
    from audit.dataset import Dataset
    from audit.evidence import Evidence, Measure
    from audit.explain.attribution import Attribution
    from audit.model import Model
    from audit.products.attributions import Attributions


@check(
    "interpretability.permutation_shap",
    needs={"logits"},
    modality={"tabular", "image", "series"},
    measures={
        "mean_abs_attribution",
        "completeness_error",
        "completeness_met_share",
        "relative_standard_error",
    },
)
def permutation_shap(
    model: Model,
    data: Dataset,
    attributions: Attributions,
    *,
    rows: AtLeastOne | None = None,
    output: Literal["log_odds", "probability"] = "log_odds",
    target: Literal["predicted", "favourable"] = "predicted",
    permutations: Annotated[int, Field(ge=2)] = 10,
    background: AtLeastOne | None = None,
    grid: AtLeastOne = 4,
    bound: Annotated[float, Field(gt=0)] = 0.05,
    examples: Annotated[int, Field(ge=0, le=16)] = 4,
) -> Evidence:
    """Permutation SHAP: each feature's share, from random orders of the features.

    For each row this puts the row's features one after another in place of those of other rows of the data
    (the background), in random orders walked forward and backward, and averages what each feature changed.
    That estimates the same shares (Shapley values) as `interpretability.shap` in another way, and exactly
    where no more than two features act together. `relative_standard_error` is the sampling error as a share
    of the attributions, and `completeness_error` how exactly they add up.

    It answers what each feature contributed compared with the background, and serves as a second opinion: it
    is computed by the shap package, row by row. Replaced features can make rows that do not occur in reality,
    on which the model was never trained. The columns of one category count as one feature; an image is cut
    into cells.

    Settings: `rows` explained (256, or 16 images), `output` and `target` that are explained, `permutations`
    (random orders), `background` rows (20, or 4 images), `grid` cells on a side, `bound`, `examples` shown.

    Strumbelj, Kononenko: Explaining prediction models and individual predictions with feature contributions,
    2014. Lundberg, Lee: A Unified Approach to Interpreting Model Predictions, 2017.
    """
    found = attributions.of(
        "permutation_shap",
        rows=rows,
        output=output,
        target=target,
        permutations=permutations,
        background=background,
        grid=grid,
    )
    require_explanation(found)
    added = sums(found, bound)
    others = found.settings["background"]
    mixed = f"Left-out features are taken from {others} background rows; mixed rows may not occur in reality."
    return gated(
        evidence(
            found,
            data,
            [*added.measures, _sampling_error(found)],
            finding="moved the decision most",
            caveats=[mixed, "Computed by shap, row by row."],
            examples=examples,
            value_range=model.input_range,
        ),
        added.doubt,
    )


def _sampling_error(item: Attribution) -> Measure:
    usable = item.usable()
    size = np.linalg.norm(item.values[usable], axis=1)
    error = item.values[usable] * np.nan if item.standard_error is None else item.standard_error[usable]
    spread = np.linalg.norm(error, axis=1)
    known = (size > 0) & np.isfinite(spread)
    reason = "" if known.any() else "no row has a sampling error"
    share = (spread[known] / size[known]).tolist()
    return mean("relative_standard_error", share, unit="share", better="lower", reason=reason)
