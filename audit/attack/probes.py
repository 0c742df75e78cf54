"""Probes: what is looked at in a model and in an attack's way to judge whether the attack can be trusted.

Only counts come out of here; the rules that they are held against are in `audit.attack.sanity`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from audit.attack.curve import Target, random_offset
from audit.attack.loop import Pgd, unusable
from audit.attack.loss import LOSSES, Loss, likeliest_wrong, margin, wrong
from audit.attack.norm import Ball, Norm, ball, direction, displaced, project
from audit.dataset import Floats, Ints
from audit.model import Model

PASSES = 5
SAME = 1e-4
"""Scores that differ by no more than this share of the largest score are the same, as for AutoAttack."""

ALIKE = 0.5
"""A slope agrees with the gradient when they differ by no more than this share of the larger of the two."""

_APART = {"cpu": 1e-4, "mps": 1e-3, "cuda": 5e-3}
_DIFFERENCE_STEPS = (0.1, 0.01, 0.001)
_ROUNDING = 32 * float(np.finfo(np.float32).eps)
_SMALL_BATCHES = (16, 1)
_ROWS_ALONE = 16
_EARLY_SHARE = 0.75
_RISE = 0.1
_DRAW = 500


@dataclass(frozen=True)
class Slopes:
    """The gradient of a loss at the attacked rows: how many are zero, how many not finite."""

    rows: int
    zero: int
    nan: int


@dataclass(frozen=True)
class Agreement:
    """The gradient against central differences.

    Attributes:
        rows: attacked rows.
        unseen: of these, the gradient is zero and yet the model's answer changes.
        apart: of these, the gradient is not zero and disagrees at every step size.
    """

    rows: int
    unseen: int
    apart: int


@dataclass(frozen=True)
class Repeats:
    """The same rows asked again.

    Attributes:
        rows: rows asked.
        passes: passes over all of them in the same batches.
        changed: rows whose scores differed in some of these passes.
        alone: rows whose scores differed in smaller batches.
        farthest: largest difference in the same batches, as a share of the largest score.
    """

    rows: int
    passes: int
    changed: int
    alone: int
    farthest: float


@dataclass(frozen=True)
class Path:
    """A PGD that does not stop where it succeeds, over the attacked rows.

    Attributes:
        rows: attacked rows.
        ever: fooled at some point of the way.
        last: fooled at the last point.
        rising: never fooled, and the margin made a tenth of its rise in the last quarter of the steps.
    """

    rows: int
    ever: int
    last: int
    rising: int


def slopes(target: Target, loss: Loss = "cross_entropy") -> Slopes:
    """Zero and non-finite gradients of a loss at the rows themselves; one gradient each."""

    def work(part: slice) -> tuple[Tensor, ...]:
        rows, labels = _load(target, positions[part])
        gradient, _ = target.model.input_gradient(rows, lambda s: LOSSES[loss](s, labels))
        zero, nan = unusable(gradient, target.model.tensor(target.space.unit))
        return zero.cpu(), nan.cpu()

    positions = np.flatnonzero(target.correct)
    zero, nan = target.model.in_batches(work, len(positions))
    return Slopes(len(positions), int(zero.sum()), int(nan.sum()))


def agreement(target: Target, epsilon: float, norm: Norm) -> Agreement:
    """Slopes along a random and along the steepest direction, from the gradient and from two passes.

    What is followed is the lead of the likeliest wrong class over the true one, which does not saturate.
    Steps of a tenth, a hundredth and a thousandth of epsilon allow for kinks (ReLU, max-pooling) and for the
    rounding of single precision: a row disagrees only if it does so at all of them. Points are moved inside
    the valid range by the step, so that both ends are valid inputs. One gradient and 13 passes for each row.

    Args:
        target: the rows.
        epsilon: the radius, above 0.
        norm: which directions are tried.
    """

    def work(part: slice) -> tuple[Tensor, ...]:
        return _compared(target, positions[part], epsilon, norm)

    positions = np.flatnonzero(target.correct)
    unseen, apart = target.model.in_batches(work, len(positions), rows_each=2)
    return Agreement(len(positions), int(unseen.sum()), int(apart.sum()))


def repeats(target: Target) -> Repeats:
    """The rows five times in the same batches, then once in batches of 16 and the first 16 alone."""
    points = target.inputs[target.rows]
    first = target.model.predict(points)
    again = [_differences(first, target.model.predict(points)) for _ in range(PASSES - 1)]
    farthest = torch.stack(again).amax(dim=0)
    small = torch.zeros(len(points))
    for size in _SMALL_BATCHES:
        few = min(len(points), _ROWS_ALONE if size == 1 else len(points))
        told = _in_parts(target.model, points[:few], size)
        small[:few] = torch.maximum(small[:few], _differences(first[:few], told))
    return Repeats(
        rows=len(points),
        passes=PASSES,
        changed=int((farthest > SAME).sum()),
        alone=int((small > _APART[target.model.device.type]).sum()),
        farthest=float(farthest.max()),
    )


def path(target: Target, epsilon: float, attack: Pgd) -> Path:
    """The way of PGD's first start with the stop taken out: S gradients and one pass for each row.

    Args:
        target: the rows.
        epsilon: the radius.
        attack: how to walk; restarts are not made.
    """

    def work(part: slice) -> tuple[Tensor, ...]:
        rows, labels = _load(target, positions[part])
        inside = ball(rows, epsilon, attack.norm, target.space.reach(target.model))
        offset = None
        if attack.random_start:
            offset = random_offset(target, attack.norm, positions[part], "start", 0)
        return _walked(target.model, labels, inside, attack, offset)

    positions = np.flatnonzero(target.correct)
    ever, last, rising = target.model.in_batches(work, len(positions))
    return Path(len(positions), int(ever.sum()), int(last.sum()), int(rising.sum()))


def labels_only(scores: Floats) -> bool:
    """Whether scores [N, C] tell the predicted class and nothing else: two values, the same in all rows."""
    values = np.unique(scores)
    high = scores == values[-1]
    return len(values) == 2 and bool((high.sum(axis=1) == 1).all())  # noqa: PLR2004 - chosen and not chosen


def _compared(target: Target, positions: Ints, epsilon: float, norm: Norm) -> tuple[Tensor, Tensor]:
    """[n], [n] which rows have a gradient that sees nothing, or another one than the model's."""
    rows, labels = _load(target, positions)
    reach = target.space.reach(target.model)
    room = torch.minimum(_DIFFERENCE_STEPS[0] * epsilon * reach.unit, (reach.high - reach.low) / 2)
    points = torch.where(reach.unit > 0, torch.clamp(rows, reach.low + room, reach.high - room), rows)
    with torch.no_grad():
        rival = likeliest_wrong(target.model.scores(points.clone()), labels, 1).squeeze(1)

    def lead(scores: Tensor) -> Tensor:
        pair = scores.gather(1, torch.stack([rival, labels], dim=1))
        return pair[:, 0] - pair[:, 1]

    gradient, scores = target.model.input_gradient(points, lead)
    zero, _ = unusable(gradient, reach.unit)
    noise = _ROUNDING * scores.abs().amax(dim=1).clamp_min(1)
    around = random_offset(target, norm, positions, "noise", _DRAW) * reach.unit
    moved, agree = torch.zeros_like(zero), torch.ones_like(zero)
    for way in (around, direction(norm, gradient, reach.unit)):
        expected = (torch.nan_to_num(gradient) * way).flatten(1).sum(dim=1)
        at_some_step = torch.zeros_like(zero)
        for share in _DIFFERENCE_STEPS:
            step = share * epsilon
            slope, slack = _slope(target.model, points, step * way, lead) / step, noise / step
            moved |= slope.abs() > slack
            larger = torch.maximum(slope.abs(), expected.abs())
            at_some_step |= (slope - expected).abs() <= ALIKE * larger + slack
        agree &= at_some_step
    return (zero & moved).cpu(), (~zero & ~agree).cpu()


