"""Images turned about their middle and shifted, bilinear, an angle and a shift of its own for each row."""

from __future__ import annotations

from itertools import product
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from audit.dataset import Doubles
from audit.shift.digital import sample

Padding = Literal["zeros", "edge"]


def moved(images: Tensor, moves: Tensor, padding: Padding, low: float) -> Tensor:
    """Turned and then shifted copies of images [n, C, H, W].

    Args:
        images: [n, C, H, W]; not changed.
        moves: [n, 3] degrees (counter-clockwise), and how far down and to the right as shares of the height
            and the width.
        padding: what stands where nothing was: the smallest valid value (`zeros`) or the nearest pixel of the
            border (`edge`).
        low: the smallest valid value.

    Returns:
        [n, C, H, W]. A row whose three moves are 0 is handed back as it was.
    """
    height, width = images.shape[2:]
    middle_y, middle_x = (height - 1) / 2, (width - 1) / 2
    angles = torch.deg2rad(moves[:, 0])[:, None, None]
    down, right = moves[:, 1, None, None] * height, moves[:, 2, None, None] * width
    ys = torch.arange(height, dtype=images.dtype, device=images.device)[:, None] - middle_y - down
    xs = torch.arange(width, dtype=images.dtype, device=images.device)[None, :] - middle_x - right
    # The way back: each pixel of the result asks where it came from. y points down.
    came_x = xs * angles.cos() - ys * angles.sin() + middle_x
    came_y = xs * angles.sin() + ys * angles.cos() + middle_y
    mode = "zeros" if padding == "zeros" else "border"
    result = sample(images - low, came_y, came_x, mode) + low
    still = (moves == 0).all(dim=1)[:, None, None, None]
    return torch.where(still, images, result)


def grid(rotation: float, translation: float, angles: int, shifts: int) -> Doubles:
    """[K, 3] moves to try, the largest first: `angles` turns, `shifts` shifts down and as many to the right.

    Each is spaced evenly from minus to plus its bound. No movement at all is left out.
    """
    turns = np.linspace(-rotation, rotation, angles) if rotation else np.zeros(1)
    steps = np.linspace(-translation, translation, shifts) if translation else np.zeros(1)
    moves = np.array(list(product(turns, steps, steps)), dtype=np.float64)
    moves = moves[(np.abs(moves) > 0).any(axis=1)]
    reach = np.abs(moves) / np.array([rotation or 1, translation or 1, translation or 1])
    ordered: Doubles = moves[np.argsort(-reach.sum(axis=1), kind="stable")]
    return ordered
