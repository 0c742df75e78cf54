"""Distance: how far the nearest verified adversarial example of each row lies."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from audit.attack.curve import KEPT_BYTES, Target
from audit.attack.minimum import Minimum, minimum
from audit.attack.norm import ball
from audit.attack.result import Flags
from audit.attack.verify import ACCEPTED, distance, verify
from audit.dataset import Doubles, Floats, Ints


@dataclass(frozen=True, kw_only=True)
class Distances:
    """What a search for the nearest adversarial example of each row found.

    Attributes:
        rows: [R] indices of the data set's rows that were looked at, sorted.
        correct: [R] classified correctly without an attack; only these were attacked.
        found: [R] distance of the nearest verified example, in units of epsilon; 0 for a row that is wrong
            by itself, infinite where none was found. It is an upper bound on the true distance.
        zero: how many rows have none and gave a gradient of zero or none that is finite.
        rejected: how many claimed examples did not hold when they were judged again.
        forward_rows: model rows sent forward.
        backward_rows: model rows whose gradient was taken.
        kept: [K] positions in the R rows, ascending, whose nearest verified example is kept: of the first
            attacked rows as many as `audit.attack.curve.KEPT_BYTES` allow.
        examples: [K, ...] those examples.
    """

    rows: Ints
    correct: Flags
    found: Doubles
    zero: int
    rejected: int
    forward_rows: int
    backward_rows: int
    kept: Ints
    examples: Floats


def nearest_distances(target: Target, attack: Minimum) -> Distances:
    """The distance of every row that is classified correctly, each verified in a pass of its own.

    Args:
        target: the rows.
        attack: how to search.
    """
    positions = np.flatnonzero(target.correct)
    found = np.where(target.correct, np.inf, 0.0)
    passes = target.model.passes
    forward, backward = passes.forward, passes.backward
    blind = np.zeros(len(positions), dtype=bool)
    codes = np.full(len(positions), ACCEPTED)
    points = target.inputs[:0]
    if len(positions):
        found[positions], blind, codes, points = _searched(target, positions, attack)
    near = np.flatnonzero(np.isfinite(found[positions[: len(points)]]))
    return Distances(
        rows=target.rows,
        correct=target.correct,
        found=found,
        zero=int(blind.sum()),
        rejected=int((codes != ACCEPTED).sum()),
        forward_rows=passes.forward - forward,
        backward_rows=passes.backward - backward,
        kept=positions[near],
        examples=points[near],
    )


def _searched(target: Target, positions: Ints, attack: Minimum) -> tuple[Doubles, Flags, Ints, Floats]:
    """[n] distances, [n] without a usable gradient, [n] verification codes, and the first points found."""
    reach = target.space.reach(target.model)
    most = KEPT_BYTES // (4 * int(np.prod(target.inputs.shape[1:])))

    def work(part: slice) -> tuple[Tensor, ...]:
        rows = target.rows[positions[part]]
        inputs, labels = target.inputs[rows], target.labels[rows]
        centre = target.model.tensor(inputs)
        there = torch.from_numpy(labels).to(target.model.device)
        near = minimum(target.model, there, ball(centre, np.inf, attack.norm, reach), attack)
        points, claimed = near.points.cpu().numpy(), near.distance.isfinite().cpu().numpy()
        codes = np.full(len(rows), ACCEPTED, dtype=np.int64)
        codes[claimed] = verify(
            target.model,
            points[claimed],
            inputs[claimed],
            labels[claimed],
            target.space,
            attack.norm,
            np.inf,
        )
        far = np.where(
            claimed & (codes == ACCEPTED), distance(points, inputs, target.space, attack.norm), np.inf
        )
        first = torch.from_numpy(points[: max(0, most - part.start)])
        return torch.from_numpy(far), (near.zero | near.nan).cpu(), torch.from_numpy(codes), first

    found = target.model.in_batches(work, len(positions))
    far, blind, codes, points = (column.numpy() for column in found)
    return far, blind, codes, points
