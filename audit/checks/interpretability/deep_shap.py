"""DeepSHAP: each feature's share of the decision, passed back through the layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from audit.check import check
from audit.explain.summary import AtLeastOne, evidence, require_explanation
from audit.library.gate import gated, sums

if TYPE_CHECKING:
    from audit.dataset import Dataset
    from audit.evidence import Evidence
    from audit.model import Model
    from audit.products.attributions import Attributions


@check(
    "interpretability.deep_shap",
    needs={"logits", "gradients", "modules"},
    modality={"tabular", "image", "series"},
    measures={"mean_abs_attribution", "completeness_error", "completeness_met_share"},
)
def deep_shap(
    model: Model,
    data: Dataset,
    attributions: Attributions,
    *,
    rows: AtLeastOne | None = None,
    output: Literal["log_odds", "probability"] = "log_odds",
    target: Literal["predicted", "favourable"] = "predicted",
    background: AtLeastOne | None = None,
    bound: Annotated[float, Field(gt=0)] = 0.05,
    examples: Annotated[int, Field(ge=0, le=16)] = 4,
) -> Evidence:
    """DeepSHAP: each feature's share of the decision, passed back through the layers.

    For each row this compares the model's inner values with those of other rows of the data (the background),
    passes the differences in the answer back through the layers, and averages over the background. The shares
    add up to the difference between the answer for this row and the background's mean answer;
    `completeness_error` says how exactly. Where it is above `bound` for more than one row in twenty, the
    shares are shown and marked as not to be relied on.

    It approximates the values of `interpretability.shap` with far fewer passes, and is exact for a linear
    model. How good the approximation is for another model, it does not say: the two checks together do. It is
    computed by the shap package, which only warns where it has no rule for a layer, and not at all where a
    function stands outside a layer. So the network is followed once before: where that happens the check does
    not apply, and the reason names the place.

    Settings: `rows` explained (256, or 16 images), `output` and `target` that are explained, `background`
    rows (20, or 4 images), `bound`, `examples` shown.

    Lundberg, Lee: A Unified Approach to Interpreting Model Predictions, 2017, section 4.2.
    """
    found = attributions.of("deep_shap", rows=rows, output=output, target=target, background=background)
    require_explanation(found, exact=True)
    added = sums(found, bound)
    return gated(
        evidence(
            found,
            data,
            added.measures,
            finding="moved the decision most",
            caveats=[
                f"Compared with {found.settings['background']} background rows; others give other values.",
                "An approximation of Shapley values, computed by shap on a copy of the network.",
            ],
            examples=examples,
            value_range=model.input_range,
        ),
        added.doubt,
    )
