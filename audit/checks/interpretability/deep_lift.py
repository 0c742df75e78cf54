"""DeepLift: what each input contributed, passed back layer by layer."""

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
    "interpretability.deep_lift",
    needs={"logits", "gradients", "modules"},
    modality={"tabular", "image", "series"},
    measures={"mean_abs_attribution", "completeness_error", "completeness_met_share"},
)
def deep_lift(
    model: Model,
    data: Dataset,
    attributions: Attributions,
    *,
    rows: AtLeastOne | None = None,
    output: Literal["log_odds", "probability"] = "log_odds",
    target: Literal["predicted", "favourable"] = "predicted",
    baseline: Literal["auto", "mean", "zero", "lowest"] = "auto",
    bound: Annotated[float, Field(gt=0)] = 0.05,
    examples: Annotated[int, Field(ge=0, le=16)] = 4,
) -> Evidence:
    """DeepLift: what each input contributed, passed back layer by layer.

    For each row this compares the model's inner values with those of a baseline (the mean row, or a black
    image) and passes the difference in the answer back through the layers, down to the inputs. The
    contributions of all inputs should add up to the difference between the two answers. `completeness_error`
    says how far they are from it, as a share of that difference. Where it is above `bound` for more than one
    row in twenty, the contributions are shown and marked as not to be relied on.

    It answers what moved the answer away from the baseline's, with two passes for each row. It is computed by
    captum, which has rules for some layers only and does not say so when it meets others. So the network is
    followed once before: where it calls a function outside a layer, uses a layer twice or has a layer without
    a rule, the check does not apply, and the reason names the place. Another baseline gives other
    contributions.

    Settings: `rows` explained (256, or 16 images), `output` and `target` that are explained, `baseline`
    (`mean`, `zero`, `lowest`), `bound`, `examples` shown.

    Shrikumar, Greenside, Kundaje: Learning Important Features Through Propagating Activation Differences,
    2017.
    """
    found = attributions.of("deep_lift", rows=rows, output=output, target=target, baseline=baseline)
    require_explanation(found, exact=True)
    added = sums(found, bound)
    return gated(
        evidence(
            found,
            data,
            added.measures,
            finding="moved the decision most",
            caveats=[
                "Contributions are relative to one baseline; another baseline gives others.",
                "Computed by captum on a copy of the network.",
            ],
            examples=examples,
            value_range=model.input_range,
        ),
        added.doubt,
    )
