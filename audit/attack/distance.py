"""Distance: how far the nearest verified adversarial example of each row lies."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from audit.attack.curve import Target
from audit.attack.minimum import Minimum, minimum
from audit.attack.norm import ball
from audit.attack.result import Flags
from audit.attack.verify import ACCEPTED, distance, verify
from audit.dataset import Doubles, Ints


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
    """

    rows: Ints
    correct: Flags
    found: Doubles
    zero: int
    rejected: int
    forward_rows: int
    backward_rows: int


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
    if len(positions):
        found[positions], blind, codes = _searched(target, positions, attack)
    return Distances(
        rows=target.rows,
        correct=target.correct,
        found=found,
        zero=int(blind.sum()),
        rejected=int((codes != ACCEPTED).sum()),
        forward_rows=passes.forward - forward,
        backward_rows=passes.backward - backward,
    )


def _searched(target: Target, positions: Ints, attack: Minimum) -> tuple[Doubles, Flags, Ints]:
    """[n] distances, [n] without a usable gradient, [n] verification codes."""
    reach = target.space.reach(target.model)

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
        return torch.from_numpy(far), (near.zero | near.nan).cpu(), torch.from_numpy(codes)

    far, blind, codes = (column.numpy() for column in target.model.in_batches(work, len(positions)))
    return far, blind, codes
