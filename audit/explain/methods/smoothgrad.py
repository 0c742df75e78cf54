"""SmoothGrad and VarGrad: mean and variance of the gradient at noisy copies of a row."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch

from audit.dataset import Dataset
from audit.errors import ConfigError
from audit.explain.attribution import Doubles
from audit.explain.explained import UNITS, Explained, by_pixel, deviations, elementwise
from audit.explain.features import layout, membership, sum_by_owner
from audit.explain.smooth import Copies, Estimate, gradient_variances, smoothed_gradients
from audit.model import Model

SAMPLES = {"tabular": 50, "image": 32, "series": 50}
Per = Literal["deviation", "unit"]


def smoothgrad(
    model: Model,
    data: Dataset,
    seed: int,
    explained: Explained,
    *,
    samples: int | None = None,
    noise: float = 0.15,
    per: Per = "deviation",
    grid: int = 4,
) -> dict[str, Any]:
    """Absolute mean gradient over noisy copies; the signed one is `extras["signed"]`.

    Args:
        model: the network.
        data: what it is explained on.
        seed: draws the noise.
        explained: the rows.
        samples: noisy copies of a row; default 50, for images 32.
        noise: standard deviation of the noise, as a share of the range of images and of the standard
            deviation of a table column or a channel of series. Columns of categories get none.
        per: slope for a standard deviation, or for one raw unit. Images: one unit.
        grid: cells that pixels, or stretches that steps, are added up in.
    """
    samples = samples or SAMPLES[data.modality]
    found, unit = _noisy(smoothed_gradients, model, data, seed, explained, samples, noise, per, grid)
    parts = layout(data, grid)
    signed = by_pixel(found.values.numpy(), parts)
    return {
        **elementwise(np.abs(found.values.numpy()), parts),
        "extras": {"signed": sum_by_owner(signed, parts.owner, len(parts.names))},
        "standard_error": found.standard_error.numpy(),
        "unit": f"{UNITS[explained.output]} per {unit}",
        "settings": {"samples": samples},
    }


def vargrad(
    model: Model,
    data: Dataset,
    seed: int,
    explained: Explained,
    *,
    samples: int | None = None,
    noise: float = 0.15,
    per: Per = "deviation",
    grid: int = 4,
) -> dict[str, Any]:
    """Variance of the gradient over the same noisy copies; settings as in `smoothgrad`."""
    samples = samples or SAMPLES[data.modality]
    found, unit = _noisy(gradient_variances, model, data, seed, explained, samples, noise, per, grid)
    return {
        **elementwise(found.values.numpy(), layout(data, grid)),
        "standard_error": found.standard_error.numpy(),
        "unit": f"squared {UNITS[explained.output]} per {unit}",
        "settings": {"samples": samples},
    }


def _noisy(
    estimated: Callable[..., Estimate],
    model: Model,
    data: Dataset,
    seed: int,
    explained: Explained,
    samples: int,
    noise: float,
    per: Per,
    grid: int,
) -> tuple[Estimate, str]:
    """What is made of the gradients, and for what step their slopes are."""
    if not noise > 0:
        raise ConfigError(f"smoothgrad: 'noise' = {noise} is wrong; it must be above 0.")
    spread = deviations(data)
    scaled = per == "deviation" and data.modality != "image"
    scale = spread if scaled else np.ones_like(spread)
    copies = Copies(
        spread=model.tensor((noise * _span(model, data, spread))[None].astype(np.float32)),
        scale=model.tensor(scale[None].astype(np.float32)),
        samples=samples,
        seed=seed,
        output=explained.output,
    )
    member = torch.from_numpy(membership(layout(data, grid), data.inputs.shape[1:])).to(model.device)
    found = estimated(model, explained.inputs, explained.classes, explained.index, copies, member)
    return found, "standard deviation" if scaled else "unit"


def _span(model: Model, data: Dataset, spread: Doubles) -> Doubles:
    """What noise is a share of, broadcastable to a row."""
    if data.modality == "image":
        low, high = model.input_range or (float(data.inputs.min()), float(data.inputs.max()))
        return spread * (high - low)
    span = spread.copy()
    if data.modality == "tabular":
        for feature in data.features:
            if feature.kind == "categorical":
                span[list(feature.columns)] = 0
    return span
