"""What methods are given, and how what they find becomes values in the user's own features."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from audit.dataset import Dataset, Ints
from audit.explain.attribution import Doubles
from audit.explain.features import Layout, spread_over_pixels, sum_by_owner
from audit.explain.quantity import Output
from audit.model import Model

Baseline = Literal["auto", "mean", "zero", "lowest"]
UNITS = {"log_odds": "log-odds", "probability": "probability"}


@dataclass(frozen=True)
class Explained:
    """Rows to explain: indices [n], raw inputs [n, ...], class [n] and value [n] explained."""

    index: Ints
    inputs: Tensor
    classes: Tensor
    fx: Doubles
    output: Output

    def facts(self) -> dict[str, Any]:
        """The fields of an `Attribution` that say what was explained."""
        return {
            "rows": self.index,
            "targets": self.classes.cpu().numpy(),
            "fx": self.fx,
            "unit": UNITS[self.output],
        }


def baseline_row(model: Model, data: Dataset, baseline: Baseline) -> Any:
    """[1, ...] float32 raw row that stands for "nothing seen".

    `mean` is the mean row of a table or of series and the mean colour of all images; `lowest` is the low end
    of the model's input range, else the lowest value that each table column, or any pixel, may take. `auto`
    is `lowest` for images and `mean` for all else.
    """
    image = data.modality == "image"
    shape = (1, *data.inputs.shape[1:])
    if baseline == "zero":
        return np.zeros(shape, dtype=np.float32)
    if baseline == "mean" or (baseline == "auto" and not image):
        axes = (0, 2, 3) if image else 0
        centre = data.inputs.mean(axis=axes, keepdims=True, dtype=np.float64)
        return np.broadcast_to(centre, shape).astype(np.float32)
    if model.input_range is not None:
        return np.full(shape, model.input_range[0], dtype=np.float32)
    low = data.inputs.min() if image else data.column_bounds()[0].reshape(shape)
    return np.broadcast_to(low, shape).astype(np.float32)


def deviations(data: Dataset) -> Doubles:
    """Standard deviation of each table column [D] or channel of series [C, 1]; of images 1 for each pixel."""
    if data.modality == "image":
        return np.ones((1,) * (data.inputs.ndim - 1))
    axes = 0 if data.modality == "tabular" else (0, *range(2, data.inputs.ndim))
    spread: Doubles = data.inputs.std(axis=axes, dtype=np.float64)
    return spread.reshape(spread.shape + (1,) * (data.inputs.ndim - 1 - spread.ndim))


def scores_of(model: Model, rows: Tensor) -> Tensor:
    """[n, C] scores of raw rows on the device, without gradients."""
    with torch.no_grad():
        return model.in_batches(lambda part: (model.scores(rows[part]),), len(rows))[0]


def by_pixel(values: Doubles, parts: Layout) -> Doubles:
    """Values of an image's channels added up; all other values as they are."""
    summed: Doubles = values.sum(axis=1) if parts.owner.ndim == 3 else values  # noqa: PLR2004 - [1, H, W]
    return summed


def elementwise(values: Doubles, parts: Layout) -> dict[str, Any]:
    """Values per input element [n, ...] as values per feature, as maps for images, by step for series."""
    pixels = by_pixel(values, parts)
    maps = pixels.astype(np.float32) if pixels is not values else None
    return {
        "values": sum_by_owner(pixels, parts.owner, len(parts.names)),
        "maps": maps,
        "features": parts.names,
        "elements": values.astype(np.float32) if parts.owner.ndim == 2 else None,  # noqa: PLR2004 - [C, T]
    }


def segmentwise(values: Doubles, names: tuple[str, ...], data: Dataset, segments: Ints) -> dict[str, Any]:
    """Values per segment [n, M], and as maps for images."""
    maps = spread_over_pixels(values, segments) if data.modality == "image" else None
    return {"values": values, "features": names, "maps": maps}
