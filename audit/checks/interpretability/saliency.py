"""Saliency: the slope of the decision at each input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from audit.check import check
from audit.evidence import Evidence
from audit.explain.summary import AtLeastOne, evidence, require_explanation, resolution
from audit.stats import proportion

if TYPE_CHECKING:
    from audit.dataset import Dataset
    from audit.model import Model
    from audit.products.attributions import Attributions

LOCAL_SLOPE = (
    "Saliency is the local slope of the answer, not a contribution: a feature that decided the case can have "
    "no slope where the answer is saturated."
)


@check(
    "interpretability.saliency",
    needs={"logits", "gradients"},
    modality={"tabular", "image", "series"},
    measures={"mean_abs_attribution", "zero_gradient_share"},
)
def saliency(
    model: Model,
    data: Dataset,
    attributions: Attributions,
    *,
    rows: AtLeastOne | None = None,
    output: Literal["log_odds", "probability"] = "log_odds",
    target: Literal["predicted", "favourable"] = "predicted",
    per: Literal["deviation", "unit"] = "deviation",
    grid: AtLeastOne = 4,
    examples: Annotated[int, Field(ge=0, le=16)] = 4,
) -> Evidence:
    """Saliency: to which inputs is the decision most sensitive.

    For each row this takes the slope of the model's answer (the log-odds of the predicted class) in each
    input, without its sign. A steep slope means that a small change of that input changes the answer much.
    For tables the slope is per standard deviation of the column, so that age and income can be compared, and
    the columns of one category are added up. For images the colours of a pixel are added up; for series the
    steps of a stretch of time, channel by channel.

    It answers which inputs the decision reacts to close by. It does not say how much an input contributed:
    where the answer is saturated, an input that mattered much can have no slope. `zero_gradient_share` is
    the share of rows without any slope, for which saliency says nothing.

    Settings: `rows` explained (256, 16 images or 64 series), `output` and `target` that are explained, `per`
    standard `deviation` or raw `unit`, `grid` stretches of time of a series, `examples` shown.

    Simonyan, Vedaldi, Zisserman: Deep Inside Convolutional Networks, 2014.
    """
    found = attributions.of("saliency", rows=rows, output=output, target=target, per=per, grid=grid)
    require_explanation(found, exact=True)
    values = found.values[found.usable()]
    silent = int((np.abs(values).max(axis=1) == 0).sum())
    return evidence(
        found,
        data,
        [proportion("zero_gradient_share", silent, len(values), better="lower")],
        finding="would move the decision most if changed a little",
        caveats=[LOCAL_SLOPE, *resolution(data, grid)],
        examples=examples,
        value_range=model.input_range,
    )
