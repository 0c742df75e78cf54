"""LIME for tables and images."""

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from audit.dataset import Dataset, Ints
from audit.errors import NotApplicable
from audit.explain.explained import Explained, segmentwise
from audit.explain.features import grid_cells, layout, superpixels
from audit.explain.lime import (
    RIDGE,
    Surrogates,
    draw_masks,
    draw_noise,
    fit_surrogates,
    image_neighbourhood,
    image_values,
    segment_means,
    table_neighbourhood,
    table_values,
)
from audit.model import Model

SAMPLES = {"tabular": 1000, "image": 256}
Segments = Literal["grid", "slic", "quickshift"]


def lime(
    model: Model,
    data: Dataset,
    seed: int,
    explained: Explained,
    *,
    samples: int | None = None,
    segments: Segments = "grid",
    grid: int = 4,
    fill: float | Literal["mean"] = "mean",
) -> dict[str, Any]:
    """LIME; `extras` holds `r2` and `local_prediction`, the surrogate's own answer at each row.

    Args:
        model: the network.
        data: what it is explained on; scales and categories come from it.
        seed: draws the perturbations.
        explained: the rows.
        samples: perturbed rows; default 1000 for tables, 256 for images.
        segments: image parts: a `grid`, superpixels by `slic`, about as many as the grid has cells, or by
            `quickshift`, as many as it finds.
        grid: cells on a side.
        fill: raw value that hides a part of an image, or its `mean` colour.
    """
    if data.modality == "series":
        raise NotApplicable("LIME is for tables and images here; kernel_shap and occlusion explain series.")
    samples = samples or SAMPLES[data.modality]
    parts = layout(data, grid)
    if data.modality != "image":
        owner = torch.from_numpy(parts.owner)
        noise = draw_noise(data, owner, len(parts.names), samples, seed)
        values = table_values(model, explained.inputs, explained.classes, noise, explained.output)
        block = table_neighbourhood(explained.inputs, noise)
        found = fit_surrogates(block, _with_itself(explained, values), len(parts.names))
        return _surrogate_fields(
            found, samples, segmentwise(found.coefficients, parts.names, data, parts.owner)
        )
    cells = _image_segments(data, explained.index, segments, grid)
    found = _image_surrogates(model, explained, cells, samples, seed, fill)
    names = parts.names
    if segments != "grid":
        names = tuple(f"segment {index + 1}" for index in range(found.coefficients.shape[1]))
    return _surrogate_fields(found, samples, segmentwise(found.coefficients, names, data, cells))


def _surrogate_fields(found: Surrogates, samples: int, fields: dict[str, Any]) -> dict[str, Any]:
    return {
        **fields,
        "base": found.intercept,
        "settings": {"samples": samples},
        "standard_error": found.standard_error,
        "extras": {"r2": found.r2, "local_prediction": found.local},
        "notes": (f"Ridge penalty {RIDGE:g}, as the reference package has it.",),
    }


def _image_segments(data: Dataset, index: Ints, segments: Segments, grid: int) -> Ints:
    images = data.inputs[index]
    if segments != "grid":
        return superpixels(images, grid * grid, segments)
    cells = grid_cells(grid, *images.shape[-2:])
    return np.broadcast_to(cells, (len(index), *cells.shape))


def _image_surrogates(
    model: Model,
    explained: Explained,
    cells: Ints,
    samples: int,
    seed: int,
    fill: float | Literal["mean"],
) -> Surrogates:
    images = explained.inputs
    owner = torch.tensor(cells, device=images.device)
    masks = draw_masks(samples, int(cells.max()) + 1, seed)
    hidden = segment_means(images, owner) if fill == "mean" else torch.full_like(images, fill)
    values = image_values(model, images, explained.classes, masks, owner, hidden, explained.output)
    block = image_neighbourhood(masks, owner)
    return fit_surrogates(block, _with_itself(explained, values), masks.shape[1])


def _with_itself(explained: Explained, values: Tensor) -> Tensor:
    """[n, S + 1] the value at the row itself, then at its neighbours."""
    return torch.cat([torch.from_numpy(explained.fx)[:, None], values.double()], dim=1)
