"""Random numbers by counter: row and position decide a draw, not the batch, its order or the device.

Each row has a SplitMix64 stream (Steele, Lea and Flood, 2014) of its own, started from the seed, the name of
the purpose and the row's index in the data set. Integers wrap alike on every device.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from functools import lru_cache

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
        fractions = _fractions(_shifted(self._words(math.prod(shape), part), _BITS - FRACTION_BITS))
        return fractions.view(len(self.rows), *shape)

    def normal(self, shape: tuple[int, ...], part: str = "") -> Tensor:
        """[n, *shape] float32 standard normal, by Box and Muller (1958): two numbers from each 64 bits.

        The highest 24 bits give the radius, the next 24 the angle.
        """
        count = math.prod(shape)
        words = self._words(-(-count // 2), part)
        radius = _fractions(_shifted(words, _BITS - FRACTION_BITS))
        angle = _fractions(_shifted(words, _BITS - 2 * FRACTION_BITS).bitwise_and_(2**FRACTION_BITS - 1))
        radius.neg_().add_(1).log_().mul_(-2).sqrt_()
        angle.mul_(2 * math.pi)
        both = torch.cat([angle.cos().mul_(radius), angle.sin_().mul_(radius)], dim=1)
        return both[:, :count].reshape(len(self.rows), *shape)

    def _words(self, count: int, part: str) -> Tensor:
        """[n, count] int64 of 64 random bits."""
        rows = torch.tensor(self.rows, dtype=torch.int64, device=self.device)
        state = _mixed(rows * _signed(_ROW_STEP) + _start(self.seed, f"{self.purpose}/{part}"))
        counter = torch.arange(1, count + 1, dtype=torch.int64, device=self.device)
        return _mixed(state[:, None] + counter * _signed(_GOLDEN))


@lru_cache(maxsize=1024)
def _start(seed: int, name: str) -> int:
    """Where the streams of this name begin."""
    (start,) = np.random.SeedSequence([seed, zlib.crc32(name.encode())]).generate_state(1, np.uint64)
    return _signed(int(start))


def _fractions(words: Tensor) -> Tensor:
    """Whole numbers below 2^24 as float32 in [0, 1)."""
    return words.float().mul_(2.0**-FRACTION_BITS)


def _mixed(words: Tensor) -> Tensor:
    """The words themselves, mixed in place."""
    words.bitwise_xor_(_shifted(words, 30)).mul_(_signed(_FIRST))
    words.bitwise_xor_(_shifted(words, 27)).mul_(_signed(_SECOND))
    return words.bitwise_xor_(_shifted(words, 31))


def _shifted(words: Tensor, by: int) -> Tensor:
    """A logical shift to the right; torch shifts the sign along."""
    return (words >> by).bitwise_and_((1 << (_BITS - by)) - 1)


def _signed(word: int) -> int:
    """The same 64 bits as a signed integer."""
    return word - (1 << _BITS) if word >> (_BITS - 1) else word
