"""Noise: Gaussian, shot (Poisson) and impulse (salt and pepper). Images [n, C, H, W] in [0, 1]."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from audit.draws import Draws

_LEVELS = 256
_SCALE = 2**31


def gaussian_noise(images: Tensor, draws: Draws, sd: float) -> Tensor:
    """Normal noise of standard deviation `sd` on each value."""
    return images + sd * draws.normal(tuple(images.shape[1:]))


def shot_noise(images: Tensor, draws: Draws, photons: float) -> Tensor:
    """Each value counted in photons: Poisson with mean `photons` at full brightness, divided by it.

    Rates are rounded to the 256 grey levels of an 8-bit image, for which the inverse distribution function
    is tabulated.
    """
    tables, length = _poisson_tables(photons)
    boundaries = torch.from_numpy(tables).to(images.device)
    levels = (images * (_LEVELS - 1)).round().long()
    wanted = levels.flatten(1) * _SCALE + draws.integers(math.prod(images.shape[1:]))
    # Each level's table is a stretch of one long ascending sequence.
    counts = torch.searchsorted(boundaries, wanted, right=True) - levels.flatten(1) * length
    return (counts.float() / photons).view_as(images)


def _poisson_tables(photons: float) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], int]:
    """The distribution functions of all levels in one ascending sequence, and the length of each."""
    from scipy.special import pdtr

    length = int(photons + 12 * math.sqrt(photons) + 30)
    rates = photons * np.arange(_LEVELS) / (_LEVELS - 1)
    below = pdtr(np.arange(length), rates[:, None])
    below[:, -1] = 1.0
    whole = np.floor(below * _SCALE).astype(np.int64) + np.arange(_LEVELS)[:, None] * _SCALE
    return whole.reshape(-1), length


def impulse_noise(images: Tensor, draws: Draws, amount: float) -> Tensor:
    """A share `amount` of the values is set to 0 or 1, each with even chance."""
    shape = tuple(images.shape[1:])
    hit = draws.uniform(shape, "hit") < amount
    salt = (draws.uniform(shape, "salt") < 0.5).to(images.dtype)  # noqa: PLR2004 - an even chance
    return torch.where(hit, salt, images)
