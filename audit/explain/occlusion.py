"""Occlusion: hide a part of a row, and see how far the explained number falls.

Source: Zeiler and Fergus 2014. Images are hidden by a square window that slides over all channels, series by
a window of time that slides over each channel, tables one feature at a time.
"""

from collections.abc import Callable
from itertools import product

import numpy as np
import torch
from torch import Tensor

from audit.dataset import Ints
from audit.explain.attribution import Doubles
from audit.explain.hidden import values_under_masks
from audit.explain.quantity import Output
from audit.model import Model

Hidden = Callable[[Tensor], Tensor]


def boxes(shape: tuple[int, ...], size: tuple[int, ...], stride: tuple[int, ...]) -> Ints:
    """[W, axes, 2] first and past-the-end index on each axis of every window; the last ones are cut off.

    Args:
        shape: lengths of the axes.
        size: of the window on each axis, at most the length.
        stride: how far it slides on each axis, at most its size, so that nothing is skipped.
    """
    starts = [
        [at * step for at in range(-(-(length - window) // step) + 1)]
        for length, window, step in zip(shape, size, stride, strict=True)
    ]
    first = np.array(list(product(*starts)), dtype=np.int64)
    return np.stack([first, np.minimum(first + np.array(size), np.array(shape))], axis=2)


def inside_boxes(windows: Ints, shape: tuple[int, ...], device: torch.device) -> Hidden:
    """For numbers [k] of windows, [k, *shape] whether each place lies inside."""
    ends = torch.from_numpy(windows).to(device)

    def hidden(which: Tensor) -> Tensor:
        inside = torch.ones((len(which),) + (1,) * len(shape), dtype=torch.bool, device=device)
        for axis, length in enumerate(shape):
            at = torch.arange(length, device=device)
            low, high = ends[which, axis].unbind(dim=1)
            along = (at >= low[:, None]) & (at < high[:, None])
            inside = inside & along.view(
                [len(which), *(length if i == axis else 1 for i in range(len(shape)))]
            )
        return inside

    return hidden


def falls(
    model: Model,
    rows: Tensor,
    classes: Tensor,
    fx: Doubles,
    fill: Tensor,
    count: int,
    hidden: Hidden,
    output: Output = "log_odds",
) -> Doubles:
    """[N, W] how far the explained number falls when each part is hidden.

    Costs N * W rows forward. A batch of them and a block of masks are held at once.

    Args:
        model: the network.
        rows: [N, ...] raw rows.
        classes: [N] class explained.
        fx: [N] the explained number of the whole row.
        fill: [1, ...] raw row that is seen where a part is hidden.
        count: number of parts W.
        hidden: for numbers [k] of parts, what they hide, broadcastable to [k, ...] rows.
        output: which number is explained.
    """

    def seen(inside: Tensor, own: Tensor) -> Tensor:
        return torch.where(inside, fill, own)

    def masks(numbers: Ints) -> Tensor:
        return hidden(torch.from_numpy(numbers).to(rows.device))

    values = values_under_masks(model, rows, classes, count, masks, seen, output)
    fallen: Doubles = fx[:, None] - values.cpu().double().numpy()
    return fallen


def spread_over_boxes(values: Doubles, windows: Ints, shape: tuple[int, ...]) -> Doubles:
    """[N, *shape] the value of each window shared out over its places, averaged over windows that overlap."""
    sizes = np.prod(windows[:, :, 1] - windows[:, :, 0], axis=1)
    # The last column counts the windows over a place.
    shares = np.vstack([values / sizes, np.ones(len(windows))]).T
    total = np.zeros((*shape, len(values) + 1))
    for share, window in zip(shares, windows.tolist(), strict=True):
        total[tuple(slice(low, high) for low, high in window)] += share
    return np.moveaxis(total[..., :-1] / total[..., -1:], -1, 0)
