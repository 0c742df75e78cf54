"""SHAP: each feature's fair share of the decision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from audit.check import check
from audit.evidence import Evidence, Measure
from audit.explain.summary import (
    AtLeastOne,
    evidence,
    mean_of_finite,
    require_explanation,
    resolution,
    sampling_error,
)

if TYPE_CHECKING:
    from audit.dataset import Dataset
    from audit.explain.attribution import Attribution
    from audit.model import Model
    from audit.products.attributions import Attributions


@check(
    "interpretability.shap",
    needs={"logits"},
    modality={"tabular", "image", "series"},
    measures={"mean_abs_attribution", "additivity_error", "relative_standard_error"},
)
def shap(
    model: Model,
    data: Dataset,
    attributions: Attributions,
    *,
    rows: AtLeastOne | None = None,
    output: Literal["log_odds", "probability"] = "log_odds",
    target: Literal["predicted", "favourable"] = "predicted",
    samples: AtLeastOne | None = None,
    background: AtLeastOne | None = None,
    grid: AtLeastOne = 4,
    examples: Annotated[int, Field(ge=0, le=16)] = 4,
) -> Evidence:
    """SHAP: each feature's share of the decision, compared with other rows.

    For each row this replaces groups of features by those of other rows of the data (the background) and
    sees how the model's answer changes. Each feature gets its average effect over all ways to add it (its
    Shapley value). The shares add up to the difference between the answer for this row and the background's
    mean answer; `additivity_error` says how exactly. Where not all groups can be tried they are sampled, and
    `relative_standard_error` is the sampling error as a share of the attributions; it is 0 where all were
    tried. The columns of one category count as one feature; an image is cut into cells,
    a series into stretches of time.

    It answers what each feature contributed compared with the background. Replaced features can make rows
    that do not occur in reality, on which the model was never trained, and a model can be built to behave
    well only there. Features that go together share their credit in a way that says nothing about causes.

    Settings: `rows` explained (256, 16 images or 64 series), `output` and `target` that are explained,
    `samples` groups tried (512, or 256 for images), `background` rows (20, or 4 images), `grid` cells on a
    side or stretches of time, `examples` shown.

    Lundberg, Lee: A Unified Approach to Interpreting Model Predictions, 2017. Covert, Lee: Improving
    KernelSHAP, 2021.
    """
    found = attributions.of(
        "kernel_shap",
        rows=rows,
        output=output,
        target=target,
        samples=samples,
        background=background,
        grid=grid,
    )
    require_explanation(found)
    return evidence(
        found,
        data,
        _measures(found),
        finding="moved the decision most",
        caveats=[
            *_caveats(int(found.settings["background"]), grid, data.modality == "image"),
            *resolution(data, grid),
        ],
        examples=examples,
        value_range=model.input_range,
    )


def _measures(item: Attribution) -> list[Measure]:
    usable = item.usable()
    error = np.zeros(0) if item.completeness is None else item.completeness[usable]
    return [
        mean_of_finite("additivity_error", error, "additivity errors", unit="share", better="lower"),
        sampling_error(item),
    ]


def _caveats(background: int, grid: int, image: bool) -> list[str]:
    mixed = f"Left-out features are taken from {background} background rows of the data"
    found = [f"{mixed}: mixed rows may not occur in reality, and another background gives other values."]
    if image:
        found.append(f"An image is cut into {grid} x {grid} cells; nothing finer than a cell is resolved.")
    return found
