"""LIME: a simple model that imitates the decision close to each row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from audit.check import check
from audit.evidence import Evidence, Measure
from audit.explain.summary import AtLeastOne, evidence, require_explanation
from audit.stats import mean

if TYPE_CHECKING:
    from audit.dataset import Dataset
    from audit.explain.attribution import Attribution
    from audit.model import Model
    from audit.products.attributions import Attributions


@check(
    "interpretability.lime",
    needs={"logits"},
    modality={"tabular", "image"},
    measures={"mean_abs_attribution", "local_r2", "local_prediction_error"},
)
def lime(
    model: Model,
    data: Dataset,
    attributions: Attributions,
    *,
    rows: AtLeastOne | None = None,
    output: Literal["log_odds", "probability"] = "log_odds",
    target: Literal["predicted", "favourable"] = "predicted",
    samples: AtLeastOne | None = None,
    segments: Literal["grid", "slic", "quickshift"] = "grid",
    grid: AtLeastOne = 4,
    fill: float | Literal["mean"] = "mean",
    examples: Annotated[int, Field(ge=0, le=16)] = 4,
) -> Evidence:
    """LIME: a simple model that imitates the decision close to each row.

    For each row this changes its features at random, asks the model about the changed rows, and fits a
    straight-line model to the answers in which close rows count more. The weights of the straight line are
    the explanation: per standard deviation of a numeric feature, and for keeping a category or a part of an
    image. `local_r2` says how much of the model's behaviour around the row the straight line describes;
    `local_prediction_error` is how far it is from the model's answer at the row itself.

    It answers which features a straight line needs to imitate the model nearby. Where `local_r2` is low the
    straight line does not describe the model and its weights should not be relied on. Changed rows may not
    occur in reality, on which the model was never trained.

    Settings: `rows` explained (256, or 16 images), `output` and `target` that are explained, `samples`
    changed rows (1000, or 256 for images), `segments` of an image (`grid`, or superpixels by `slic`, about as
    many as the grid has cells, or by `quickshift`, as many as it finds), `grid` cells on a side, `fill` that
    hides a part (`mean` colour or a raw value), `examples` shown.

    Ribeiro, Singh, Guestrin: "Why Should I Trust You?", 2016.
    """
    found = attributions.of(
        "lime",
        rows=rows,
        output=output,
        target=target,
        samples=samples,
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
        caveats=_caveats(segments, grid, fill, data.modality == "image"),
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


def _caveats(segments: str, grid: int, fill: float | str, image: bool) -> list[str]:
    found = ["Weights come from randomly changed rows, which may not occur in reality."]
    if image:
        parts = {
            "grid": f"{grid} x {grid} cells",
            "slic": f"about {grid * grid} superpixels",
            "quickshift": "superpixels, as many as quickshift finds",
        }[segments]
        hidden = "their mean colour" if fill == "mean" else f"the raw value {fill}"
        found.append(f"An image is cut into {parts}, hidden by {hidden}; nothing finer is resolved.")
    else:
        found.append(
            "Numeric features get Gaussian noise of their standard deviation around the row, without regard "
            "to their range or to each other; categories are drawn from the data."
        )
    return found
