"""Digital: contrast, elastic transform, pixelation and JPEG. Images [n, C, H, W] in [0, 1]."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from audit.draws import Draws
from audit.shift import filters
from audit.shift.jpeg import jpeg_compression

__all__ = ["contrast", "elastic_transform", "jpeg_compression", "pixelate", "sample"]


def contrast(images: Tensor, _: Draws, kept: float) -> Tensor:
    """Each channel's distance from its mean over the image, times `kept`."""
    mean = images.mean(dim=(2, 3), keepdim=True)
    return (images - mean) * kept + mean


def elastic_transform(images: Tensor, draws: Draws, bend: float, smooth: float, shear: float) -> Tensor:
    """A random affine map and then a smooth random displacement of every pixel.

    All three constants are shares of the shorter side: the height of the displacement before smoothing,
    the standard deviation of the Gaussian that smooths it, and how far three corners of a square move in
    each direction at most.
    """
    height, width = images.shape[2:]
    side = min(height, width)
    sheared = sample(images, *_affine(images, draws, shear * side))
    noise = draws.uniform((2, height, width), "bend") * 2 - 1
    moves = filters.gaussian(noise, smooth * side, truncate=3.0, mode="reflect") * (bend * side)
    ys = torch.arange(height, device=images.device)[:, None] + moves[:, 0]
    xs = torch.arange(width, device=images.device)[None, :] + moves[:, 1]
    return sample(sheared, ys, xs)


def _affine(images: Tensor, draws: Draws, most: float) -> tuple[Tensor, Tensor]:
    """[n, H, W] twice: from which y and x each pixel comes when three corners of a square are moved."""
    height, width = images.shape[2:]
    centre_x, centre_y, reach = width // 2, height // 2, min(height, width) // 3
    corners = [(reach, reach), (reach, -reach), (-reach, -reach)]
    before = images.new_tensor([[centre_x + x, centre_y + y] for x, y in corners])
    after = before + (draws.uniform((3, 2), "corners") * 2 - 1) * most
    ones = torch.ones_like(after[:, :, :1])
    # Solved for the way back: what stands at a moved corner comes from where the corner was.
    back = torch.linalg.solve(torch.cat([after, ones], dim=2), before.expand_as(after))
    ys = torch.arange(height, dtype=images.dtype, device=images.device)[:, None].expand(height, width)
    xs = torch.arange(width, dtype=images.dtype, device=images.device)[None, :].expand(height, width)
    places = torch.stack([xs, ys, torch.ones_like(xs)], dim=-1).view(1, -1, 3) @ back
    came = places.view(-1, height, width, 2)
    return came[..., 1], came[..., 0]


def sample(images: Tensor, ys: Tensor, xs: Tensor, padding: str = "reflection") -> Tensor:
    """Images read at pixel positions [n, H, W], bilinear; beyond the border as `padding` says.

    `reflection` turns around at the centre of the last pixel, `border` repeats it, `zeros` reads 0.
    """
    height, width = images.shape[2:]
    grid = torch.stack([2 * xs / (width - 1) - 1, 2 * ys / (height - 1) - 1], dim=-1)
    return grid_sample(images, grid, mode="bilinear", padding_mode=padding, align_corners=True)


def pixelate(images: Tensor, _: Draws, kept: float) -> Tensor:
    """Made smaller to the share `kept` of each side and back, with the box filter of Pillow."""
    for axis in (2, 3):
        size = images.shape[axis]
        small = max(1, int(size * kept))
        matrix = _box(size, small, images) @ _box(small, size, images)
        images = torch.tensordot(images, matrix, dims=([axis], [1])).movedim(-1, axis)
    return images


def _box(out: int, size: int, like: Tensor) -> Tensor:
    """[out, size] weights of Pillow's box filter: the mean of the whole pixels whose centres are inside."""
    scale = size / out
    reach = 0.5 * max(scale, 1.0)
    weights = like.new_zeros(out, size)
    for index in range(out):
        centre = (index + 0.5) * scale
        first = max(0, int(centre - reach + 0.5))
        last = min(size, int(centre + reach + 0.5))
        inside = [p for p in range(first, last) if -reach < p - centre + 0.5 <= reach]
        weights[index, inside] = 1 / len(inside)
    return weights
