"""Filters over images [n, C, H, W] that several corruptions are made of."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate

Border = Literal["nearest", "mirror", "reflect"]


def border(size: int, pad: int, mode: Border, device: torch.device) -> Tensor:
    """[size + 2 pad] which pixel stands at each place of a line that is continued over both ends.

    `nearest` repeats the last pixel, `mirror` turns around at its centre (d c b | a b c d | c b a) and
    `reflect` at its edge (c b a | a b c d | d c b). Any pad is allowed.
    """
    places = torch.arange(-pad, size + pad, device=device)
    if mode == "nearest":
        return places.clamp(0, size - 1)
    if mode == "mirror":
        period = max(1, 2 * (size - 1))
        places = places.abs() % period
        return torch.minimum(places, period - places)
    places = places % (2 * size)
    return torch.minimum(places, 2 * size - 1 - places)


def correlate(images: Tensor, kernel: Tensor, mode: Border) -> Tensor:
    """Each channel correlated with a kernel [h, w] of odd sides; the size stays."""
    n, channels, height, width = images.shape
    down = border(height, kernel.shape[0] // 2, mode, images.device)
    right = border(width, kernel.shape[1] // 2, mode, images.device)
    padded = images[:, :, down][:, :, :, right].reshape(n * channels, 1, len(down), len(right))
    return conv2d(padded, kernel[None, None]).view(n, channels, height, width)


def gaussian(images: Tensor, sigma: float, *, truncate: float = 4.0, mode: Border = "nearest") -> Tensor:
    """A Gaussian blur; the kernel ends at `truncate` standard deviations, as in scipy and scikit-image."""
    radius = int(truncate * sigma + 0.5)
    if radius == 0:
        return images
    line = bell(radius, sigma, images.device)
    return correlate(correlate(images, line[:, None], mode), line[None, :], mode)


def bell(radius: int, sigma: float, device: torch.device) -> Tensor:
    """[2 radius + 1] Gaussian weights that sum to 1."""
    places = torch.arange(-radius, radius + 1, dtype=torch.float32, device=device)
    weights = torch.exp(-(places**2) / (2 * sigma * sigma))
    return weights / weights.sum()


def disk(radius: float, sigma: float, device: torch.device) -> Tensor:
    """A round kernel of a radius in pixels, its edge softened by a Gaussian; it sums to 1.

    The softening kernel has 3 x 3 pixels up to radius 8 and 5 x 5 above, as published.
    """
    soft = 1 if radius <= 8 else 2  # noqa: PLR2004 - the published rule
    half = math.floor(radius) + soft
    places = torch.arange(-half, half + 1, dtype=torch.float32, device=device)
    inside = ((places[:, None] ** 2 + places[None, :] ** 2) <= radius * radius).float()
    line = bell(soft, sigma, device)
    softened = correlate(inside[None, None] / inside.sum(), line[:, None] * line[None, :], "nearest")
    kernel: Tensor = softened[0, 0]
    return kernel


def along_line(images: Tensor, degrees: Tensor, radius: int, sigma: float) -> Tensor:
    """A motion blur: one half of a Gaussian along a line, at an angle of its own for each row.

    The kernel of ImageMagick's MotionBlur: 2 radius + 1 whole-pixel steps along the line, the border
    repeated.

    Args:
        images: [n, C, H, W].
        degrees: [n] the direction from which pixels are taken; 0 is to the right, 90 down.
        radius: how many pixels.
        sigma: standard deviation of the Gaussian in pixels.
    """
    steps = 2 * radius + 1
    places = torch.arange(steps, dtype=torch.float32, device=images.device)
    weights = torch.exp(-(places**2) / (2 * sigma * sigma))
    shares = (weights / weights.sum()).tolist()
    radians = torch.deg2rad(degrees)
    blurred = torch.zeros_like(images)
    for step in range(steps):
        down = torch.ceil(step * radians.sin() - 0.5).long()
        right = torch.ceil(step * radians.cos() - 0.5).long()
        blurred += shares[step] * shifted(images, down, right)
    return blurred


def shifted(images: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Each pixel taken from `down` rows below and `right` columns to the right ([n] int64); edges repeat."""
    height, width = images.shape[2:]
    ys = (torch.arange(height, device=images.device) + down[:, None]).clamp(0, height - 1)
    xs = (torch.arange(width, device=images.device) + right[:, None]).clamp(0, width - 1)
    return taken(images, ys[:, :, None].expand(-1, -1, width), xs[:, None, :].expand(-1, height, -1))


def taken(images: Tensor, ys: Tensor, xs: Tensor) -> Tensor:
    """[n, C, H, W] with pixel (y, x) of row i taken from (ys[i, y, x], xs[i, y, x]); both [n, H, W] int64."""
    width = images.shape[3]
    places = (ys * width + xs).flatten(1)[:, None].expand(-1, images.shape[1], -1)
    return images.flatten(2).gather(2, places).view_as(images)


def zoomed(images: Tensor, factor: float) -> Tensor:
    """The middle of the images enlarged by a factor of at least 1, bilinear, at the same size.

    Whole pixels are cut out, enlarged corner to corner, and trimmed, as `scipy.ndimage.zoom` does.
    """
    cut: list[slice] = []
    trim: list[slice] = []
    sizes: list[int] = []
    for size in images.shape[2:]:
        kept = math.ceil(size / factor)
        start = (size - kept) // 2
        enlarged = round(kept * factor)
        cut.append(slice(start, start + kept))
        sizes.append(enlarged)
        trim.append(slice((enlarged - size) // 2, (enlarged - size) // 2 + size))
    middle = images[:, :, cut[0], cut[1]]
    large = interpolate(middle, size=tuple(sizes), mode="bilinear", align_corners=True)
    return large[:, :, trim[0], trim[1]]
