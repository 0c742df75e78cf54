"""SmoothGrad and VarGrad: the slope of the decision over small random changes of the input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from audit.check import check
from audit.evidence import Evidence, Measure
from audit.explain.summary import AtLeastOne, evidence, require_explanation, resolution, sampling_error

if TYPE_CHECKING:
    from audit.dataset import Dataset
    from audit.model import Model
    from audit.products.attributions import Attributions

LOCAL = (
    "A local slope, not a contribution: a feature that decided the case can have no slope where the answer "
    "is saturated."
)
VARIANCE = "mean_gradient_variance"
FINDINGS = {
    "mean": "would move the decision most if changed a little",
    "variance": "would change its slope most if changed a little",
}


@check(
    "interpretability.smoothgrad",
    needs={"logits", "gradients"},
    modality={"tabular", "image", "series"},
    measures={"mean_abs_attribution", VARIANCE, "relative_standard_error"},
)
def smoothgrad(
    model: Model,
    data: Dataset,
    attributions: Attributions,
    *,
    rows: AtLeastOne | None = None,
    output: Literal["log_odds", "probability"] = "log_odds",
    target: Literal["predicted", "favourable"] = "predicted",
    statistic: Literal["mean", "variance"] = "mean",
    samples: AtLeastOne | None = None,
    noise: Annotated[float, Field(gt=0)] = 0.15,
    per: Literal["deviation", "unit"] = "deviation",
    grid: AtLeastOne = 4,
    examples: Annotated[int, Field(ge=0, le=16)] = 4,
) -> Evidence:
    """SmoothGrad: the slope of the decision, averaged over small random changes of the input.

    The slope at one point can change abruptly from one point to the next and says little there. For each row
    this adds random noise many times and takes the slopes of the model's answer at all these copies: their
    mean, without its sign (SmoothGrad), or with `statistic` = `variance` their variance (VarGrad), which
    shows where the slope depends on the noise. For tables the slope is per standard deviation of the column,
    and columns of categories get no noise. The noise is drawn from the seed: for the mean all rows share it,
    each with signs of its own, and for the variance each row has its own. `mean_abs_attribution` is the mean
    over rows; the variance is another number and is called `mean_gradient_variance`.
    `relative_standard_error` is the sampling error as a share of the attributions, found by comparing groups
    of the same copies.

    It answers which inputs the decision reacts to in the neighbourhood of the row. Like saliency it does not
    say how much an input contributed, and it explains a smoothed model, not the model itself: another `noise`
    gives another explanation.

    Settings: `rows` explained (256, 16 images or 64 series), `output` and `target` that are explained,
    `statistic`, `samples` copies (50, or 32 for images), `noise` as a share of the standard deviation of a
    column or channel and of the range of images, `per` standard `deviation` or raw `unit`, `grid` stretches
    of time of a series, `examples` shown.

    Smilkov, Thorat, Kim, Viegas, Wattenberg: SmoothGrad, 2017. Adebayo, Gilmer, Goodfellow, Kim: Local
    Explanation Methods for Deep Neural Networks Lack Sensitivity to Parameter Values, 2018.
    """
    found = attributions.of(
        "smoothgrad" if statistic == "mean" else "vargrad",
        rows=rows,
        output=output,
        target=target,
        samples=samples,
        noise=noise,
        per=per,
        grid=grid,
    )
    require_explanation(found, exact=True)
    base = evidence(
        found,
        data,
        [sampling_error(found)],
        finding=FINDINGS[statistic],
        caveats=[*_caveats(found.settings["samples"], noise, data.modality), *resolution(data, grid)],
        examples=examples,
        value_range=model.input_range,
    )
    return base if statistic == "mean" else replace(base, measures=_renamed(base.measures))


def _renamed(measures: Sequence[Measure]) -> list[Measure]:
    """What is said against one of the two statistics must not meet the other, so they differ in name."""
    return [
        replace(item, name=VARIANCE) if item.name == "mean_abs_attribution" else item for item in measures
    ]


def _caveats(samples: int, noise: float, modality: str) -> list[str]:
    of = "range of the images" if modality == "image" else "standard deviation of each input"
    averaged = f"Taken over {samples} copies with noise of {noise:g} of the {of}"
    return [LOCAL, f"{averaged}; another amount of noise gives another explanation."]
