"""Random numbers computed from a counter, for all rows at once on the model's device.

A row's numbers depend on the seed, what they are for, the attempt, the row and their place in its stream
alone; not on the batch, on the other rows, or on how many were asked for at a time. Source: the SplitMix64
generator of Steele, Lea and Flood, 2014, "Fast splittable pseudorandom number generators".
"""

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from audit.dataset import Ints

Purpose = Literal["square_start", "square_step", "jump_start", "jump_step"]
_PURPOSES: dict[Purpose, int] = {"square_start": 11, "square_step": 12, "jump_start": 13, "jump_step": 14}

_GAMMA = 0x9E3779B97F4A7C15 - 2**64
_FIRST = 0xBF58476D1CE4E5B9 - 2**64
_SECOND = 0x94D049BB133111EB - 2**64
_FRACTION_BITS = 24
_FRACTIONS = 2**_FRACTION_BITS


def keys(seed: int, purpose: Purpose, attempt: int, rows: Ints, device: torch.device) -> Tensor:
    """[n] int64, where the stream of each row begins.

    Args:
        seed: seed of the audit.
        purpose: what the numbers are for; each has streams of its own.
        attempt: restart or iteration.
        rows: [n] row indices of the data set.
        device: where the numbers will be computed.
    """
    sequence = np.random.SeedSequence([seed, _PURPOSES[purpose], attempt])
    base = int(sequence.generate_state(1, np.uint64).view(np.int64)[0])
    return _mixed(torch.from_numpy(np.array(rows, dtype=np.int64)).to(device) * _GAMMA + base)


def words(keys: Tensor, first: int, count: int) -> Tensor:
    """[n, count] int64 of 64 random bits each: the places `first` to `first + count` of every stream."""
    places = torch.arange(first + 1, first + count + 1, device=keys.device)
    return _mixed(keys[:, None] + places * _GAMMA)


def fractions(bits: Tensor) -> Tensor:
    """The top 24 bits of each word as a float32 in [0, 1)."""
    share: Tensor = _shifted(bits, 64 - _FRACTION_BITS).float() / _FRACTIONS
    return share


def below(bits: Tensor, limit: int) -> Tensor:
    """The top 24 bits of each word as an integer in [0, limit); `limit` is far below 2**24."""
    return _shifted(bits, 64 - _FRACTION_BITS) * limit >> _FRACTION_BITS


def flag(bits: Tensor, place: int) -> Tensor:
    """One of the low bits of each word as a bool; independent of what `fractions` and `below` read."""
    return (bits >> place & 1).bool()


def normals(keys: Tensor, first: int, count: int, length: int) -> Tensor:
    """[n, count, length] standard normal vectors: the vectors `first` to `first + count` of every stream.

    Args:
        keys: [n] streams, used for vectors of this length alone.
        first: number of the first vector.
        count: number of vectors.
        length: coordinates of a vector.
    """
    half = -(-length // 2)
    bits = words(keys, first * half, count * half).view(len(keys), count, half)
    radius = torch.sqrt(-2 * torch.log(fractions(bits) + 0.5 / _FRACTIONS))
    angle = (bits & (_FRACTIONS - 1)).float() * (2 * math.pi / _FRACTIONS)
    return torch.cat([radius * angle.cos(), radius * angle.sin()], dim=2)[:, :, :length]


def _mixed(state: Tensor) -> Tensor:
    state = (state ^ _shifted(state, 30)) * _FIRST
    state = (state ^ _shifted(state, 27)) * _SECOND
    return state ^ _shifted(state, 31)


def _shifted(bits: Tensor, by: int) -> Tensor:
    """A shift to the right that fills with zeros; torch's own repeats the sign."""
    return bits >> by & ((1 << 64 - by) - 1)
