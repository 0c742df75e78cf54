"""What stands where a feature was, in two ways each, and a ranking that never asks the model."""

import numpy as np
import torch
from torch import Tensor

from audit.dataset import Dataset, Ints, sample_rows
from audit.explain.attribution import Doubles
from audit.explain.features import TINY, Layout, sum_by_owner
from audit.model import Model

_BLUR_PARTS = 8


def fills(model: Model, data: Dataset, inputs: Tensor, background: int, seed: int) -> dict[str, Tensor]:
    """Two fills by name, each [B, n or 1, ...]; see `audit.trust.curves.Masked`.

    Tables and series: the mean row (`mean`), and rows of the data one after the other (`background`).
    Images: the mean colour of the data (`mean`), and the image itself, blurred over an eighth of its side
    (`blur`).

    Args:
        model: the network, for its device.
        data: what the mean and the background rows are taken from.
        inputs: [n, ...] the rows that are filled.
        background: number of background rows.
        seed: draws them.
    """
    image = data.modality == "image"
    axes = (0, 2, 3) if image else 0
    centre = data.inputs.mean(axis=axes, keepdims=True, dtype=np.float64)
    mean = model.tensor(np.broadcast_to(centre, (1, *data.inputs.shape[1:])).astype(np.float32))[None]
    if image:
        return {"mean": mean, "blur": _blurred(inputs)[None]}
    others = data.inputs[sample_rows(data, background, seed)]
    return {"mean": mean, "background": model.tensor(others)[:, None]}


def plain_values(data: Dataset, index: Ints, parts: Layout) -> Doubles:
    """[n, M] how much there is to see of each feature, without asking the model.

    Tables and series: how far the feature is from its mean, in standard deviations. Images: the strength of
    the edges in the cell. An explanation that only ties with this shows the data and not the model.
    """
    inputs = data.inputs[index].astype(np.float64)
    if data.modality == "image":
        down, across = (np.gradient(inputs, axis=side) if inputs.shape[side] > 1 else 0.0 for side in (2, 3))
        edges = (np.hypot(down, across) * np.ones_like(inputs)).sum(axis=1)
        return sum_by_owner(edges, parts.owner, len(parts.names))
    spread = data.inputs.std(axis=0, dtype=np.float64)
    offset = (inputs - data.inputs.mean(axis=0, dtype=np.float64)) / np.maximum(spread, TINY)
    offset[:, spread == 0] = 0
    return np.sqrt(sum_by_owner(offset**2, parts.owner, len(parts.names)))


def _blurred(images: Tensor) -> Tensor:
    from scipy.ndimage import gaussian_filter

    sigma = max(1.0, min(images.shape[-2:]) / _BLUR_PARTS)
    plain = images.detach().cpu().numpy()
    soft = gaussian_filter(plain, sigma=(0, 0, sigma, sigma), mode="nearest")
    return torch.from_numpy(soft).to(images.device)