def _slope(model: Model, points: Tensor, step: Tensor, lead: Callable[[Tensor], Tensor]) -> Tensor:
    """[n] half the difference of the lead on both sides of the points."""
    with torch.no_grad():
        return (lead(model.scores(points + step)) - lead(model.scores(points - step))) / 2


def _differences(first: Tensor, other: Tensor) -> Tensor:
    """[n] largest difference of each row's scores as a share of the largest score, at least of 1."""
    differing = torch.where(first == other, 0, (first - other).abs())
    finite = first[first.isfinite()].abs()
    size = max(1.0, float(finite.max())) if len(finite) else 1.0
    return torch.nan_to_num(differing.amax(dim=1) / size, nan=torch.inf)


def _in_parts(model: Model, points: Floats, size: int) -> Tensor:
    """[N, C] scores in batches of `size`, or fewer where the device has no room for so many."""

    def work(part: slice) -> tuple[Tensor]:
        parts = torch.split(model.tensor(points[part]), min(size, max(1, model.passes.batch)))
        with torch.no_grad():
            return (torch.cat([model.scores(one.clone()).float().cpu() for one in parts]),)

    return model.in_batches(work, len(points), load=len(points))[0]


def _walked(
    model: Model, labels: Tensor, inside: Ball, attack: Pgd, offset: Tensor | None
) -> tuple[Tensor, ...]:
    """[n] fooled at some point, [n] at the last one, [n] never and the margin still rose."""
    points = inside.centre if offset is None else displaced(inside, offset)
    ever = torch.zeros_like(labels, dtype=torch.bool)
    leads: list[Tensor] = []
    for _ in range(attack.steps):
        gradient, scores = model.input_gradient(points, lambda s: LOSSES[attack.loss](s, labels))
        ever |= wrong(scores, labels)
        leads.append(margin(scores, labels))
        length = attack.share * inside.epsilon
        points = project(inside, points + length * direction(attack.norm, gradient, inside.unit))
    with torch.no_grad():
        scores = model.scores(points)
    last = wrong(scores, labels)
    best = torch.stack([*leads, margin(scores, labels)]).cummax(dim=0).values
    late = best[-1] - best[int(_EARLY_SHARE * attack.steps)]
    rising = ~(ever | last) & (late > _RISE * (best[-1] - best[0]))
    return (ever | last).cpu(), last.cpu(), rising.cpu()


def _load(target: Target, positions: Ints) -> tuple[Tensor, Tensor]:
    """Raw inputs [n, ...] and labels [n] on the device."""
    rows = target.rows[positions]
    labels = torch.from_numpy(target.labels[rows]).to(target.model.device)
    return target.model.tensor(target.inputs[rows]), labels
