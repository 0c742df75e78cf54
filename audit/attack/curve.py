"""An attack over many rows and a range of radii: batches, restarts, verification and bookkeeping."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from audit.attack.loop import Found, Pgd, fgsm, guess, pgd
from audit.attack.loss import Loss
from audit.attack.noise import Stream, displacements
from audit.attack.norm import Ball, Norm, ball
from audit.attack.result import AtEpsilon, Flags
from audit.attack.space import Space
from audit.attack.verify import ACCEPTED, REASONS, verify
from audit.dataset import Floats, Ints
from audit.model import Model

KEPT_BYTES = 2**28
"""Adversarial examples kept by one attack, in bytes of memory."""

_NOT_CLAIMED = -1
Attempt = Callable[[Ints, Tensor, Ball], Found]
Outcome = tuple[npt.NDArray[Any], ...]


@dataclass(frozen=True)
class Target:
    """The rows that are attacked.

    Attributes:
        model: the network.
        inputs: [N, ...] inputs of the whole data set.
        labels: [N] true classes.
        rows: [R] the data set rows that are looked at.
        correct: [R] classified correctly without an attack; only these are attacked.
        space: what may change.
        seed: seed of every random displacement.
    """

    model: Model
    inputs: Floats
    labels: Ints
    rows: Ints
    correct: Flags
    space: Space
    seed: int


def fgsm_curve(target: Target, epsilons: Sequence[float], norm: Norm, loss: Loss) -> tuple[AtEpsilon, ...]:
    """FGSM at each radius on its own; all radii share one gradient pass over the rows.

    Args:
        target: the rows.
        epsilons: radii, ascending.
        norm: the ball's norm.
        loss: what is raised.
    """
    positions = np.flatnonzero(target.correct)
    if not len(positions):
        none = np.zeros(len(target.rows), dtype=bool)
        return tuple(_entry(target, epsilon, none, none, none, []) for epsilon in epsilons)
    limit = _rows_kept(target, len(epsilons))
    reach = target.space.reach(target.model)

    def work(part: slice) -> tuple[Tensor, ...]:
        rows, labels = _load(target, positions[part])
        balls = [ball(rows, epsilon, norm, reach) for epsilon in epsilons]
        claims = fgsm(target.model, rows, labels, balls, loss)
        judged = [
            _judged(target, positions[part], claim, inside, limit)
            for claim, inside in zip(claims, balls, strict=True)
        ]
        return tuple(tensor for outcome in judged for tensor in outcome)

    columns = [c.numpy() for c in target.model.in_batches(work, len(positions))]
    width = len(columns) // len(epsilons)
    outcomes = [tuple(columns[i * width : (i + 1) * width]) for i in range(len(epsilons))]
    return tuple(_alone(target, e, positions, o) for e, o in zip(epsilons, outcomes, strict=True))


def pgd_curve(target: Target, epsilons: Sequence[float], attack: Pgd) -> tuple[AtEpsilon, ...]:
    """PGD walked upwards: a row broken at a radius stays broken at the larger ones and is left alone.

    Restarts are kept per row: each tries only the rows that all earlier ones left standing.

    Args:
        target: the rows.
        epsilons: radii, ascending.
        attack: how to walk.
    """

    def attempt(number: int) -> Attempt:
        def once(positions: Ints, labels: Tensor, inside: Ball) -> Found:
            offset = None
            if attack.random_start:
                offset = _offset(target, attack.norm, positions, "start", number)
            return pgd(target.model, labels, inside, attack, offset)

        return once

    tries = attack.restarts if attack.random_start else 1
    return tuple(_walk(target, epsilons, attack.norm, tries, attempt))


def noise_curve(target: Target, epsilons: Sequence[float], norm: Norm, draws: int) -> tuple[AtEpsilon, ...]:
    """Random points on the edge of the ball, walked upwards. The best of `draws` counts for each row.

    Args:
        target: the rows.
        epsilons: radii, ascending.
        norm: the ball's norm.
        draws: random points for each row and radius.
    """

    def attempt(number: int) -> Attempt:
        def once(positions: Ints, labels: Tensor, inside: Ball) -> Found:
            return guess(target.model, labels, inside, _offset(target, norm, positions, "noise", number))

        return once

    return tuple(_walk(target, epsilons, norm, draws, attempt))


def _walk(
    target: Target,
    epsilons: Sequence[float],
    norm: Norm,
    tries: int,
    attempt: Callable[[int], Attempt],
) -> Iterator[AtEpsilon]:
    """Radii upwards; at each, up to `tries` attempts on the rows that still stand."""
    reach = target.space.reach(target.model)
    broken = np.zeros(len(target.rows), dtype=bool)
    for epsilon in epsilons:
        around = partial(ball, epsilon=epsilon, norm=norm, reach=reach)
        attempts = [attempt(number) for number in range(tries if epsilon > 0 else 1)]
        entry = _radius(target, epsilon, broken, around, attempts)
        broken = entry.fooled
        yield entry


def _radius(
    target: Target,
    epsilon: float,
    broken: Flags,
    around: Callable[[Tensor], Ball],
    attempts: Sequence[Attempt],
) -> AtEpsilon:
    """One radius. A row counts as without a gradient only if no attempt had one."""
    broken, zero, nan = broken.copy(), target.correct & ~broken, target.correct & ~broken
    outcomes: list[Outcome] = []
    for attempt in attempts:
        positions = np.flatnonzero(target.correct & ~broken)
        if not len(positions):
            break
        outcome = _try(target, positions, around, attempt)
        broken[positions[outcome[0] == ACCEPTED]] = True
        zero[positions] &= outcome[1]
        nan[positions] &= outcome[2]
        outcomes.append(outcome)
    return _entry(target, epsilon, broken, zero, nan, outcomes)


def _try(target: Target, positions: Ints, around: Callable[[Tensor], Ball], attempt: Attempt) -> Outcome:
    limit = _rows_kept(target, 1)

    def work(part: slice) -> tuple[Tensor, ...]:
        rows, labels = _load(target, positions[part])
        inside = around(rows)
        return _judged(target, positions[part], attempt(positions[part], labels, inside), inside, limit)

    return tuple(column.numpy() for column in target.model.in_batches(work, len(positions)))


def _alone(target: Target, epsilon: float, positions: Ints, outcome: Outcome) -> AtEpsilon:
    """The entry of a radius that was attacked once, on its own."""
    fooled, zero, nan = (np.zeros(len(target.rows), dtype=bool) for _ in range(3))
    fooled[positions] = outcome[0] == ACCEPTED
    zero[positions], nan[positions] = outcome[1], outcome[2]
    return _entry(target, epsilon, fooled, zero, nan, [outcome])


def _entry(
    target: Target, epsilon: float, fooled: Flags, zero: Flags, nan: Flags, outcomes: Sequence[Outcome]
) -> AtEpsilon:
    blank = np.empty((0, *target.inputs.shape[1:]), np.float32)
    codes = np.concatenate([np.empty(0, np.int8), *(o[0] for o in outcomes)])
    return AtEpsilon(
        epsilon=epsilon,
        fooled=fooled,
        zero=zero & ~fooled,
        nan=nan & ~fooled,
        rejected={reason: int((codes == code).sum()) for code, reason in REASONS.items()},
        late=sum(int(o[3].sum()) for o in outcomes),
        kept=np.concatenate([np.empty(0, np.int64), *(o[4] for o in outcomes)]),
        examples=np.concatenate([blank, *(o[5] for o in outcomes)]),
    )


def _judged(target: Target, positions: Ints, claim: Found, inside: Ball, limit: int) -> tuple[Tensor, ...]:
    """Verification codes [n], zero [n], nan [n], late [n], kept positions [m], their examples [m, ...]."""
    claimed = claim.fooled.cpu().numpy()
    points = claim.points[claim.fooled].cpu().numpy()
    codes = np.full(len(positions), _NOT_CLAIMED, dtype=np.int8)
    source = target.rows[positions[claimed]]
    codes[claimed] = verify(
        target.model,
        points,
        target.inputs[source],
        target.labels[source],
        target.space,
        inside.norm,
        inside.epsilon,
    )
    keep = (codes[claimed] == ACCEPTED) & (positions[claimed] < limit)
    return (
        torch.from_numpy(codes),
        claim.zero.cpu(),
        claim.nan.cpu(),
        claim.late.cpu() & torch.from_numpy(codes == ACCEPTED),
        torch.from_numpy(positions[claimed][keep]),
        torch.from_numpy(points[keep]),
    )


def _load(target: Target, positions: Ints) -> tuple[Tensor, Tensor]:
    """Raw inputs [n, ...] and labels [n] on the device."""
    rows = target.rows[positions]
    labels = torch.from_numpy(target.labels[rows]).to(target.model.device)
    return target.model.tensor(target.inputs[rows]), labels


def _offset(target: Target, norm: Norm, positions: Ints, stream: Stream, attempt: int) -> Tensor:
    rows = target.rows[positions]
    return target.model.tensor(displacements(norm, target.space.unit, rows, stream, attempt, target.seed))


def _rows_kept(target: Target, copies: int) -> int:
    """Positions below this keep their example; depends on sizes alone, never on the batch."""
    row_bytes = 4 * int(np.prod(target.inputs.shape[1:]))
    return KEPT_BYTES // (row_bytes * copies)
