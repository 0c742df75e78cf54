"""Cascade: several attacks one after the other, cheap ones first, each on the rows that still stand.

A row is broken when any of them breaks it, so what is left is the worst case over the attacks for each row,
not the worst attack's mean. Source: Croce and Hein, 2020, arXiv:2003.01690 (AutoAttack), with the margin
loss in the place of DLR where there are fewer classes than DLR needs.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from audit.attack.apgd import Apgd, apgd
from audit.attack.curve import Attempt, Target, pgd_attempts, random_offset
from audit.attack.hopskipjump import Donors, HopSkipJump, donors, hopskipjump
from audit.attack.loop import Found, Pgd, fgsm, guess
from audit.attack.loss import Loss, loss_defined
from audit.attack.norm import Ball, Norm
from audit.attack.square import Square, square
from audit.dataset import Ints

_PGD_STEPS = 20
_FIRST_APGD_START = 100
_DONORS = 256
_IMAGE_AXES = 4


@dataclass(frozen=True, kw_only=True)
class Cascade:
    """Which attacks are tried, and how hard.

    Attributes:
        norm: the ball's norm.
        steps: gradient steps of each APGD.
        restarts: random starts of each APGD with no target.
        targets: likeliest wrong classes that targeted APGD pushes to; 0 leaves it out.
        queries: queries of Square, and of HopSkipJump, for each row; 0 leaves them out.
        boundary: try HopSkipJump last where the model gives gradients; where it gives none it is always
            tried.
    """

    norm: Norm = "linf"
    steps: int = 100
    restarts: int = 1
    targets: int = 9
    queries: int = 1000
    boundary: bool = False

    @property
    def fixed(self) -> dict[str, Any]:
        """What nobody may choose, for the record: by attack and setting."""
        first = Pgd(norm=self.norm, steps=_PGD_STEPS, loss="margin")
        return {
            "pgd_steps": first.steps,
            "pgd_loss": first.loss,
            "pgd_step_size": first.share,
            "apgd_rho": Apgd().rho,
            "square_p_init": Square().p_init,
        }


def cascade_attempts(target: Target, cascade: Cascade, classes: int, *, gradients: bool) -> list[Attempt]:
    """The attacks of a cascade in the order in which they are tried.

    Args:
        target: the rows.
        cascade: which attacks.
        classes: outputs of the model.
        gradients: whether the model gives gradients; without, only what asks for answers is tried.
    """
    norm, images = cascade.norm, target.inputs.ndim == _IMAGE_AXES
    tried = list(_by_gradient(target, cascade, classes)) if gradients else [_noise(target, norm)]
    if not gradients:
        tried += _along_the_boundary(target, cascade)
    if cascade.queries and norm != "l1" and (norm == "linf" or images):
        place = len(tried) - bool(gradients and cascade.targets)
        tried.insert(place, square_attempt(target, Square(norm=norm, queries=cascade.queries)))
    return tried + (_along_the_boundary(target, cascade) if gradients and cascade.boundary else [])


def _along_the_boundary(target: Target, cascade: Cascade) -> list[Attempt]:
    """HopSkipJump, where it is defined and may ask."""
    if cascade.norm == "l1" or not cascade.queries:
        return []
    return [boundary_attempt(target, HopSkipJump(norm=cascade.norm, budget=cascade.queries))]


def _by_gradient(target: Target, cascade: Cascade, classes: int) -> Iterator[Attempt]:
    norm, steps = cascade.norm, cascade.steps
    yield Attempt("fgsm", _single_step(target))
    yield from pgd_attempts(target, Pgd(norm=norm, steps=_PGD_STEPS, loss="margin"), "pgd, margin")
    second: Loss = "dlr" if loss_defined("dlr", classes) else "margin"
    losses: tuple[Loss, ...] = ("cross_entropy", second)
    for loss in losses:
        yield from apgd_attempts(target, Apgd(norm=norm, steps=steps, restarts=cascade.restarts, loss=loss))
    if cascade.targets:
        aimed: Loss = "dlr" if loss_defined("dlr", classes, targeted=True) else "margin"
        count = min(cascade.targets, classes - 1)
        yield from apgd_attempts(target, Apgd(norm=norm, steps=steps, loss=aimed, targets=count))


def apgd_attempts(target: Target, attack: Apgd) -> list[Attempt]:
    """APGD as often as it restarts, each time from a random start of its own."""

    def attempt(number: int) -> Attempt:
        def once(positions: Ints, labels: Tensor, inside: Ball) -> Found:
            start = random_offset(target, attack.norm, positions, "start", _FIRST_APGD_START + number)
            return apgd(target.model, labels, inside, attack, start)

        return Attempt(f"apgd, {'targeted ' if attack.targets else ''}{attack.loss}", once)

    return [attempt(number) for number in range(attack.restarts)]


def square_attempt(target: Target, attack: Square) -> Attempt:
    """Square, which looks at no gradient."""

    def once(positions: Ints, labels: Tensor, inside: Ball) -> Found:
        return square(target.model, labels, inside, attack, target.rows[positions], target.seed)

    return Attempt("square", once, gradients=False)


def _single_step(target: Target) -> Callable[[Ints, Tensor, Ball], Found]:
    def run(_: Ints, labels: Tensor, inside: Ball) -> Found:
        return fgsm(target.model, inside.centre, labels, [inside], "cross_entropy")[0]

    return run


def boundary_attempt(target: Target, attack: HopSkipJump) -> Attempt:
    """HopSkipJump, which asks for nothing but the class. A row falls where its nearest point is inside.

    A walk may start at any of up to `_DONORS` of the rows looked at, spread over them all: data are often
    sorted by class, so that the first rows would be of one class.
    """
    started: list[Donors] = []
    apart = -(-len(target.rows) // _DONORS) or 1

    def once(positions: Ints, labels: Tensor, inside: Ball) -> Found:
        model, rows = target.model, target.rows[positions]
        if not started:
            started.append(donors(model, model.tensor(target.inputs[target.rows[::apart]])))
        reach = target.space.reach(model)
        near = hopskipjump(model, labels, inside.centre, reach, attack, rows, target.seed, started[0])
        fooled = near.distance <= inside.epsilon
        none = torch.zeros_like(fooled)
        return Found(fooled, near.points, none, none, none)

    return Attempt("hopskipjump", once, gradients=False)


def _noise(target: Target, norm: Norm) -> Attempt:
    def run(positions: Ints, labels: Tensor, inside: Ball) -> Found:
        return guess(target.model, labels, inside, random_offset(target, norm, positions, "noise", 0))

    return Attempt("noise", run, gradients=False)
