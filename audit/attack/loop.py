"""FGSM and PGD over one batch of rows.

What makes them cheap: the gradient of the input alone is taken, success is read from the logits of the
same pass, the corners of the ball are computed once, and a fooled row leaves the batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from audit.attack.loss import LOSSES, Loss, wrong
from audit.attack.norm import Ball, Norm, direction, displaced, project, stepped
from audit.model import Model

_EARLY_SHARE = 0.75
_STEPS_BETWEEN_COMPACTIONS = {"cpu": 1}
_STEPS_BETWEEN_COMPACTIONS_ELSEWHERE = 5
_WORTHWHILE_SHARE = 1 / 16


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
        drop: let fooled rows leave the batch; False only to measure what that saves.
    """

    norm: Norm = "linf"
    steps: int = 20
    step_size: float = 0.0
    restarts: int = 1
    random_start: bool = True
    loss: Loss = "cross_entropy"
    drop: bool = True

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

    S steps cost S gradients and one more forward pass, over the rows that still stand. At most
    `model.passes.batch` rows walk at a time: a row that is fooled or has made its steps leaves its place to
    the next one. Source: Madry et al., 2018, arXiv:1706.06083.

    Args:
        model: the network.
        labels: [n] true classes.
        inside: the ball around the rows.
        attack: how to walk. With epsilon 0 no step is made.
        offset: [n, ...] random start in epsilons; None starts from the rows.
    """
    start = inside.centre if offset is None else displaced(inside, offset)
    places = max(1, model.passes.batch)
    found = _nothing_yet(start, labels)
    if attack.steps and inside.epsilon > 0:
        _walk(model, _seated(start, labels, inside, found, places), attack)
    standing = (~found.fooled).nonzero().flatten()
    for start_at in range(0, len(standing), places):
        part = standing[start_at : start_at + places]
        found.fooled[part] = _fooled(model, found.points[part], labels[part])
        found.late[part] = found.fooled[part]
    return found


def _nothing_yet(start: Tensor, labels: Tensor) -> Found:
    return Found(_none(labels), start.clone(), *(_none(labels) for _ in range(3)))


@dataclass
class _Walk:
    """The rows that walk, those that wait for a place, and what has been found for all n rows.

    `index` [k] says which of the n rows the other [k, ...] tensors hold. `standing` [k] is 1, or 0 once a
    row is misclassified; `passes` [k] counts the passes that it withstood. `births` are the steps at which
    rows took their places, oldest first: so the host knows without asking the device when a row makes its
    last step.
    """

    points: Tensor
    labels: Tensor
    inside: Ball
    index: Tensor
    standing: Tensor
    passes: Tensor
    zero: Tensor
    nan: Tensor
    waiting: tuple[Tensor, Tensor, Ball]
    taken: int
    births: list[int]
    found: Found


def _seated(start: Tensor, labels: Tensor, inside: Ball, found: Found, places: int) -> _Walk:
    """The first rows on their places, which others will take after them; those wait."""
    first = slice(0, places)
    index = torch.arange(len(labels), device=labels.device)[first]
    zeros = torch.zeros_like(index, dtype=torch.float32)
    return _Walk(
        points=start[first],
        labels=labels[first].clone(),
        inside=inside.take(first).copy(),
        index=index,
        standing=zeros + 1,
        passes=zeros,
        zero=_none(index),
        nan=_none(index),
        waiting=(start, labels, inside),
        taken=len(index),
        births=[0],
        found=found,
    )


def _walk(model: Model, walk: _Walk, attack: Pgd) -> None:
    """Step after step until every row is fooled or has made its steps."""
    every = _STEPS_BETWEEN_COMPACTIONS.get(model.device.type, _STEPS_BETWEEN_COMPACTIONS_ELSEWHERE)
    length = walk.inside.unit * (attack.share * walk.inside.epsilon)
    step = 0
    while len(walk.index):
        last = step - walk.births[0] == attack.steps - 1
        _step(walk, model, attack, length, last=last)
        step += 1
        if last:
            walk.births.pop(0)
        if last or (attack.drop and step % every == 0):
            _change_seats(walk, attack, step)


def _step(walk: _Walk, model: Model, attack: Pgd, length: Tensor, *, last: bool) -> None:
    """One gradient pass; rows it shows as fooled stay where they are.

    Only the last gradient is examined: rows that are fooled before have shown that theirs was usable. A
    fooled row's gradient weighs nothing. A score that is not a number is told apart where claims are
    verified: looking for one at each step would cost a tenth of a small model's pass.
    """
    labels, inside = walk.labels, walk.inside

    def standing(scores: Tensor) -> Tensor:
        walk.standing.masked_fill_(scores.argmax(dim=1) != labels, 0)
        walk.passes += walk.standing
        return walk.standing

    loss = LOSSES[attack.loss]
    gradient, _ = model.input_gradient(walk.points, lambda scores: loss(scores, labels), standing)
    if last:
        walk.zero, walk.nan = unusable(gradient, inside.unit)
    moved = stepped(inside, walk.points, gradient, length)
    if inside.norm != "linf":  # where a gradient of 0 moves nothing, not even by rounding
        moved = torch.where(_beside(walk.standing > 0, moved), moved, walk.points)
    walk.points = moved


def _change_seats(walk: _Walk, attack: Pgd, step: int) -> None:
    """Rows that are fooled or done leave, and waiting rows take their places. Only this waits for a device.

    Nothing moves until enough rows leave to be worth it. Where fooled rows do not leave early, all rows sat
    down together and are done together.
    """
    done = walk.passes >= attack.steps if attack.drop else torch.ones_like(walk.zero)
    leave = done | (walk.standing == 0)
    leaving = int(leave.count_nonzero())
    if not leaving or (leaving < _WORTHWHILE_SHARE * len(leave) and not bool(done.any())):
        return
    left = leave.nonzero().flatten()
    _write(walk, attack, left)
    fresh = min(leaving, len(walk.waiting[1]) - walk.taken)
    if fresh:
        _seat(walk, left[:fresh], step)
    if fresh < leaving:
        leave[left[:fresh]] = False
        # Cutting to nothing costs a small model less than choosing none.
        _shrink(walk, slice(0, 0) if leaving == len(leave) and not fresh else (~leave).nonzero().flatten())


def _seat(walk: _Walk, places: Tensor, step: int) -> None:
    """The next waiting rows sit down on `places`; only theirs is copied, which matters for large rows."""
    start, labels, inside = walk.waiting
    new = slice(walk.taken, walk.taken + len(places))
    walk.points[places], walk.labels[places] = start[new], labels[new]
    walk.inside.put(places, inside.take(new))
    walk.index[places] = torch.arange(new.start, new.stop, device=places.device)
    walk.standing[places], walk.passes[places] = 1, 0
    walk.zero[places], walk.nan[places] = False, False
    walk.taken = new.stop
    walk.births.append(step)


def _shrink(walk: _Walk, keep: Tensor | slice) -> None:
    """Only the rows that `keep` marks walk on."""
    walk.points, walk.labels, walk.index = walk.points[keep], walk.labels[keep], walk.index[keep]
    walk.standing, walk.passes = walk.standing[keep], walk.passes[keep]
    walk.inside = walk.inside.take(keep)
    walk.zero, walk.nan = walk.zero[keep], walk.nan[keep]


def _write(walk: _Walk, attack: Pgd, left: Tensor) -> None:
    """What is found for the rows on the places `left`; the gradient of a fooled row was made 0 on purpose."""
    index, fooled = walk.index[left], walk.standing[left] == 0
    walk.found.fooled[index] = fooled
    walk.found.points[index] = walk.points[left]
    walk.found.zero[index] = walk.zero[left] & ~fooled
    walk.found.nan[index] = walk.nan[left] & ~fooled
    walk.found.late[index] = fooled & (walk.passes[left] >= _EARLY_SHARE * attack.steps)


def _beside(flags: Tensor, points: Tensor) -> Tensor:
    """[n] as [n, 1, ...], to choose between points [n, ...]."""
    return flags.view(-1, *([1] * (points.ndim - 1)))


def unusable(gradient: Tensor, unit: Tensor) -> tuple[Tensor, Tensor]:
    """[n], [n] whether each row's gradient is zero wherever it may move, or holds a non-finite value."""
    felt = torch.where(unit > 0, gradient, 0).flatten(1)
    most = felt.abs().amax(dim=1)  # not a number where one of them is not
    return most == 0, ~most.isfinite()


def _none(labels: Tensor) -> Tensor:
    return torch.zeros_like(labels, dtype=torch.bool)


def _fooled(model: Model, points: Tensor, labels: Tensor) -> Tensor:
    with torch.no_grad():
        return wrong(model.scores(points), labels)
