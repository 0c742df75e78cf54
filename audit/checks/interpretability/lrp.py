"""LRP: the relevance of each input for the score of the class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from audit.check import check
from audit.explain.summary import AtLeastOne, evidence, require_explanation
from audit.stats import mean

if TYPE_CHECKING:
    from audit.dataset import Dataset
    from audit.evidence import Evidence
    from audit.model import Model
    from audit.products.attributions import Attributions


@check(
    "interpretability.lrp",
    needs={"logits", "gradients", "modules"},
    modality={"tabular", "image", "series"},
    measures={"mean_abs_attribution", "absorbed_share"},
)
def lrp(
    model: Model,
    data: Dataset,
    attributions: Attributions,
    *,
    rows: AtLeastOne | None = None,
    target: Literal["predicted", "favourable"] = "predicted",
    examples: Annotated[int, Field(ge=0, le=16)] = 4,
) -> Evidence:
    """LRP: the relevance of each input for the score of the class.

    For each row this takes the model's score (logit) of the class and hands it back through the layers, each
    value getting as much as it put in, down to the inputs (layer-wise relevance propagation, epsilon rule in
    every layer). `absorbed_share` is how much of the score did not arrive at the inputs: biases of the layers
    keep it, as the rule has it. Where it is large the inputs explain only part of the score.

    It answers which inputs the score was made of. It has no baseline, so it does not say why this answer and
    not another. It is computed by captum, which has rules for few layers: the network is followed once
    before, and where it has a shortcut, a function outside a layer, a layer used twice or a layer without a
    rule the check does not apply, and the reason names the place.

    Settings: `rows` explained (256, or 16 images), `target` that is explained, `examples` shown.

    Bach et al.: On Pixel-Wise Explanations for Non-Linear Classifier Decisions by Layer-Wise Relevance
    Propagation, 2015.
    """
    found = attributions.of("lrp", rows=rows, target=target)
    require_explanation(found, exact=True)
    usable = found.usable()
    absorbed = np.zeros(0) if found.completeness is None else found.completeness[usable]
    return evidence(
        found,
        data,
        [mean("absorbed_share", absorbed.tolist(), unit="share", better="lower")],
        finding="carried most of the score",
        caveats=[
            "Relevance is for the logit of one class by itself, not for its odds against the others.",
            "Computed by captum on a copy of the network, with the epsilon rule in every layer.",
        ],
        examples=examples,
        value_range=model.input_range,
    )
