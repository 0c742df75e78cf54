"""Accidental changes of signals [n, C, T] at five strengths: noise, scaling and time warps.

Source: Um et al. (2017), arXiv:1706.00527, who use the same three (jittering, scaling, time-warping) to
augment sensor data; the five strengths are this product's own.

* `noise`: normal noise of so many standard deviations of the channel over the whole data.
* `scaling`: each channel times a factor between 1 / (1 + s) and 1 + s, its logarithm uniform.
* `time_warp`: time runs up to a share s faster and slower along a smooth curve; the ends stay where they
  are, and values between samples are interpolated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from audit.dataset import Floats, Ints
from audit.errors import ConfigError, nearest

if TYPE_CHECKING:
    from torch import Tensor

    from audit.draws import Draws

STRENGTHS: Mapping[str, Sequence[float]] = {
    "noise": (0.05, 0.1, 0.2, 0.4, 0.8),
    "scaling": (0.05, 0.1, 0.2, 0.4, 0.8),
    "time_warp": (0.05, 0.1, 0.2, 0.4, 0.8),
}
_WAVES = 3


def perturb(
    signals: Tensor, name: str, strength: float, rows: Ints, attempt: int, seed: int, spread: Floats
) -> Tensor:
    """Perturbed copies of signals, on the same device.

    A row's result depends on its values, its index, the seed, the attempt, the name and the strength; not
    on the batch. The draws of an attempt are the same at every strength.

    Args:
        signals: [n, C, T] float; not changed.
        name: a key of `STRENGTHS`.
        strength: at least 0; below 1 for `time_warp`. 0 changes nothing.
        rows: [n] indices of the rows in the data set.
        attempt: number of the draw.
        seed: seed of the audit.
        spread: [C] standard deviation of each channel.

    Raises:
        ConfigError: there is no such perturbation.
    """
    from audit.draws import Draws

    if name not in STRENGTHS:
        raise ConfigError(f"there is no perturbation of series '{name}'{nearest(name, list(STRENGTHS))}")
    draws = Draws(rows, seed, f"{name} {attempt}", signals.device)
    return _FUNCTIONS[name](signals, draws, strength, spread)


def _noise(signals: Tensor, draws: Draws, strength: float, spread: Floats) -> Tensor:
    unit = signals.new_tensor(spread)[:, None]
    return signals + strength * unit * draws.normal(tuple(signals.shape[1:]))


def _scaling(signals: Tensor, draws: Draws, strength: float, spread: Floats) -> Tensor:
    del spread
    exponent = draws.uniform((signals.shape[1], 1)) * 2 - 1
    return signals * (exponent * math.log1p(strength)).exp()


def _time_warp(signals: Tensor, draws: Draws, strength: float, spread: Floats) -> Tensor:
    del spread
    n, channels, length = signals.shape
    places = warped(draws, length, strength)
    before = places.floor().long().clamp(0, max(0, length - 2))
    share = (places - before)[:, None]
    first = before[:, None].expand(n, channels, length)
    second = (first + 1).clamp(max=length - 1)
    return signals.gather(2, first) * (1 - share) + signals.gather(2, second) * share


def warped(draws: Draws, length: int, strength: float) -> Tensor:
    """[n, T] places, ascending from 0 to T - 1, at which a signal is read.

    The speed is 1 plus up to `strength` times a sum of three slow waves of random height and phase whose
    largest possible height is 1.
    """
    import torch

    time = (torch.arange(max(1, length - 1), device=draws.device) + 0.5) / max(1, length - 1)
    heights = draws.uniform((_WAVES,), "heights") * 2 - 1
    phases = draws.uniform((_WAVES,), "phases")
    number = torch.arange(1, _WAVES + 1, device=draws.device)
    angles = 2 * math.pi * (number[:, None] * time[None, :] / 2 + phases[:, :, None])
    waves = (heights[:, :, None] * angles.cos()).sum(dim=1) / heights.abs().sum(dim=1, keepdim=True)
    passed = (1 + strength * waves).cumsum(dim=1)
    places = passed / passed[:, -1:] * (length - 1)
    return torch.cat([torch.zeros_like(places[:, :1]), places], dim=1)[:, :length]


_FUNCTIONS: Mapping[str, Callable[[Tensor, Draws, float, Floats], Tensor]] = {
    "noise": _noise,
    "scaling": _scaling,
    "time_warp": _time_warp,
}
