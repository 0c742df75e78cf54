"""Deletion and insertion: what happens to the answer as features go, or come, in the order of a ranking.

An explanation that names the features that matter makes the answer fall fast when they are taken away first
(deletion) and rise fast when they come first (insertion). How fast is fast depends on the model, the row and
the fill that stands where a feature was, so each ranking is held against random rankings of the same row
under the same fill. Random rankings come in pairs of a ranking and its reverse: the deletion curve of one is
the insertion curve of the other, so both serve twice and their mean gain is 0.

Sources: Petsiuk, Das and Saenko 2018 (RISE; deletion and insertion); Bluecher, Vielhaben and Strodthoff
2024 (the verdict changes with the fill, and most minus least relevant first cancels the random reference).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from audit.dataset import Ints
from audit.explain.attribution import Doubles
from audit.explain.quantity import Output, quantity
from audit.model import Model
from audit.trust.similarity import without_negligible

Bools = npt.NDArray[np.bool_]
_FLOAT_NOISE = 1e-5


@dataclass(frozen=True)
class Masked:
    """Rows whose features may be replaced.

    Attributes:
        model: the network.
        rows: [n, ...] raw rows on its device.
        classes: [n] class whose number is followed.
        owner: feature index of each element, broadcastable to a row.
        fill: [B, n or 1, ...] what stands where a feature is gone; the answer is averaged over the B.
        output: which number is followed.
    """

    model: Model
    rows: Tensor
    classes: Tensor
    owner: Tensor
    fill: Tensor
    output: Output = "log_odds"

    def values(self, kept: Bools) -> Doubles:
        """[n, S] the number when only the features in `kept` [n, S, M] are left. Costs n S B rows forward."""
        count = kept.shape[1]
        shown = torch.from_numpy(kept).to(self.rows.device)
        fill = self.fill.expand(-1, len(self.rows), *self.fill.shape[2:])

        def work(part: slice) -> tuple[Tensor]:
            pair = torch.arange(part.start, part.stop, device=self.rows.device)
            row = pair // count
            keep = shown[row, pair % count][:, self.owner]
            mixed = torch.where(keep[None], self.rows[row][None], fill[:, row])
            scores = self.model.scores(mixed.flatten(0, 1))
            found = quantity(scores, self.classes[row].repeat(len(fill)), self.output)
            return (found.view(len(fill), -1).double().mean(dim=0),)

        with torch.no_grad():
            (values,) = self.model.in_batches(work, len(self.rows) * count, rows_each=len(fill))
        found: Doubles = values.view(len(self.rows), count).cpu().numpy()
        return found


@dataclass(frozen=True)
class Answers:
    """What the model answered along L rankings under one fill.

    Attributes:
        shares: [K] share of the features that are gone (deletion) or shown (insertion), 0 to 1.
        deletion: [L, n, K] the number.
        insertion: [L, n, K] the same.
    """

    shares: Doubles
    deletion: Doubles
    insertion: Doubles


@dataclass(frozen=True)
class Curves:
    """Deletion and insertion curves of L rankings under one fill, as shares of each row's range.

    Attributes:
        shares: [K] share of the features that are gone (deletion) or shown (insertion), 0 to 1.
        deletion: [L, n, K] the number, 0 the lowest and 1 the highest that the controls reached in the row.
        insertion: [L, n, K] the same.
        usable: [n] whether the row answers at all: finite numbers that are not all the same.
        size: [n] the range of each row, in the units of the number; 1 where it does not answer.
    """

    shares: Doubles
    deletion: Doubles
    insertion: Doubles
    usable: Bools
    size: Doubles

    def areas(self) -> tuple[Doubles, Doubles]:
        """[L, n], [L, n] area under the deletion and the insertion curves, by the trapezoid rule."""
        width = np.diff(self.shares)
        down, up = (((c[:, :, 1:] + c[:, :, :-1]) / 2) @ width for c in (self.deletion, self.insertion))
        return down, up


@dataclass(frozen=True)
class Gains:
    """How much better than random one ranking is, for each usable row, in shares of the row's range.

    Attributes:
        deletion: [n] mean area of the random rankings minus that of this one.
        insertion: [n] area of this one minus the mean of the random ones.
        beaten: [n] share of the random rankings whose gain is below this one's.
        size: [n] the range of each row: how much its gain weighs.
    """

    deletion: Doubles
    insertion: Doubles
    beaten: Doubles
    size: Doubles

    @property
    def total(self) -> Doubles:
        """[n] mean of both gains."""
        return (self.deletion + self.insertion) / 2


def points(features: int, steps: int) -> Ints:
    """How many features are gone at each point of a curve: about `steps` parts, the same from both ends."""
    even = np.round(np.linspace(0, features, min(steps, features) + 1)).astype(np.int64)
    return np.unique(np.concatenate([even, features - even]))


def random_orders(rows: int, features: int, count: int, seed: int) -> Ints:
    """[count, rows, features] rankings drawn for each row on its own."""
    order = np.tile(np.arange(features, dtype=np.int64), (count, rows, 1))
    return np.random.default_rng(seed).permuted(order, axis=2)


def order_of(values: Doubles) -> Ints:
    """[n, M] features from the largest value down; equal and negligible ones in the order of the features."""
    found: Ints = np.argsort(-without_negligible(values), axis=1, kind="stable").astype(np.int64)
    return found


def answers(masked: Masked, orders: Ints, steps: int) -> Answers:
    """The model's answers along every ranking; the two ends are common to all and asked for once.

    Args:
        masked: the rows and the fill.
        orders: [L, n, M] rankings, the most important feature first.
        steps: parts that a curve is cut into.
    """
    features = orders.shape[2]
    at = points(features, steps)
    position = np.argsort(orders, axis=2)
    gone = position[:, :, None, :] < at[None, None, 1:-1, None]
    rows = len(masked.rows)
    inner = np.concatenate([~gone, gone]).transpose(1, 0, 2, 3).reshape(rows, -1, features)
    ends = np.stack([np.ones((rows, features), bool), np.zeros((rows, features), bool)], axis=1)
    values = masked.values(np.concatenate([ends, inner], axis=1))
    full, empty = values[:, :1], values[:, 1:2]
    middle = values[:, 2:].reshape(rows, 2, len(orders), len(at) - 2).transpose(1, 2, 0, 3)
    first, last = (np.broadcast_to(end, (len(orders), rows, 1)) for end in (full, empty))
    deletion = np.concatenate([first, middle[0], last], axis=2)
    insertion = np.concatenate([last, middle[1], first], axis=2)
    return Answers(at / features, deletion, insertion)


def curves(found: Answers, controls: Sequence[int], *, by_size: bool) -> Curves:
    """The answers as shares of the range of each row.

    Args:
        found: the answers.
        controls: rankings that set the range of a row, so that no method judges itself by its own range.
        by_size: follow how close the answer is to that of the whole row, for rankings that say which features
            matter and not which way; else the answer itself.
    """
    deletion, insertion = found.deletion, found.insertion
    if by_size:
        whole = deletion[:, :, :1]
        deletion, insertion = -np.abs(deletion - whole), -np.abs(insertion - whole)
    low, size, usable = _range(deletion[list(controls)], insertion[list(controls)])
    for curve in (deletion, insertion):
        usable &= np.isfinite(curve).all(axis=(0, 2))
    down, up = ((curve - low[:, None]) / size[:, None] for curve in (deletion, insertion))
    return Curves(found.shares, down, up, usable, size)


def gains(found: Curves, index: int, random: Sequence[int], usable: Bools) -> Gains:
    """The gain of ranking `index` over the rankings in `random` and their reverses, for `usable` rows [n]."""
    down, up = (area[:, usable] for area in found.areas())
    centre = (down[list(random)].mean(axis=0) + up[list(random)].mean(axis=0)) / 2
    half = (up[list(random)] - down[list(random)]) / 2
    chance = np.concatenate([half, -half])
    mine = (up[index] - down[index]) / 2
    beaten = (chance < mine - _FLOAT_NOISE).mean(axis=0)
    return Gains(centre - down[index], up[index] - centre, beaten, found.size[usable])


def _range(deletion: Doubles, insertion: Doubles) -> tuple[Doubles, Doubles, Bools]:
    """[n] lowest value and span of each row's control curves, and whether it has any span."""
    both = np.concatenate([deletion, insertion], axis=2)
    low, high = both.min(axis=(0, 2)), both.max(axis=(0, 2))
    size = high - low
    with np.errstate(invalid="ignore"):
        usable: Bools = size > _FLOAT_NOISE * (1 + np.maximum(np.abs(low), np.abs(high)))
    return np.where(usable, low, 0.0), np.where(usable, size, 1.0), usable
