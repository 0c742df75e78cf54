"""Occlusion: how far the answer falls when a part is hidden."""

from typing import Any

import torch

from audit.dataset import Dataset
from audit.errors import ConfigError
from audit.explain.explained import Baseline, Explained, baseline_row, elementwise
from audit.explain.features import layout
from audit.explain.occlusion import boxes, falls, inside_boxes, spread_over_boxes
from audit.model import Model

_WINDOWS_ACROSS = 8


def occlusion(
    model: Model,
    data: Dataset,
    seed: int,
    explained: Explained,
    *,
    window: int | None = None,
    stride: int | None = None,
    baseline: Baseline = "mean",
    grid: int = 4,
) -> dict[str, Any]:
    """Fall of the explained number when a feature of a table, or what a window covers, is hidden.

    The fall of a window is shared out evenly over its places; where windows overlap they are averaged.

    Args:
        model: the network.
        data: what it is explained on.
        seed: not used.
        explained: the rows.
        window: side of the square window in pixels, or its length in steps; default an eighth of the shorter
            side, or of the length. Not for tables.
        stride: how far it slides, at most `window`; default half of it.
        baseline: what is seen where something is hidden; see `baseline_row`.
        grid: cells that pixels, or stretches that steps, are added up in.
    """
    del seed
    parts = layout(data, grid)
    fill = model.tensor(baseline_row(model, data, baseline))
    about = model, explained.inputs, explained.classes, explained.fx, fill
    if data.modality == "tabular":
        if window or stride:
            raise ConfigError(
                "occlusion: 'window' and 'stride' are for images and series; of a table one feature at a "
                "time is hidden, so leave them out."
            )
        owner = torch.from_numpy(parts.owner).to(model.device)
        count = len(parts.names)
        values = falls(*about, count, lambda k: owner == k[:, None], explained.output)
        return {"values": values, "features": parts.names}
    size, step = _window(data, window, stride)
    places = parts.owner.shape
    windows = boxes(places, size, step)
    fallen = falls(*about, len(windows), inside_boxes(windows, places, model.device), explained.output)
    spread = spread_over_boxes(fallen, windows, places)
    used = {"window": size[-1], "stride": step[-1]}
    return {**elementwise(spread, parts), "settings": used}


def _window(data: Dataset, window: int | None, stride: int | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Size and stride of the window on each axis: all of the one channel axis [1, H, W], or one of [C, T]."""
    axes = 2 if data.modality == "image" else 1
    shortest = min(data.inputs.shape[-axes:])
    size = window or max(1, shortest // _WINDOWS_ACROSS)
    step = stride or max(1, size // 2)
    if size > shortest:
        raise ConfigError(f"occlusion: 'window' = {size} is wrong; it must be at most {shortest}.")
    if step > size:
        raise ConfigError(
            f"occlusion: 'stride' = {step} is wrong; it must be at most the window, {size}, or places are "
            "skipped."
        )
    return (1, *[size] * axes), (1, *[step] * axes)
