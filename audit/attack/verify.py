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
    fooled = wrong(model.predict(points), torch.from_numpy(labels.copy())).numpy()
    codes[~fooled] = NOT_MISCLASSIFIED
    codes[~inside_range(points, rows, space)] = OUTSIDE_RANGE
    codes[~inside_ball(points, rows, space, norm, epsilon)] = OUTSIDE_BALL
    return codes


def inside_ball(
    points: Floats, rows: Floats, space: Space, norm: Norm, epsilon: float
) -> npt.NDArray[np.bool_]:
    """[n] whether each point lies within `epsilon` of its row and fixed coordinates did not move."""
    unit = space.unit.reshape(-1)
    moved = _moved(points, rows)
    held: npt.NDArray[np.bool_] = (moved[:, unit == 0] == 0).all(axis=1)
    length = _length(moved[:, unit > 0] / unit[unit > 0].astype(np.float64), norm)
    # A comparison with NaN is False, so a point that is not a number is outside.
    near: npt.NDArray[np.bool_] = length <= epsilon * (1 + RELATIVE_TOLERANCE)
    return held & near


def distance(points: Floats, rows: Floats, space: Space, norm: Norm) -> npt.NDArray[np.float64]:
    """[n] how far each point lies from its row, in units of epsilon, measured from the stored arrays."""
    unit = space.unit.reshape(-1)
    moved = np.abs(_flat(points) - _flat(rows))[:, unit > 0]
    return _length(moved / unit[unit > 0].astype(np.float64), norm)


def inside_range(points: Floats, rows: Floats, space: Space) -> npt.NDArray[np.bool_]:
    """[n] whether each coordinate is valid, or is where the data had it."""
    valid = (points >= space.low) & (points <= space.high) | (points == rows)
    every: npt.NDArray[np.bool_] = valid.reshape(len(points), -1).all(axis=1)
    return every


def _moved(points: Floats, rows: Floats) -> npt.NDArray[np.float64]:
    """[n, d] how far each coordinate moved, beyond what rounding explains."""
    before, after = _flat(rows), _flat(points)
    rounding = _ROUNDING * np.maximum(np.abs(before), np.abs(after))
    moved: npt.NDArray[np.float64] = np.maximum(np.abs(after - before) - rounding, 0)
    return moved


def _length(distance: npt.NDArray[np.float64], norm: Norm) -> npt.NDArray[np.float64]:
    """[n] from distances [n, d], none below 0, along each coordinate."""
    length: npt.NDArray[np.float64]
    match norm:
        case "linf":
            length = distance.max(axis=1, initial=0)
        case "l2":
            length = np.linalg.norm(distance, axis=1)
        case "l1":
            length = distance.sum(axis=1)
    return length


def _flat(values: Floats) -> npt.NDArray[np.float64]:
    return values.reshape(len(values), -1).astype(np.float64)
