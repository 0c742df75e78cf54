"""Expected gradients: contributions on the way from many rows of the data."""

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
from audit.stats import proportion

if TYPE_CHECKING:
    from audit.dataset import Dataset
    from audit.explain.attribution import Attribution
    from audit.model import Model
    from audit.products.attributions import Attributions

RELATIVE = (
    "Contributions are relative to {rows} background rows of the data; another background gives others."
)
ERRORS = 3
FLOAT = 1e-5


@check(
    "interpretability.expected_gradients",
    needs={"logits", "gradients"},
    modality={"tabular", "image", "series"},
    measures={
        "mean_abs_attribution",
        "completeness_error",
        "completeness_within_error_share",
        "relative_standard_error",
    },
)
def expected_gradients(
    model: Model,
    data: Dataset,
    attributions: Attributions,
    *,
    rows: AtLeastOne | None = None,
    output: Literal["log_odds", "probability"] = "log_odds",
    target: Literal["predicted", "favourable"] = "predicted",
    samples: AtLeastOne = 200,
    background: AtLeastOne | None = None,
    grid: AtLeastOne = 4,
    examples: Annotated[int, Field(ge=0, le=16)] = 4,
) -> Evidence:
    """Expected gradients: what each input contributed, compared with many rows of the data.

    Integrated gradients walk from one baseline to the row, and another baseline gives other contributions.
    This walks from many rows of the data (the background) and averages: it takes the slope of the model's
    answer at random points between a background row and the row, times the difference of the two. It is also
    known as GradientSHAP. The contributions of all inputs add up, but for sampling error, to the difference
    between the answer at the row and the background's mean answer. `completeness_error` says how far they are
    from it, as a share of that difference; `completeness_within_error_share` is the share of rows where the
    distance is within three times its own standard error, about all of them unless slopes and answers do
    not belong together. `relative_standard_error` is the sampling error as a share of the attributions, from
    groups of the same samples.

    It answers what moved the answer away from that for the background. Points between two rows may not occur
    in reality, on which the model was never trained.

    Settings: `rows` explained (256, 16 images or 64 series), `output` and `target` that are explained,
    `samples` slopes a row, `background` rows (100, or 32 images), `grid` stretches of
    time of a series, `examples` shown.

    Erion, Janizek, Sturmfels, Lundberg, Lee: Improving Performance of Deep Learning Models with Axiomatic
    Attribution Priors and Expected Gradients, 2021. Lundberg, Lee: A Unified Approach, 2017.
    """
    found = attributions.of(
        "expected_gradients",
        rows=rows,
        output=output,
        target=target,
        samples=samples,
        background=background,
        grid=grid,
    )
    require_explanation(found, exact=True)
    return evidence(
        found,
        data,
        [*_completeness(found), sampling_error(found)],
        finding="moved the decision most",
        caveats=[RELATIVE.format(rows=found.settings["background"]), *resolution(data, grid)],
        examples=examples,
        value_range=model.input_range,
    )


def _completeness(item: Attribution) -> list[Measure]:
    usable = item.usable()
    error = np.zeros(0) if item.completeness is None else item.completeness[usable]
    base = np.zeros(len(item.fx)) if item.base is None else item.base
    distance = np.abs(item.values[usable].sum(axis=1) - (item.fx[usable] - base[usable]))
    allowed = ERRORS * item.extras["sum_error"][usable] + FLOAT * (1 + np.abs(item.fx[usable]))
    known = np.isfinite(allowed)
    within = int((distance <= allowed)[known].sum())
    return [
        mean_of_finite("completeness_error", error, "completeness errors", unit="share", better="lower"),
        proportion("completeness_within_error_share", within, int(known.sum()), better="higher"),
    ]
