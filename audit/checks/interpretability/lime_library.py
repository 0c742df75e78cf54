"""LIME by the reference package: a simple model that imitates the decision close to each row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from audit.check import check
from audit.explain.summary import AtLeastOne, evidence, require_explanation
from audit.stats import mean

if TYPE_CHECKING:
    from audit.dataset import Dataset
    from audit.evidence import Evidence, Measure
    from audit.explain.attribution import Attribution
    from audit.model import Model
    from audit.products.attributions import Attributions


@check(
    "interpretability.lime_library",
    needs={"logits"},
    modality={"tabular", "image"},
    measures={"mean_abs_attribution", "local_r2", "local_prediction_error"},
)
def lime_library(
    model: Model,
    data: Dataset,
    attributions: Attributions,
    *,
    rows: AtLeastOne | None = None,
    output: Literal["log_odds", "probability"] = "log_odds",
    target: Literal["predicted", "favourable"] = "predicted",
    samples: Annotated[int, Field(ge=2)] | None = None,
    discretize: bool = False,
    segments: Literal["grid", "slic", "quickshift"] = "grid",
    grid: AtLeastOne = 4,
    fill: float | Literal["mean"] = "mean",
    examples: Annotated[int, Field(ge=0, le=16)] = 4,
) -> Evidence:
    """LIME by the reference package: a simple model that imitates the decision close to each row.

    The same question as `interpretability.lime`, answered by the package of LIME's authors, row by row: for
    each row it changes the features at random, asks the model, and fits a straight line in which close
    rows count more. `local_r2` says how much of the model's behaviour around the row the straight line
    describes; `local_prediction_error` is how far it is from the model's answer at the row itself.

    It serves as a second opinion on the native check, and for readers whose procedures name the package. With
    `discretize` the package's own default is used: numeric features are cut at their quartiles and a weight
    is that of staying in the row's own quarter. That describes the model less well (see `local_r2`), and the
    weights change more from seed to seed.

    Settings: `rows` explained (256, or 16 images), `output` and `target` that are explained, `samples`
    changed rows (1000, or 256 for images), `discretize`, `segments` of an image (`grid`, or superpixels by
    `slic`, about as many as the grid has cells, or by `quickshift`, as many as it finds), `grid` cells on a
    side, `fill` that hides a part (`mean` colour or a raw value), `examples` shown.

    Ribeiro, Singh, Guestrin: "Why Should I Trust You?", 2016.
    """
    found = attributions.of(
        "lime_library",
        rows=rows,
        output=output,
        target=target,
        samples=samples,
        discretize=discretize,
        segments=segments,
        grid=grid,
        fill=fill,
    )
    require_explanation(found)
    return evidence(
        found,
        data,
        _measures(found),
        finding="moved the decision most",
        caveats=["Weights come from randomly changed rows, which may not occur in reality."],
        examples=examples,
        value_range=model.input_range,
    )


def _measures(item: Attribution) -> list[Measure]:
    usable = item.usable()
    r2 = item.extras["r2"][usable]
    known = r2[np.isfinite(r2)].tolist()
    reason = "" if known else "the model's answer does not vary around any row"
    gap = np.abs(item.extras["local_prediction"] - item.fx)[usable].tolist()
    return [
        mean("local_r2", known, unit="share", better="higher", reason=reason),
        mean("local_prediction_error", gap, unit=item.unit, better="lower"),
    ]
