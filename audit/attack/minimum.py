"""The nearest misclassified point of each row: a minimum-norm attack over one batch of rows.

Other attacks ask whether a point within a given radius fools the model; this one asks how far the nearest
one is. What it finds is an upper bound of the true distance.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from audit.attack.loop import unusable
from audit.attack.loss import margin, objective, wrong
from audit.attack.norm import Ball, Norm, direction, distance, length, per_row, within
from audit.model import Model

_FIRM = 1e-5
_LAST_STEP = 0.01
_LAST_CHANGE = 0.02
_DUAL: dict[Norm, Norm] = {"linf": "l1", "l2": "l2", "l1": "linf"}


@dataclass(frozen=True, kw_only=True)
class Minimum:
    """How the nearest misclassified point is searched.

    Attributes:
        norm: how distance is measured.
        steps: gradient steps.
        step_size: length of the first step as a share of the row's present radius, the last being a
            hundredth of it; 0 means 1, for l1 1/4.
        change: share by which a row's radius first shrinks or grows at each step; the last a fiftieth.
    """

    norm: Norm = "l2"
    steps: int = 100
    step_size: float = 0.0
    change: float = 0.05

    @property
    def share(self) -> float:
        """Length of the first step as a share of the radius."""
        return self.step_size or (0.25 if self.norm == "l1" else 1.0)


@dataclass(frozen=True)
class Nearest:
    """What was found for n rows.

    Attributes:
        distance: [n] distance, in units, of the nearest misclassified point found: 0 where the row itself is
            misclassified, infinite where none was found.
        points: [n, ...] that point; the row itself where none was found.
        zero: [n] bool, none was found and the last gradient was zero wherever the attack may move.
        nan: [n] bool, none was found and the last gradient held a value that is not a finite number.
    """

    distance: Tensor
    points: Tensor
    zero: Tensor
    nan: Tensor


def minimum(
    model: Model, labels: Tensor, inside: Ball, attack: Minimum, offset: Tensor | None = None
) -> Nearest:
    """Steps along the margin's gradient, each projected to a radius that follows what was found.

    A row's radius shrinks while it is misclassified and grows while it is not; before the first success it
    reaches to where the boundary would be if the model were linear, and never shrinks. Steps are shares of
    that radius, so that no unit matters: signs for linf, along the gradient for l2 and l1. A point counts
    only if its margin is above the rounding of its scores, so that a fresh pass of another batch size
    agrees. S steps cost S gradients and one more forward pass over the rows that are not misclassified by
    themselves. Source: Pintor et al., 2021, arXiv:2102.12827 (FMN).

    Args:
        model: the network.
        labels: [n] true classes.
        inside: the ball that is searched, of the attack's norm; epsilon may be infinite
            (`audit.attack.norm.ball`).
        attack: how to search.
        offset: [n, ...] where to go first, in units from the rows, in place of the first gradient step.
    """
    rows = inside.centre
    nearest = Nearest(
        distance=rows.new_full(labels.shape, torch.inf),
        points=rows.clone(),
        zero=torch.zeros_like(labels, dtype=torch.bool),
        nan=torch.zeros_like(labels, dtype=torch.bool),
    )
    every = torch.arange(len(labels), device=labels.device)
    for part in torch.split(every, max(1, model.passes.batch)):
        start = None if offset is None else offset[part]
        _search(model, _begin(part, labels[part], inside.take(part), start), attack, nearest)
    return nearest


@dataclass
class _Search:
    """The k rows that are searched around. Every tensor is [k] or [k, ...].

    Attributes:
        index: which row of the result each is.
        labels: true classes.
        inside: all points that may be reached.
        first: where to go first, if not along the gradient.
        points: where they are.
        gradient: of the margin there.
        radius: how far the next point may be from the row.
        farthest: no point that may be reached is farther.
        best: distance of the nearest misclassified point.
        found: that point.
    """

    index: Tensor
    labels: Tensor
    inside: Ball
    first: Tensor | None
    points: Tensor
    gradient: Tensor
    radius: Tensor
    farthest: Tensor
    best: Tensor
    found: Tensor


def _begin(index: Tensor, labels: Tensor, inside: Ball, offset: Tensor | None) -> _Search:
    rows = inside.centre
    widest = torch.maximum(inside.high - rows, rows - inside.low)
    farthest = distance(inside.norm, widest, inside.unit).clamp(max=inside.epsilon)
    return _Search(
        index=index,
        labels=labels,
        inside=inside,
        first=None if offset is None else within(inside, rows + offset * inside.unit, farthest),
        points=rows,
        gradient=torch.zeros_like(rows),
        radius=torch.zeros_like(farthest),
        farthest=farthest,
        best=torch.full_like(farthest, torch.inf),
        found=rows,
    )


def _search(model: Model, search: _Search, attack: Minimum, nearest: Nearest) -> None:
    """All steps; rows that are misclassified by themselves leave after the first pass."""
    for step in range(attack.steps):
        search.gradient, scores = model.input_gradient(search.points, objective("margin", search.labels))
        if step == 0:
            scores = _leave(search, scores, nearest)
            if not len(search.index):
                return
        left = (1 + math.cos(math.pi * step / attack.steps)) / 2
        _resize(search, scores, attack.change * (_LAST_CHANGE + (1 - _LAST_CHANGE) * left))
        _move(search, attack.share * (_LAST_STEP + (1 - _LAST_STEP) * left))
        if step == 0 and search.first is not None:
            search.points = search.first
    with torch.no_grad():
        scores = model.scores(search.points)
    if attack.steps == 0:
        scores = _leave(search, scores, nearest)
    _record(search, scores)
    _write(search, nearest)


def _leave(search: _Search, scores: Tensor, nearest: Nearest) -> Tensor:
    """Rows that are misclassified by themselves leave; the scores of the others. Waits for the device."""
    itself = wrong(scores, search.labels)
    nearest.distance[search.index[itself]] = 0
    for name, value in vars(search).items():
        if isinstance(value, Tensor):
            setattr(search, name, value[~itself])
    search.inside = search.inside.take(~itself)
    return scores[~itself]


def _record(search: _Search, scores: Tensor) -> Tensor:
    """Keep the points that are misclassified and nearer than those before; [k] which are misclassified."""
    scores = scores.to(search.best)
    lead = margin(scores, search.labels)
    true = scores.gather(1, search.labels[:, None]).squeeze(1)
    firm = wrong(scores, search.labels) & (lead > _FIRM * (true.abs() + (true + lead).abs()))
    inside = search.inside
    here = distance(inside.norm, search.points - inside.centre, inside.unit)
    nearer = firm & (here < search.best)
    search.best = torch.where(nearer, here, search.best)
    search.found = torch.where(per_row(nearer, search.found), search.points, search.found)
    return firm


def _resize(search: _Search, scores: Tensor, change: float) -> None:
    """The radius within which the next point is looked for."""
    firm = _record(search, scores)
    inside = search.inside
    here = distance(inside.norm, search.points - inside.centre, inside.unit)
    slope = length(_DUAL[inside.norm], search.gradient * inside.unit)
    gap = margin(scores, search.labels).to(here).abs() / slope
    ahead = torch.maximum(torch.where(gap.isfinite(), here + gap, here), search.radius)
    wider = torch.where(search.best.isfinite(), search.radius, ahead) * (1 + change)
    follow = torch.where(firm, search.best * (1 - change), wider)
    search.radius = torch.minimum(torch.minimum(follow, search.best), search.farthest)


def _move(search: _Search, share: float) -> None:
    inside = search.inside
    straight = direction("linf" if inside.norm == "linf" else "l2", search.gradient, inside.unit)
    step = per_row(share * search.radius, straight) * straight
    search.points = within(inside, search.points + step, search.radius)


def _write(search: _Search, nearest: Nearest) -> None:
    index = search.index
    nearest.distance[index], nearest.points[index] = search.best, search.found
    zero, nan = unusable(search.gradient, search.inside.unit)
    nearest.zero[index], nearest.nan[index] = zero & search.best.isinf(), nan & search.best.isinf()
