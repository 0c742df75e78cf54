"""Weather: snow, frost, fog and brightness. Images [n, C, H, W] in [0, 1]."""

from __future__ import annotations

import torch
from torch import Tensor

from audit.draws import Draws
from audit.shift import filters

_GREY = (0.299, 0.587, 0.114)
_ICE = (0.84, 0.93, 1.0)
_CRYSTAL_DECAY = 1.7


def snow(
    images: Tensor,
    draws: Draws,
    mean: float,
    sd: float,
    zoom: float,
    threshold: float,
    radius: int,
    sigma: float,
    kept: float,
) -> Tensor:
    """Streaks of falling flakes over a whitened image.

    Flakes are normal noise (`mean`, `sd`) enlarged by `zoom`, cut off below `threshold` and smeared downwards
    (`radius`, `sigma`); `kept` is the share of the image that is not whitened.
    """
    height, width = images.shape[2:]
    flakes = filters.zoomed(mean + sd * draws.normal((1, height, width)), zoom)
    flakes = torch.where(flakes < threshold, 0, flakes).clamp(0, 1)
    degrees = -135 + 90 * draws.uniform((1,), "angle")[:, 0]
    flakes = filters.along_line(flakes, degrees, radius, sigma)
    white = torch.maximum(images, _grey(images) * 1.5 + 0.5)
    return kept * images + (1 - kept) * white + flakes + flakes.flip(2, 3)


def frost(images: Tensor, draws: Draws, kept: float, ice: float) -> Tensor:
    """The image times `kept` plus `ice` times a texture of ice crystals.

    The published program lays photographs of frost over the image. Here the texture is computed: the ridges
    of a fractal, pale blue on three channels.
    """
    height, width = images.shape[2:]
    ridges = 1 - (2 * plasma(draws, height, width, _CRYSTAL_DECAY) - 1).abs()
    texture = 0.25 + 0.75 * ridges**2
    tint = images.new_tensor(_ICE if images.shape[1] == len(_ICE) else (1.0,))
    return kept * images + ice * texture * tint[:, None, None]


def fog(images: Tensor, draws: Draws, thickness: float, decay: float) -> Tensor:
    """A fractal haze of a `thickness`, after which the image is scaled back to its own maximum."""
    height, width = images.shape[2:]
    brightest = images.amax(dim=(1, 2, 3), keepdim=True)
    hazy = images + thickness * plasma(draws, height, width, decay)
    return hazy * brightest / (brightest + thickness)


def brightness(images: Tensor, _: Draws, more: float) -> Tensor:
    """The V of HSV (the largest channel of a pixel) raised by `more`; hue and saturation stay."""
    value = images.amax(dim=1, keepdim=True)
    raised = (value + more).clamp(max=1)
    # A black pixel has no hue: it becomes grey.
    return torch.where(value > 0, images * raised / value.clamp_min(1e-12), raised)


def plasma(draws: Draws, height: int, width: int, decay: float) -> Tensor:
    """[n, 1, H, W] fractal height maps in [0, 1] by the diamond-square algorithm.

    Each halving of the grid adds noise of the old size divided by the square of `decay`: a large decay is
    smooth, a small one rough. The grid wraps around and has the next power of two as its side.
    """
    side = 1 << (max(height, width) - 1).bit_length()
    noise = draws.uniform((side * side - 1,), "plasma") * 2 - 1
    heights = noise.new_zeros(len(noise), side, side)
    step, size, used = side, 1.0, 0
    while step > 1:
        half, count = step // 2, side // step
        parts = noise[:, used : used + 3 * count * count].view(-1, 3, count, count) * size
        _halve(heights, step, half, parts)
        used += 3 * count * count
        step, size = half, size / decay**2
    low = heights.amin(dim=(1, 2), keepdim=True)
    high = heights.amax(dim=(1, 2), keepdim=True)
    return ((heights - low) / (high - low))[:, None, :height, :width]


def _halve(heights: Tensor, step: int, half: int, noise: Tensor) -> None:
    """Fill the middles of the squares and of the diamonds of one grid; noise [n, 3, count, count]."""
    corners = heights[:, ::step, ::step]
    across = corners + corners.roll(-1, 1)
    heights[:, half::step, half::step] = (across + across.roll(-1, 2)) / 4 + noise[:, 0]
    middles = heights[:, half::step, half::step]
    sides = middles + middles.roll(1, 1) + corners + corners.roll(-1, 2)
    heights[:, ::step, half::step] = sides / 4 + noise[:, 1]
    ends = middles + middles.roll(1, 2) + corners + corners.roll(-1, 1)
    heights[:, half::step, ::step] = ends / 4 + noise[:, 2]


def _grey(images: Tensor) -> Tensor:
    """[n, 1, H, W] luma."""
    if images.shape[1] == 1:
        return images
    return (images * images.new_tensor(_GREY)[:, None, None]).sum(dim=1, keepdim=True)
