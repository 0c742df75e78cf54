"""RISE: random smooth masks over images and series."""

from typing import Any

import numpy as np
import torch

from audit.dataset import Dataset
from audit.errors import ConfigError, NotApplicable
from audit.explain.explained import Baseline, Explained, baseline_row, elementwise
from audit.explain.features import layout, membership
from audit.explain.rise import Masks, importance, masked_values
from audit.model import Model

SAMPLES = 1000


def rise(
    model: Model,
    data: Dataset,
    seed: int,
    explained: Explained,
    *,
    samples: int = SAMPLES,
    cells: int = 8,
    keep: float = 0.5,
    baseline: Baseline = "mean",
    grid: int = 4,
) -> dict[str, Any]:
    """What a place adds to the mean answer over all masks; a feature's value is the mean of its places.

    Args:
        model: the network.
        data: what it is explained on.
        seed: draws the masks, which are the same for all rows.
        explained: the rows.
        samples: masks.
        cells: cells of a mask's coarse grid on a side, or along each channel.
        keep: chance that a cell is seen, in (0, 1).
        baseline: what is seen where a mask is 0; see `baseline_row`.
        grid: cells that pixels, or stretches that steps, are added up in.
    """
    if data.modality == "tabular":
        raise NotApplicable(
            "RISE hides parts of images and series; occlusion and kernel_shap explain tables."
        )
    if not 0 < keep < 1:
        raise ConfigError(f"rise: 'keep' = {keep} is wrong; it must be between 0 and 1.")
    parts = layout(data, grid)
    places = parts.owner.shape
    masks = Masks(places, cells, keep, seed, model.device)
    fill = model.tensor(baseline_row(model, data, baseline))
    values = masked_values(model, explained.inputs, explained.classes, fill, masks, samples, explained.output)
    # Places times this add up to about the mean over a feature's places.
    share = len(parts.names) / np.prod(places)
    member = torch.from_numpy(membership(parts, places) * np.float32(share)).to(model.device)
    found = importance(values, masks, member)
    spread = found.values.numpy() * share
    return {
        **elementwise(_without_channel(spread, data), parts),
        "standard_error": found.standard_error.numpy(),
    }


def _without_channel(values: Any, data: Dataset) -> Any:
    """`elementwise` adds channels up, and a mask [1, H, W] has one; series [C, T] stay as they are."""
    return values if data.modality == "series" else values.reshape(len(values), 1, *values.shape[-2:])
