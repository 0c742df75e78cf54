"""FGSM and PGD over one batch of rows.

What makes them cheap: the gradient of the input alone is taken, success is read from the logits of the
same pass, the corners of the ball are computed once, and a fooled row leaves the batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from audit.attack.loss import LOSSES, Loss, wrong
from audit.attack.norm import Ball, Norm, direction, displaced, project
from audit.model import Model

_EARLY_SHARE = 0.75
_STEPS_BETWEEN_COMPACTIONS = {"cpu": 1}
_STEPS_BETWEEN_COMPACTIONS_ELSEWHERE = 5


@dataclass(frozen=True, kw_only=True)
class Pgd:
    """How PGD walks.

    Attributes:
        norm: the ball's norm.
        steps: gradient steps.
        step_size: length of a step as a share of epsilon; 0 means 2.5 / steps.
        restarts: how often each row that still stands is tried.
        random_start: start from a random point of the ball rather than from the row itself.
        loss: what is raised.
    """

    norm: Norm = "linf"
    steps: int = 20
    step_size: float = 0.0
    restarts: int = 1
    random_start: bool = True
    loss: Loss = "cross_entropy"

    @property
    def share(self) -> float:
        """Length of a step as a share of epsilon."""
        return self.step_size or 2.5 / max(1, self.steps)


@dataclass(frozen=True)
class Found:
    """What an attack claims about n rows.

    Attributes:
        fooled: [n] bool, misclassified according to the attack itself.
        points: [n, ...] the last point of each row; the misclassified one where `fooled`.
        zero: [n] bool, the last gradient was zero wherever the attack may move.
        nan: [n] bool, the last gradient held a value that is not a finite number.
        late: [n] bool, fooled only after the first three quarters of the steps.
    """

    fooled: Tensor
    points: Tensor
    zero: Tensor
    nan: Tensor
    late: Tensor


def fgsm(model: Model, rows: Tensor, labels: Tensor, balls: Sequence[Ball], loss: Loss) -> tuple[Found, ...]:
    """One step of full length along the gradient, for each of several balls around the same rows.

    All balls share one gradient pass. Source: Goodfellow, Shlens and Szegedy, 2015, arXiv:1412.6572.

    Args:
        model: the network.
        rows: [n, ...] raw inputs.
        labels: [n] true classes.
        balls: balls of one norm around `rows`.
        loss: what is raised.
    """
    gradient, _ = model.input_gradient(rows, lambda scores: LOSSES[loss](scores, labels))
    step = direction(balls[0].norm, gradient, balls[0].unit)
    zero, nan = unusable(gradient, balls[0].unit)
    late = _none(labels)
    found = []
    for inside in balls:
        points = project(inside, rows + inside.epsilon * step)
        found.append(Found(_fooled(model, points, labels), points, zero, nan, late))
    return tuple(found)


def guess(model: Model, labels: Tensor, inside: Ball, offset: Tensor) -> Found:
    """One random point of the ball: what an attack without gradients finds by luck.

    Args:
        model: the network.
        labels: [n] true classes.
        inside: the ball.
        offset: [n, ...] displacement in epsilons.
    """
    points = displaced(inside, offset)
    return Found(_fooled(model, points, labels), points, *(_none(labels) for _ in range(3)))


def pgd(model: Model, labels: Tensor, inside: Ball, attack: Pgd, offset: Tensor | None) -> Found:
    """Repeated steps along the gradient, each projected back; a row stops at the first point that fools.

    S steps cost S gradients and one more forward pass, over the rows that still stand. Source: Madry et
    al., 2018, arXiv:1706.06083.

    Args:
        model: the network.
        labels: [n] true classes.
        inside: the ball around the rows.
        attack: how to walk. With epsilon 0 no step is made.
        offset: [n, ...] random start in epsilons; None starts from the rows.
    """
    start = inside.centre if offset is None else displaced(inside, offset)
    walk = _begin(start, labels, inside)
    every = _STEPS_BETWEEN_COMPACTIONS.get(model.device.type, _STEPS_BETWEEN_COMPACTIONS_ELSEWHERE)
    for step in range(attack.steps if inside.epsilon > 0 else 0):
        _step(walk, model, attack, last=step == attack.steps - 1)
        if step < _EARLY_SHARE * attack.steps:
            walk.early = walk.fooled
        if (step + 1) % every == 0:
            _compact(walk)
        if not len(walk.index):
            return walk.found
    walk.fooled = walk.fooled | _fooled(model, walk.points, walk.labels)
    _write(walk)
    return walk.found


@dataclass
class _Walk:
    """The rows that still stand, and what has been found for all rows.

    `index` [k] says which of the n rows the other [k, ...] tensors hold.
    """

    points: Tensor
    labels: Tensor
    inside: Ball
    index: Tensor
    fooled: Tensor
    zero: Tensor
    nan: Tensor
    early: Tensor
    found: Found


def _begin(start: Tensor, labels: Tensor, inside: Ball) -> _Walk:
    index = torch.arange(len(labels), device=labels.device)
    zero, nan, early, fooled = (_none(labels) for _ in range(4))
    found = Found(fooled.clone(), start.clone(), zero.clone(), nan.clone(), early.clone())
    return _Walk(start, labels, inside, index, fooled, zero, nan, early, found)


def _step(walk: _Walk, model: Model, attack: Pgd, *, last: bool) -> None:
    """One gradient pass; rows it shows as fooled stay where they are.

    Only the last gradient is examined: rows that are fooled before have shown that theirs was usable.
    """
    labels, inside = walk.labels, walk.inside
    gradient, scores = model.input_gradient(walk.points, lambda s: LOSSES[attack.loss](s, labels))
    walk.fooled = walk.fooled | wrong(scores, labels)
    if last:
        walk.zero, walk.nan = unusable(gradient, inside.unit)
    length = attack.share * inside.epsilon
    moved = project(inside, walk.points + length * direction(attack.norm, gradient, inside.unit))
    stay = walk.fooled.view(-1, *([1] * (moved.ndim - 1)))
    walk.points = torch.where(stay, walk.points, moved)


def _compact(walk: _Walk) -> None:
    """Let fooled rows leave the batch. The only place that waits for an accelerator."""
    keep = ~walk.fooled
    if bool(keep.all()):
        return
    _write(walk)
    walk.points, walk.labels, walk.index = walk.points[keep], walk.labels[keep], walk.index[keep]
    walk.fooled, walk.zero, walk.nan = walk.fooled[keep], walk.zero[keep], walk.nan[keep]
    walk.early, walk.inside = walk.early[keep], walk.inside.take(keep)


def _write(walk: _Walk) -> None:
    walk.found.fooled[walk.index] = walk.fooled
    walk.found.points[walk.index] = walk.points
    walk.found.zero[walk.index] = walk.zero
    walk.found.nan[walk.index] = walk.nan
    walk.found.late[walk.index] = walk.fooled & ~walk.early


def unusable(gradient: Tensor, unit: Tensor) -> tuple[Tensor, Tensor]:
    """[n], [n] whether each row's gradient is zero wherever it may move, or holds a non-finite value."""
    felt = torch.where(unit > 0, gradient, 0).flatten(1)
    return (felt == 0).all(dim=1), ~felt.isfinite().all(dim=1)


def _none(labels: Tensor) -> Tensor:
    return torch.zeros_like(labels, dtype=torch.bool)


def _fooled(model: Model, points: Tensor, labels: Tensor) -> Tensor:
    with torch.no_grad():
        return wrong(model.scores(points), labels)
