"""The ball an attack may move in: its corners, projection into it, and the steepest step, per norm.

Distances are counted in `unit`: with unit 1 in raw input units, with a column's standard deviation in
standard deviations. A coordinate whose unit is 0 is fixed.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Norm = Literal["linf", "l2"]


@dataclass(frozen=True)
class Reach:
    """What an attack may change, as tensors of one input row's shape on the model's device.

    Attributes:
        unit: how far one epsilon moves each coordinate; 0 where it is fixed.
        low: smallest valid value of each coordinate.
        high: largest valid value.
    """

    unit: Tensor
    low: Tensor
    high: Tensor


@dataclass(frozen=True)
class Ball:
    """All valid points within `epsilon` of each row of `centre`, [n, ...].

    Attributes:
        norm: how distance is measured.
        epsilon: radius in units of `unit`.
        centre: [n, ...] the rows that are attacked.
        unit: one row's shape, see `Reach`.
        low: [n, ...] lowest corner: inside both the ball and the valid range.
        high: [n, ...] highest corner.
    """

    norm: Norm
    epsilon: float
    centre: Tensor
    unit: Tensor
    low: Tensor
    high: Tensor

    def take(self, keep: Tensor) -> "Ball":
        """The ball around the rows that `keep` [n] bool marks."""
        return Ball(self.norm, self.epsilon, self.centre[keep], self.unit, self.low[keep], self.high[keep])


def ball(centre: Tensor, epsilon: float, norm: Norm, reach: Reach) -> Ball:
    """The ball around `centre` [n, ...]; its corners are computed here once and never again.

    A row that lies outside the valid range may stay where it is, so that epsilon 0 changes nothing.
    """
    step = reach.unit * epsilon
    low = torch.minimum(torch.maximum(centre - step, reach.low), centre)
    high = torch.maximum(torch.minimum(centre + step, reach.high), centre)
    return Ball(norm, epsilon, centre, reach.unit, low, high)


def project(inside: Ball, points: Tensor) -> Tensor:
    """The points [n, ...] moved into the ball and the valid range."""
    if inside.norm == "l2":
        offset = _in_units(points - inside.centre, inside.unit)
        length = _per_row(offset.flatten(1).norm(dim=1), offset)
        shrink = (inside.epsilon / length.clamp_min(torch.finfo(length.dtype).tiny)).clamp(max=1)
        points = inside.centre + offset * shrink * inside.unit
    return torch.clamp(points, inside.low, inside.high)


def direction(norm: Norm, gradient: Tensor, unit: Tensor) -> Tensor:
    """The step [n, ...] of length 1 (in `unit`) along which a linear loss grows most.

    Its sign for linf, its unit vector for l2. Where a gradient is not a number no step is made.
    """
    usable = torch.nan_to_num(gradient)
    if norm == "linf":
        return usable.sign() * unit
    slope = usable * unit
    tiny = torch.finfo(slope.dtype).tiny
    # Dividing by the largest entry first keeps the squares of a vanishing gradient from underflowing.
    slope = slope / _per_row(slope.flatten(1).abs().amax(dim=1), slope).clamp_min(tiny)
    return slope / _per_row(slope.flatten(1).norm(dim=1), slope).clamp_min(tiny) * unit


def displaced(inside: Ball, offset: Tensor) -> Tensor:
    """The centre displaced by `offset` [n, ...], given in epsilons, moved into the ball."""
    return project(inside, inside.centre + offset * inside.unit * inside.epsilon)


def _in_units(offset: Tensor, unit: Tensor) -> Tensor:
    return torch.where(unit > 0, offset / torch.where(unit > 0, unit, 1), 0)


def _per_row(values: Tensor, like: Tensor) -> Tensor:
    """[n] as [n, 1, ...], to stand beside [n, ...]."""
    return values.view(-1, *([1] * (like.ndim - 1)))
