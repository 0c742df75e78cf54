"""Input x gradient: the slope of the decision at each input times the input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from audit.check import check
from audit.evidence import Evidence
from audit.explain.summary import AtLeastOne, evidence, mean_of_finite, require_explanation, resolution

if TYPE_CHECKING:
    from audit.dataset import Dataset
    from audit.model import Model
    from audit.products.attributions import Attributions

FROM_ZERO = (
    "Contributions are relative to an input of zeros and use the slope at the row alone; another zero of the "
    "same feature, as scaling makes, gives others."
)


@check(
    "interpretability.input_x_gradient",
    needs={"logits", "gradients"},
    modality={"tabular", "image", "series"},
    measures={"mean_abs_attribution", "gap_to_zero_input"},
)
def input_x_gradient(
    model: Model,
    data: Dataset,
    attributions: Attributions,
    *,
    rows: AtLeastOne | None = None,
    output: Literal["log_odds", "probability"] = "log_odds",
    target: Literal["predicted", "favourable"] = "predicted",
    grid: AtLeastOne = 4,
    examples: Annotated[int, Field(ge=0, le=16)] = 4,
) -> Evidence:
    """Input x gradient: the slope of the decision at each input, times the input.

    For each row this takes the slope of the model's answer (the log-odds of the predicted class) in each
    input and multiplies it with the input. An input of 0 gets nothing, however steep the slope is. The
    columns of one category are added up, as are the colours of a pixel and the steps of a stretch of time.

    For a network of straight pieces without constants the contributions add up to the difference between the
    answer at the row and at an input of zeros. `gap_to_zero_input` is how far they are from that, as a share
    of the difference: where it is large, input x gradient is not a division of the answer among the inputs,
    and integrated gradients should be read instead.

    It answers what each input would contribute if the answer were a straight line from zero with the slope
    that it has at the row. It depends on where the zero of an input lies.

    Settings: `rows` explained (256, 16 images or 64 series), `output` and `target` that are explained, `grid`
    stretches of time of a series, `examples` shown.

    Shrikumar, Greenside, Shcherbina, Kundaje: Not Just a Black Box, 2016.
    """
    found = attributions.of("input_x_gradient", rows=rows, output=output, target=target, grid=grid)
    require_explanation(found, exact=True)
    gap = found.extras["zero_gap"][found.usable()]
    return evidence(
        found,
        data,
        [
            mean_of_finite(
                "gap_to_zero_input", gap, "gaps to the input of zeros", unit="share", better="lower"
            )
        ],
        finding="moved the decision most",
        caveats=[FROM_ZERO, *resolution(data, grid)],
        examples=examples,
        value_range=model.input_range,
    )
