"""The ball an attack may move in: its corners, projection into it, and the steepest step, per norm.

Distances are counted in `unit`: with unit 1 in raw input units, with a column's standard deviation in
standard deviations. A coordinate whose unit is 0 is fixed.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

Norm = Literal["linf", "l2", "l1"]

L1_SHARE = 0.01
"""An l1 step moves this share of the coordinates that may move, at least one of them."""


_L2_ROUNDS = 4
_BELOW = 1 - 1e-6  # rounding must not carry a point out of the ball


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

    def take(self, keep: Tensor | slice) -> "Ball":
        """The ball around the rows that `keep` marks: a slice, [n] bool or [k] indices."""
        return Ball(self.norm, self.epsilon, self.centre[keep], self.unit, self.low[keep], self.high[keep])

    def copy(self) -> "Ball":
        """The same ball, whose rows may be changed with `put`."""
        return replace(self, centre=self.centre.clone(), low=self.low.clone(), high=self.high.clone())

    def put(self, places: Tensor, other: "Ball") -> None:
        """Write the rows of `other` over those at `places` [k]; norm, epsilon and unit stay."""
        self.centre[places], self.low[places], self.high[places] = other.centre, other.low, other.high


def ball(centre: Tensor, epsilon: float, norm: Norm, reach: Reach) -> Ball:
    """The ball around `centre` [n, ...]; its corners are computed here once and never again.

    A row that lies outside the valid range may stay where it is, so that epsilon 0 changes nothing. With
    epsilon infinite the corners are those of the valid range.
    """
    step = torch.where(reach.unit > 0, reach.unit * epsilon, 0)
    low = torch.minimum(torch.maximum(centre - step, reach.low), centre)
    high = torch.maximum(torch.minimum(centre + step, reach.high), centre)
    return Ball(norm, epsilon, centre, reach.unit, low, high)


def project(inside: Ball, points: Tensor) -> Tensor:
    """The points [n, ...] moved into the ball and the valid range.

    The nearest such points, counted in units: exactly for linf and l1, closely for l2, where a point may stop
    short of the edge of the ball when many coordinates reach the end of their range.
    """
    if inside.norm != "linf":
        points = _shrunk(inside, points, inside.epsilon)
    return torch.clamp(points, inside.low, inside.high)


def within(inside: Ball, points: Tensor, radius: Tensor) -> Tensor:
    """As `project`, with a radius [n] for each row, none above epsilon, in place of epsilon."""
    limit = per_row(radius, points)
    if inside.norm == "linf":
        most = torch.where(inside.unit > 0, limit * inside.unit, 0)
        points = torch.clamp(points, inside.centre - most, inside.centre + most)
    else:
        points = _shrunk(inside, points, limit)
    return torch.clamp(points, inside.low, inside.high)


def _shrunk(inside: Ball, points: Tensor, limit: float | Tensor) -> Tensor:
    """The points [n, ...] moved to at most `limit` in l2 or l1, once they are cut to the range."""
    offset = in_units(points - inside.centre, inside.unit)
    room = torch.where(offset > 0, inside.high - inside.centre, inside.centre - inside.low)
    room = in_units(room, inside.unit)
    if inside.norm == "l2":
        return inside.centre + offset * _l2_scale(offset, room, limit) * inside.unit
    size = _l1_nearest(offset.abs(), room, limit)
    # A coordinate that keeps its length stays bit for bit where it was.
    return torch.where(size == offset.abs(), points, inside.centre + size * offset.sign() * inside.unit)


def _l2_scale(offset: Tensor, room: Tensor, limit: float | Tensor) -> Tensor:
    """By what [n, 1, ...] to scale `offset` so that, cut to `room`, it is at most `limit` long.

    The nearest point of a ball and a box is the offset scaled and cut. The scale that leaves a length just
    at the limit is approached from below: each round gives the coordinates that are free the length that
    those that were cut do not use.
    """
    size, most = offset.flatten(1).abs(), room.flatten(1)
    bound = limit if isinstance(limit, float | int) else limit.reshape(-1, 1)
    tiny = torch.finfo(size.dtype).tiny
    scale = (bound / size.norm(dim=1, keepdim=True).clamp_min(tiny)).clamp(max=1)
    for _ in range(_L2_ROUNDS):
        cut = size * scale > most
        used = torch.where(cut, most, 0).square().sum(dim=1, keepdim=True)
        free = torch.where(cut, 0, size).square().sum(dim=1, keepdim=True)
        left = (bound * bound - used).clamp_min(0)
        scale = torch.maximum(scale, (left / free.clamp_min(tiny)).sqrt() * _BELOW).clamp(max=1)
    return per_row(scale.flatten(), offset)


def _l1_nearest(size: Tensor, room: Tensor, limit: float | Tensor) -> Tensor:
    """The values nearest to `size` [n, ...] that lie between 0 and `room` and sum to at most `limit`.

    They are `size` lowered by one number for each row and cut to 0 and `room`. Their sum falls piecewise
    linearly with that number, so sorting its kinks finds it exactly. Source: Croce and Hein, 2021,
    arXiv:2103.01208, proposition 2.1.
    """
    value, most = size.flatten(1), room.flatten(1)
    kinks, order = torch.cat([value, (value - most).clamp_min(0)], dim=1).sort(dim=1, descending=True)
    growing = torch.where(order < value.shape[1], 1, -1).cumsum(dim=1)
    below = torch.cat([kinks[:, 1:], torch.zeros_like(kinks[:, :1])], dim=1)
    total = ((kinks - below) * growing).cumsum(dim=1)
    bound = torch.as_tensor(limit, dtype=value.dtype, device=value.device).reshape(-1, 1)
    bound = bound.expand(len(value), 1)
    at = (total < bound).sum(dim=1, keepdim=True).clamp(max=total.shape[1] - 1)
    excess = (total.gather(1, at) - bound).clamp_min(0)
    lower = below.gather(1, at) + excess / growing.gather(1, at).clamp_min(1)
    nearest = torch.minimum((value - lower).clamp_min(0), most)
    # Thousands of rounded terms may sum to a little more than the limit.
    surplus = bound / nearest.sum(dim=1, keepdim=True).clamp_min(torch.finfo(value.dtype).tiny)
    return (nearest * surplus.clamp(max=1)).view_as(size)


def stepped(inside: Ball, points: Tensor, gradient: Tensor, length: Tensor) -> Tensor:
    """The points one step further along the gradient, back in the ball and the range.

    Args:
        inside: the ball.
        points: [n, ...] where the rows are.
        gradient: [n, ...] their gradients; for linf its memory is written over, which matters where a pass
            of the model is short.
        length: [...] how far a step of linf moves each coordinate, the unit included.
    """
    if inside.norm == "linf":
        # One number for several coordinates, as the gradient of a sum is given, cannot be written over.
        free = gradient.clone() if 0 in gradient.stride() else gradient
        moved = free.sign_().mul_(length).add_(points)  # the sign of NaN is 0
        return torch.clamp(moved, inside.low, inside.high, out=moved)
    return project(inside, points + direction(inside.norm, gradient, length))


def direction(norm: Norm, gradient: Tensor, unit: Tensor, share: float | Tensor = L1_SHARE) -> Tensor:
    """The step [n, ...] of length 1 (in `unit`) along which a linear loss grows most.

    Its sign for linf, its unit vector for l2. For l1 the signs of the k coordinates with the largest slopes,
    each 1 / k long, k being `share` of those that may move and at least 1: with k = 1 the steepest step, but
    one that wastes itself on a single coordinate (Tramer and Boneh, 2019, arXiv:1904.13000). Where a
    gradient is not a number no step is made.

    Args:
        norm: how length is measured.
        gradient: [n, ...] gradient of the loss.
        unit: one row's shape, see `Reach`.
        share: for l1 alone: one share, or [n] one for each row.
    """
    usable = torch.nan_to_num(gradient)
    if norm == "linf":
        return usable.sign() * unit
    slope = usable * unit
    if norm == "l1":
        return _largest(slope, unit, share) * unit
    tiny = torch.finfo(slope.dtype).tiny
    # Dividing by the largest entry first keeps the squares of a vanishing gradient from underflowing.
    slope = slope / per_row(slope.flatten(1).abs().amax(dim=1), slope).clamp_min(tiny)
    return slope / per_row(slope.flatten(1).norm(dim=1), slope).clamp_min(tiny) * unit


def _largest(slope: Tensor, unit: Tensor, share: float | Tensor) -> Tensor:
    """The signs of the largest slopes, scaled to length 1 in l1; 0 where all are 0."""
    size = slope.flatten(1).abs()
    free = (unit > 0).sum()
    count = torch.as_tensor(share, dtype=slope.dtype, device=slope.device) * free
    last = (count.ceil().long().clamp(min=1) - 1).clamp(max=size.shape[1] - 1)
    bar = size.sort(dim=1, descending=True).values.gather(1, last.reshape(-1, 1).expand(len(size), 1))
    signs = torch.where((size >= bar) & (size > 0), slope.flatten(1).sign(), 0)
    return (signs / signs.abs().sum(dim=1, keepdim=True).clamp_min(1)).view_as(slope)


def rising(inside: Ball, points: Tensor, gradient: Tensor) -> Tensor:
    """The gradient [n, ...], 0 where it leads out of the corners.

    Without this a sparse l1 step is spent again and again on coordinates that cannot go further.
    """
    blocked = (gradient > 0) & (points >= inside.high) | (gradient < 0) & (points <= inside.low)
    return torch.where(blocked, 0, gradient)


def displaced(inside: Ball, offset: Tensor) -> Tensor:
    """The centre displaced by `offset` [n, ...], given in epsilons, moved into the ball."""
    return project(inside, inside.centre + offset * inside.unit * inside.epsilon)


def distance(norm: Norm, offset: Tensor, unit: Tensor) -> Tensor:
    """[n] length of each `offset` [n, ...] in units; fixed coordinates do not count."""
    return length(norm, in_units(offset, unit))


def length(norm: Norm, values: Tensor) -> Tensor:
    """[n] the norm of each row of `values` [n, ...]."""
    order = {"linf": torch.inf, "l2": 2.0, "l1": 1.0}[norm]
    lengths: Tensor = torch.linalg.vector_norm(values.flatten(1), order, dim=1)
    return lengths


def in_units(offset: Tensor, unit: Tensor) -> Tensor:
    """The offset [n, ...] counted in units; 0 where a coordinate is fixed."""
    return torch.where(unit > 0, offset / torch.where(unit > 0, unit, 1), 0)


def per_row(values: Tensor, like: Tensor) -> Tensor:
    """[n] as [n, 1, ...], to stand beside [n, ...]."""
    return values.view(-1, *([1] * (like.ndim - 1)))
