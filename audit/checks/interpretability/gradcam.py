"""Grad-CAM: where a convolution sees what speaks for the decision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from audit.check import check
from audit.evidence import Evidence
from audit.explain.summary import AtLeastOne, evidence, require_explanation
from audit.stats import proportion

if TYPE_CHECKING:
    from audit.dataset import Dataset
    from audit.model import Model
    from audit.products.attributions import Attributions

ONLY_FOR = "Only what speaks for the decision is shown: negative values are set to 0, as in the paper."
FOR_AND_AGAINST = (
    "What speaks for and against the decision is shown; the paper shows only what speaks for it."
)


@check(
    "interpretability.gradcam",
    needs={"logits", "gradients", "modules"},
    modality={"image", "series"},
    measures={"mean_abs_attribution", "empty_map_share"},
)
def gradcam(
    model: Model,
    data: Dataset,
    attributions: Attributions,
    *,
    rows: AtLeastOne | None = None,
    output: Literal["log_odds", "probability"] = "log_odds",
    target: Literal["predicted", "favourable"] = "predicted",
    layer: str | None = None,
    relu: bool = True,
    grid: AtLeastOne = 4,
    examples: Annotated[int, Field(ge=0, le=16)] = 4,
) -> Evidence:
    """Grad-CAM: where a convolution sees what speaks for the decision.

    A convolutional network turns an image or a series into channels, each of which is active where it finds
    what it looks for. For each row this weights the channels of one layer (the convolution that runs last,
    unless `layer` names another) with the mean slope of the model's answer in them, adds them up and enlarges
    the sum to the input. With `relu` what speaks against the decision is set to 0, as in the paper.
    `empty_map_share` is the share of rows where nothing is left; there is no picture for them.

    It answers where the layer's channels that favour the decision are active, at the layer's own coarse
    resolution. Where later layers weigh places themselves (a dense layer after the convolutions), the mean
    slope has forgotten which place counts. It does not say that the model would answer otherwise without
    these places, and the sizes of two maps cannot be compared. Colours and channels of the input are not told
    apart.

    Settings: `rows` explained (16 images or 64 series), `output` and `target` that are explained, `layer`,
    `relu`, `grid` stretches of time of a series, `examples` shown.

    Selvaraju, Cogswell, Das, Vedantam, Parikh, Batra: Grad-CAM, 2017.
    """
    found = attributions.of(
        "gradcam", rows=rows, output=output, target=target, layer=layer, relu=relu, grid=grid
    )
    require_explanation(found, exact=True)
    values = found.values[found.usable()]
    empty = int((np.abs(values).max(axis=1) == 0).sum())
    return evidence(
        found,
        data,
        [proportion("empty_map_share", empty, len(values), better="lower")],
        finding="held most of what speaks for the decision",
        caveats=[ONLY_FOR if relu else FOR_AND_AGAINST],
        examples=examples,
        value_range=model.input_range,
    )
