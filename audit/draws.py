"""Random numbers by counter: row and position decide a draw, not the batch, its order or the device.

Each row has a SplitMix64 stream (Steele, Lea and Flood, 2014) of its own, started from the seed, the name of
the purpose and the row's index in the data set. Integers wrap alike on every device.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from audit.dataset import Ints

_BITS = 64
_GOLDEN = 0x9E3779B97F4A7C15
_ROW_STEP = 0xD1B54A32D192ED03
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB
FRACTION_BITS = 24


@dataclass(frozen=True)
class Draws:
    """The draws of some rows for one purpose. Asked twice it answers the same.

    Attributes:
        rows: [n] indices of the rows in the data set.
        seed: seed of the audit.
        purpose: what the numbers are for; each purpose has streams of its own.
        device: where the numbers are made.
    """

    rows: Ints
    seed: int
    purpose: str
    device: torch.device

    def integers(self, count: int, part: str = "") -> Tensor:
        """[n, count] int64 uniform over 0 to 2^31 - 1."""
        return _shifted(self._words(count, part), 33)

    def uniform(self, shape: tuple[int, ...], part: str = "") -> Tensor:
        """[n, *shape] float32 uniform in [0, 1), in steps of 2^-24."""
        fractions = _shifted(self._words(math.prod(shape), part), _BITS - FRACTION_BITS)
        return (fractions.float() * 2.0**-FRACTION_BITS).view(len(self.rows), *shape)

    def normal(self, shape: tuple[int, ...], part: str = "") -> Tensor:
        """[n, *shape] float32 standard normal, by Box and Muller (1958)."""
        radius = (1 - self.uniform(shape, f"{part} radius")).log().mul(-2).sqrt()
        return radius * (2 * math.pi * self.uniform(shape, f"{part} angle")).cos()

    def _words(self, count: int, part: str) -> Tensor:
        """[n, count] int64 of 64 random bits."""
        name = zlib.crc32(f"{self.purpose}/{part}".encode())
        (start,) = np.random.SeedSequence([self.seed, name]).generate_state(1, np.uint64)
        rows = torch.tensor(self.rows, dtype=torch.int64, device=self.device)
        state = _mixed(rows * _signed(_ROW_STEP) + _signed(int(start)))
        counter = torch.arange(1, count + 1, dtype=torch.int64, device=self.device)
        return _mixed(state[:, None] + counter * _signed(_GOLDEN))


def _mixed(words: Tensor) -> Tensor:
    words = (words ^ _shifted(words, 30)) * _signed(_FIRST)
    words = (words ^ _shifted(words, 27)) * _signed(_SECOND)
    return words ^ _shifted(words, 31)


def _shifted(words: Tensor, by: int) -> Tensor:
    """A logical shift to the right; torch shifts the sign along."""
    return (words >> by) & ((1 << (_BITS - by)) - 1)


def _signed(word: int) -> int:
    """The same 64 bits as a signed integer."""
    return word - (1 << _BITS) if word >> (_BITS - 1) else word
