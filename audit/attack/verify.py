"""Verify: every adversarial example is judged again from the stored array, in a pass of its own.

Nothing here uses what the attack computed: distance and range are measured anew in double precision, and
the class is read from a fresh pass of the model.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from audit.attack.loss import wrong
from audit.attack.norm import Norm
from audit.attack.space import Space
from audit.dataset import Floats, Ints
from audit.model import Model

ACCEPTED, OUTSIDE_BALL, OUTSIDE_RANGE, NOT_MISCLASSIFIED = range(4)
REASONS: Mapping[int, str] = {
    OUTSIDE_BALL: "outside epsilon",
    OUTSIDE_RANGE: "outside the valid range",
    NOT_MISCLASSIFIED: "not misclassified in a fresh pass",
}
RELATIVE_TOLERANCE = 1e-5
"""A distance may exceed epsilon by this share, plus four rounding steps of the coordinate itself."""

_ROUNDING = 4 * float(np.finfo(np.float32).eps)


def verify(
    model: Model, points: Floats, rows: Floats, labels: Ints, space: Space, norm: Norm, epsilon: float
) -> npt.NDArray[np.int8]:
    """[n] `ACCEPTED`, or why a claimed adversarial example does not count.

    Args:
        model: the network, in eval mode.
        points: [n, ...] claimed adversarial examples.
        rows: [n, ...] the rows they were made from.
        labels: [n] true classes.
        space: what may change and by how much.
        norm: the ball's norm.
        epsilon: the ball's radius.
    """
    codes = np.full(len(points), ACCEPTED, dtype=np.int8)
    if not len(points):
        return codes
    with torch.no_grad():
        scores = model.scores(model.tensor(points))
        fooled = wrong(scores, torch.from_numpy(labels.copy()).to(scores.device)).cpu().numpy()
    codes[~fooled] = NOT_MISCLASSIFIED
    codes[~inside_range(points, rows, space)] = OUTSIDE_RANGE
    codes[~inside_ball(points, rows, space, norm, epsilon)] = OUTSIDE_BALL
    return codes


def inside_ball(
    points: Floats, rows: Floats, space: Space, norm: Norm, epsilon: float
) -> npt.NDArray[np.bool_]:
    """[n] whether each point lies within `epsilon` of its row and fixed coordinates did not move."""
    before, after = _flat(rows), _flat(points)
    unit = space.unit.reshape(1, -1).astype(np.float64)
    rounding = _ROUNDING * np.maximum(np.abs(before), np.abs(after))
    moved = np.maximum(np.abs(after - before) - rounding, 0)
    free = unit[0] > 0
    held: npt.NDArray[np.bool_] = (moved[:, ~free] == 0).all(axis=1)
    distance = moved[:, free] / unit[:, free]
    length = distance.max(axis=1, initial=0) if norm == "linf" else np.linalg.norm(distance, axis=1)
    # A comparison with NaN is False, so a point that is not a number is outside.
    near: npt.NDArray[np.bool_] = length <= epsilon * (1 + RELATIVE_TOLERANCE)
    return held & near


def inside_range(points: Floats, rows: Floats, space: Space) -> npt.NDArray[np.bool_]:
    """[n] whether each coordinate is valid, or is where the data had it."""
    valid = (points >= space.low) & (points <= space.high) | (points == rows)
    every: npt.NDArray[np.bool_] = valid.reshape(len(points), -1).all(axis=1)
    return every


def _flat(values: Floats) -> npt.NDArray[np.float64]:
    return values.reshape(len(values), -1).astype(np.float64)
