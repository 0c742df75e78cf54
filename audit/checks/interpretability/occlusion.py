"""Occlusion: how far the decision falls when a part is hidden."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from audit.check import check
from audit.evidence import Evidence
from audit.explain.summary import FLOAT_NOISE, AtLeastOne, evidence, require_explanation, resolution
from audit.stats import proportion

if TYPE_CHECKING:
    from audit.dataset import Dataset
    from audit.model import Model
    from audit.products.attributions import Attributions


@check(
    "interpretability.occlusion",
    needs={"logits"},
    modality={"tabular", "image", "series"},
    measures={"mean_abs_attribution", "unmoved_share"},
)
def occlusion(
    model: Model,
    data: Dataset,
    attributions: Attributions,
    *,
    rows: AtLeastOne | None = None,
    output: Literal["log_odds", "probability"] = "log_odds",
    target: Literal["predicted", "favourable"] = "predicted",
    window: AtLeastOne | None = None,
    stride: AtLeastOne | None = None,
    baseline: Literal["auto", "mean", "zero", "lowest"] = "mean",
    grid: AtLeastOne = 4,
    examples: Annotated[int, Field(ge=0, le=16)] = 4,
) -> Evidence:
    """Occlusion: how far the decision falls when a part of the input is hidden.

    For each row this hides one part at a time and sees how far the model's answer falls: a feature of a table
    (all columns of a category together), what a window covers that slides over an image, or a stretch of time
    of one channel of a series. What is hidden is replaced by `baseline`. Where windows overlap, a place
    gets the mean of the windows that cover it, and the fall of a window is shared out over its places.
    `unmoved_share` is the share of rows where hiding no part changes the answer.

    It answers what the model needs of this row, one part at a time. Two parts that stand in for each other
    both get nothing, because hiding either leaves the other. A row with a hidden part may not occur in
    reality, on which the model was never trained. The falls need not add up to anything.

    Settings: `rows` explained (256, 16 images or 64 series), `output` and `target` that are explained,
    `window` in pixels or steps (an eighth of the shorter side) and its `stride` (half of it), `baseline`
    (`mean`, `zero`, `lowest`), `grid` stretches of time that a series is reported in, `examples` shown.

    Zeiler, Fergus: Visualizing and Understanding Convolutional Networks, 2014.
    """
    found = attributions.of(
        "occlusion",
        rows=rows,
        output=output,
        target=target,
        window=window,
        stride=stride,
        baseline=baseline,
        grid=grid,
    )
    require_explanation(found)
    values = found.values[found.usable()]
    noise = FLOAT_NOISE * (1 + np.abs(found.fx[found.usable()]))
    unmoved = int((np.abs(values).max(axis=1) <= noise).sum())
    return evidence(
        found,
        data,
        [proportion("unmoved_share", unmoved, len(values), better="lower")],
        finding="moved the decision most when hidden",
        caveats=[*_caveats(found.settings, data), *resolution(data, grid)],
        examples=examples,
        value_range=model.input_range,
    )


def _caveats(settings: Mapping[str, Any], data: Dataset) -> list[str]:
    seen = {"mean": "its mean in the data", "zero": "zeros", "lowest": "its lowest value"}
    default = "lowest" if data.modality == "image" else "mean"
    named = seen[default if settings["baseline"] == "auto" else settings["baseline"]]
    found = [f"What is hidden is replaced by {named}; such inputs may not occur in reality."]
    if settings["window"]:
        side = f"{settings['window']}"
        size = f"{side} x {side} pixels" if data.modality == "image" else f"{side} steps of one channel"
        found.append(f"The window is {size} and moves by {settings['stride']}; nothing finer is resolved.")
    return found
