"""RISE: how the decision goes with what random masks let through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from audit.check import check
from audit.evidence import Evidence
from audit.explain.summary import AtLeastOne, evidence, require_explanation, resolution, sampling_error

if TYPE_CHECKING:
    from audit.dataset import Dataset
    from audit.model import Model
    from audit.products.attributions import Attributions

MASKED = (
    "From {samples} random masks of {cells} cells on a side; nothing finer than a cell is resolved, and "
    "masked inputs may not occur in reality."
)


@check(
    "interpretability.rise",
    needs={"logits"},
    modality={"image", "series"},
    measures={"mean_abs_attribution", "relative_standard_error"},
)
def rise(
    model: Model,
    data: Dataset,
    attributions: Attributions,
    *,
    rows: AtLeastOne | None = None,
    output: Literal["log_odds", "probability"] = "log_odds",
    target: Literal["predicted", "favourable"] = "predicted",
    samples: AtLeastOne = 1000,
    cells: AtLeastOne = 8,
    keep: Annotated[float, Field(gt=0, lt=1)] = 0.5,
    baseline: Literal["auto", "mean", "zero", "lowest"] = "mean",
    grid: AtLeastOne = 4,
    examples: Annotated[int, Field(ge=0, le=16)] = 4,
) -> Evidence:
    """RISE: how the decision goes with what random masks let through.

    For each image or series this hides random, smoothly bounded parts many times and sees how the model's
    answer goes with what was visible: the value of a place is what seeing it adds to the mean answer over all
    masks. The masks are the same for all rows. `relative_standard_error` is the sampling error as a share of
    the attributions, from groups of the same masks; where it is large, more `samples` are needed and the
    picture shows the masks rather than the model.

    It answers which places the answer depends on while about half of all others are hidden. It needs no
    slopes, so it works for any model. Hidden places are replaced by `baseline`; such images may not occur in
    reality, on which the model was never trained. Nothing finer than a cell of a mask is resolved.

    Settings: `rows` explained (16 images or 64 series), `output` and `target` that are explained, `samples`
    masks, `cells` of a mask on a side, `keep` chance that a cell is seen, `baseline` (`mean`, `zero`,
    `lowest`), `grid` stretches of time of a series, `examples` shown.

    Petsiuk, Das, Saenko: RISE, 2018. Values are taken around their mean; the order of places is the same.
    """
    found = attributions.of(
        "rise",
        rows=rows,
        output=output,
        target=target,
        samples=samples,
        cells=cells,
        keep=keep,
        baseline=baseline,
        grid=grid,
    )
    require_explanation(found)
    return evidence(
        found,
        data,
        [sampling_error(found)],
        finding="raised the answer most where seen",
        caveats=[MASKED.format(samples=samples, cells=cells), *resolution(data, grid)],
        examples=examples,
        value_range=model.input_range,
    )
