"""Saliency: the absolute gradient of the explained number."""

from typing import Any, Literal

import numpy as np

from audit.dataset import Dataset
from audit.explain.explained import UNITS, Explained, by_pixel, deviations, elementwise
from audit.explain.features import layout, sum_by_owner
from audit.explain.gradients import gradients
from audit.model import Model


def saliency(
    model: Model,
    data: Dataset,
    seed: int,
    explained: Explained,
    *,
    per: Literal["deviation", "unit"] = "deviation",
    grid: int = 4,
) -> dict[str, Any]:
    """Absolute gradient of the explained number; the signed one is `extras["signed"]`.

    Args:
        model: the network.
        data: what it is explained on.
        seed: not used.
        explained: the rows.
        per: slope for a standard deviation of each table column or channel of series, or for one raw
            unit. Images: one unit.
        grid: cells that pixels are added up in.
    """
    del seed
    slope = gradients(model, explained.inputs, explained.classes, explained.output).double().numpy()
    scaled = per == "deviation" and data.modality != "image"
    if scaled:
        slope = slope * deviations(data)
    parts = layout(data, grid)
    fields = elementwise(np.abs(slope), parts)
    fields["extras"] = {"signed": sum_by_owner(by_pixel(slope, parts), parts.owner, len(parts.names))}
    fields["unit"] = f"{UNITS[explained.output]} per {'standard deviation' if scaled else 'unit'}"
    return fields
