"""Blur: defocus, frosted glass, motion and zoom. Images [n, C, H, W] in [0, 1]."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from audit.draws import Draws
from audit.shift import filters

_MOST_DEGREES = 45.0


def defocus_blur(images: Tensor, _: Draws, radius: float, sigma: float) -> Tensor:
    """A round kernel of `radius` pixels, softened by a Gaussian of `sigma`."""
    return filters.correlate(images, filters.disk(radius, sigma, images.device), "mirror")


def glass_blur(images: Tensor, draws: Draws, sigma: float, reach: int, rounds: int) -> Tensor:
    """Blurred, pixels taken from neighbours at most `reach` away in each of `rounds`, and blurred again.

    All pixels of a round move at once; the published program moves one after the other.
    """
    height, width = images.shape[2:]
    ys = torch.arange(height, device=images.device)[:, None]
    xs = torch.arange(width, device=images.device)[None, :]
    free = (ys > reach) & (ys <= height - reach) & (xs > reach) & (xs <= width - reach)
    moved = filters.gaussian(images, sigma)
    for index in range(rounds):
        steps = draws.uniform((2, height, width), f"round {index}")
        steps = (steps * 2 * reach).long() - reach
        moved = filters.taken(moved, ys + steps[:, 0] * free, xs + steps[:, 1] * free)
    return filters.gaussian(moved, sigma)


def motion_blur(images: Tensor, draws: Draws, radius: int, sigma: float) -> Tensor:
    """Smeared along a line, at an angle drawn between -45 and 45 degrees for each row."""
    degrees = (draws.uniform((1,))[:, 0] * 2 - 1) * _MOST_DEGREES
    return filters.along_line(images, degrees, radius, sigma)


def zoom_blur(images: Tensor, _: Draws, most: float, step: float) -> Tensor:
    """The mean of the image and of its enlargements by 1, 1 + step, ... up to about `most`."""
    # numpy's range decides, as published, whether rounding lets the end in.
    factors = np.arange(1, most, step).tolist()
    total = images.clone()
    for factor in factors:
        total += filters.zoomed(images, factor)
    return total / (len(factors) + 1)
