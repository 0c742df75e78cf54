"""An attack over many rows and a range of radii: batches, restarts, verification and bookkeeping."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
from audit.attack.result import AtEpsilon, Flags, Raw, Tally
from audit.attack.space import Space
from audit.attack.verify import ACCEPTED, REASONS, verify
from audit.dataset import Floats, Ints
from audit.model import Model, Passes

KEPT_BYTES = 2**28
"""Adversarial examples kept by one attack, in bytes of memory."""

AGAIN = 64
"""Rows broken at a smaller radius that are tried again at each larger one, at most."""

_NOT_CLAIMED = -1
_LOAD = 16
Outcome = tuple[npt.NDArray[Any], ...]


@dataclass(frozen=True)
class Attempt:
    """One try of one attack.

    Attributes:
        name: the attack's name; several restarts share it.
        run: takes positions [n] among the rows, labels [n] and the ball around the rows.
        load: batches it takes at a time, where it keeps to one batch itself.
        gradients: whether it looks at gradients, so that their absence says something.
    """

    name: str
    run: Callable[[Ints, Tensor, Ball], Found]
    load: int = 1
    gradients: bool = True


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
        return tuple(
            replace(_entry(target, epsilon, none, none, none, []), raw=Raw(fresh=0, fell=0))
            for epsilon in epsilons
        )
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
    return walk(target, epsilons, attack.norm, pgd_attempts(target, attack))


def pgd_attempts(target: Target, attack: Pgd, name: str = "pgd", first: int = 0) -> list[Attempt]:
    """PGD as often as it restarts.

    Args:
        target: the rows.
        attack: how to walk.
        name: what the tally calls it.
        first: number of the first random start.
    """

    def attempt(number: int) -> Attempt:
        def once(positions: Ints, labels: Tensor, inside: Ball) -> Found:
            offset = None
            if attack.random_start:
                offset = random_offset(target, attack.norm, positions, "start", number)
            return pgd(target.model, labels, inside, attack, offset)

        return Attempt(name, once, load=_LOAD)

    return [attempt(first + number) for number in range(attack.restarts if attack.random_start else 1)]


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
            return guess(
                target.model, labels, inside, random_offset(target, norm, positions, "noise", number)
            )

        return Attempt("noise", once, gradients=False)

    return walk(target, epsilons, norm, [attempt(number) for number in range(draws)])


def walk(
    target: Target, epsilons: Sequence[float], norm: Norm, attempts: Sequence[Attempt], again: int = 0
) -> tuple[AtEpsilon, ...]:
    """Radii upwards; at each, one attempt after the other on the rows that still stand.

    A row broken at a radius stays broken at the larger ones. At radius 0 the first attempt alone is made.
    Trying broken rows again changes nothing of what is found; it is kept beside it (`AtEpsilon.raw`).

    Args:
        target: the rows.
        epsilons: radii, ascending.
        norm: the ball's norm.
        attempts: cheap ones first.
        again: rows broken at a smaller radius that are tried again at each larger one, drawn by the seed.
    """
    reach = target.space.reach(target.model)
    broken = np.zeros(len(target.rows), dtype=bool)
    found: list[AtEpsilon] = []
    for number, epsilon in enumerate(epsilons):
        around = partial(ball, epsilon=epsilon, norm=norm, reach=reach)
        tried = attempts if epsilon > 0 else attempts[:1]
        entry = _radius(target, epsilon, broken, around, tried)
        if again:
            before = np.flatnonzero(broken)
            chosen = _drawn(before, again, [target.seed, number])
            entry = replace(entry, raw=_raw(target, entry, len(before), chosen, around, tried))
        found.append(entry)
        broken = entry.fooled
    return tuple(found)


def _drawn(positions: Ints, most: int, seed: Sequence[int]) -> Ints:
    """Up to `most` of the positions, ascending."""
    if len(positions) <= most:
        return positions
    chosen: Ints = np.sort(np.random.default_rng(seed).choice(positions, most, replace=False))
    return chosen


def _raw(
    target: Target,
    entry: AtEpsilon,
    broken: int,
    chosen: Ints,
    around: Callable[[Tensor], Ball],
    attempts: Sequence[Attempt],
) -> Raw:
    """The attack on `chosen` rows that are broken already, each from its own start."""
    passes = target.model.passes
    forward, backward = passes.forward, passes.backward
    left = chosen
    for attempt in attempts:
        if not len(left):
            break
        left = left[_try(target, left, around, attempt)[0] != ACCEPTED]
    return Raw(
        fresh=int(target.correct.sum()) - broken,
        fell=int(entry.fooled.sum()) - broken,
        broken=broken,
        again=len(chosen),
        fell_again=len(chosen) - len(left),
        forward=passes.forward - forward,
        backward=passes.backward - backward,
    )


def _radius(
    target: Target,
    epsilon: float,
    broken: Flags,
    around: Callable[[Tensor], Ball],
    attempts: Sequence[Attempt],
) -> AtEpsilon:
    """One radius. A row counts as without a gradient only if no attempt that looks at gradients had one."""
    looked = any(attempt.gradients for attempt in attempts)
    broken, zero, nan = broken.copy(), *(target.correct & ~broken & looked for _ in range(2))
    outcomes: list[Outcome] = []
    tallies: dict[str, Tally] = {}
    for attempt in attempts:
        positions = np.flatnonzero(target.correct & ~broken)
        if not len(positions):
            break
        before = (target.model.passes.forward, target.model.passes.backward)
        outcome = _try(target, positions, around, attempt)
        fooled = outcome[0] == ACCEPTED
        broken[positions[fooled]] = True
        if attempt.gradients:
            zero[positions] &= outcome[1]
            nan[positions] &= outcome[2]
        outcomes.append(outcome)
        _tally(tallies, attempt.name, fooled, target.model.passes, before)
    return _entry(target, epsilon, broken, zero, nan, outcomes, tuple(tallies.values()))


def _tally(
    tallies: dict[str, Tally], name: str, fooled: Flags, passes: Passes, before: tuple[int, int]
) -> None:
    """Add one attempt to the tally of its attack; what was tried is what its first attempt was tried on."""
    so_far = tallies.get(name, Tally(attack=name, tried=len(fooled), fooled=0, forward=0, backward=0))
    tallies[name] = replace(
        so_far,
        fooled=so_far.fooled + int(fooled.sum()),
        forward=so_far.forward + passes.forward - before[0],
        backward=so_far.backward + passes.backward - before[1],
    )


def _try(target: Target, positions: Ints, around: Callable[[Tensor], Ball], attempt: Attempt) -> Outcome:
    limit = _rows_kept(target, 1)

    def work(part: slice) -> tuple[Tensor, ...]:
        rows, labels = _load(target, positions[part])
        inside = around(rows)
        claim = attempt.run(positions[part], labels, inside)
        return _judged(target, positions[part], claim, inside, limit)

    columns = target.model.in_batches(work, len(positions), load=attempt.load)
    return tuple(column.numpy() for column in columns)


def _alone(target: Target, epsilon: float, positions: Ints, outcome: Outcome) -> AtEpsilon:
    """The entry of a radius that was attacked once, on its own."""
    fooled, zero, nan = (np.zeros(len(target.rows), dtype=bool) for _ in range(3))
    fooled[positions] = outcome[0] == ACCEPTED
    zero[positions], nan[positions] = outcome[1], outcome[2]
    raw = Raw(fresh=len(positions), fell=int(fooled.sum()))
    return replace(_entry(target, epsilon, fooled, zero, nan, [outcome]), raw=raw)


def _entry(
    target: Target,
    epsilon: float,
    fooled: Flags,
    zero: Flags,
    nan: Flags,
    outcomes: Sequence[Outcome],
    tallies: tuple[Tally, ...] = (),
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
        tallies=tallies,
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


def random_offset(target: Target, norm: Norm, positions: Ints, stream: Stream, attempt: int) -> Tensor:
    """[n, ...] a displacement of each row of at most one epsilon, the same whatever the batch."""
    rows = target.rows[positions]
    return target.model.tensor(displacements(norm, target.space.unit, rows, stream, attempt, target.seed))


def _rows_kept(target: Target, copies: int) -> int:
    """Positions below this keep their example; depends on sizes alone, never on the batch."""
    row_bytes = 4 * int(np.prod(target.inputs.shape[1:]))
    return KEPT_BYTES // (row_bytes * copies)
