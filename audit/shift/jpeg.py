"""JPEG compression as a computation: the discrete cosine transform of 8 x 8 blocks, rounded by table.

Sources: ITU-T T.81 (1992), annexes A and K (transform, tables); the quality scale of the Independent JPEG
Group. Only the losses are computed: no bits are written. Colour is halved in both directions (4:2:0), which
is what Pillow does unless told otherwise.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from audit.draws import Draws
from audit.shift.filters import border

_BLOCK = 8
_MIDDLE = 128.0
_LUMA = """
16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62
18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99
"""
_CHROMA = """
17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99
99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99
"""
_TO_YCC = ((0.299, 0.587, 0.114), (-0.168735892, -0.331264108, 0.5), (0.5, -0.418687589, -0.081312411))
_TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136286, -0.714136286), (1.0, 1.772, 0.0))


def jpeg_compression(images: Tensor, _: Draws, quality: int) -> Tensor:
    """Images [n, C, H, W] in [0, 1] as JPEG of a quality of 1 to 100 gives them back; C is 1 or 3."""
    pixels = (images * 255).round().clamp(0, 255)
    if images.shape[1] == 1:
        return _coded(pixels, _table(_LUMA, quality, images)).clamp(0, 255) / 255
    height, width = images.shape[2:]
    colours = torch.einsum("ij,njhw->nihw", images.new_tensor(_TO_YCC), pixels)
    luma = _coded(colours[:, :1].round(), _table(_LUMA, quality, images))
    small = _halved(_padded(colours[:, 1:].round(), 2 * _BLOCK))
    # The colour channels lie around 0 here, not around 128, so they are not moved.
    chroma = _coded(small + _MIDDLE, _table(_CHROMA, quality, images)) - _MIDDLE
    large = interpolate(chroma, scale_factor=2, mode="bilinear", align_corners=False)
    joined = torch.cat([luma, large[:, :, :height, :width]], dim=1)
    decoded = torch.einsum("ij,njhw->nihw", images.new_tensor(_TO_RGB), joined)
    return decoded.round().clamp(0, 255) / 255


def _coded(channel: Tensor, table: Tensor) -> Tensor:
    """Channels around 128 after transform, division by the table, rounding and the way back."""
    n, channels, height, width = channel.shape
    padded = _padded(channel, _BLOCK) - _MIDDLE
    down, right = padded.shape[2] // _BLOCK, padded.shape[3] // _BLOCK
    blocks = padded.view(n, channels, down, _BLOCK, right, _BLOCK).transpose(3, 4)
    basis = _cosines(channel)
    waves = basis @ blocks @ basis.T
    # Whole eighths and halves away from 0: the integer arithmetic of the usual library.
    eighths = (waves * 8).round()
    kept = eighths.sign() * torch.floor(eighths.abs() / (8 * table) + 0.5) * table
    restored = (basis.T @ kept @ basis).transpose(3, 4).reshape(n, channels, *padded.shape[2:])
    return (restored[:, :, :height, :width] + _MIDDLE).round().clamp(0, 255)


def _halved(channels: Tensor) -> Tensor:
    """Means of 2 x 2 values; quarters go down in even columns and up in odd ones, as in the usual library."""
    total = avg_pool2d(channels, 2) * 4
    bias = 1 + torch.arange(total.shape[3], device=channels.device) % 2
    return torch.floor((total + bias) / 4)


def _padded(channel: Tensor, block: int) -> Tensor:
    """Continued to whole blocks by repeating the last row and column."""
    for axis in (2, 3):
        size = channel.shape[axis]
        places = border(size, -size % block, "nearest", channel.device)
        channel = channel.index_select(axis, places[-size % block :])
    return channel


def _cosines(like: Tensor) -> Tensor:
    """[8, 8] orthonormal type-II cosine transform."""
    places = torch.arange(_BLOCK, dtype=torch.float32, device=like.device)
    basis = torch.cos((2 * places[None, :] + 1) * places[:, None] * math.pi / (2 * _BLOCK)) / 2
    basis[0] /= math.sqrt(2)
    return basis


def _table(standard: str, quality: int, like: Tensor) -> Tensor:
    """[8, 8] divisors of a standard table at a quality; 50 gives the table itself."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality  # noqa: PLR2004 - the group's scale
    divisors = [min(255, max(1, (int(word) * scale + 50) // 100)) for word in standard.split()]
    return like.new_tensor(divisors).view(_BLOCK, _BLOCK)
