"""Points close to a row that the model answers the same: does the explanation stay the same as well?

Ghorbani, Abid and Zou 2019, arXiv:1710.10547, change an explanation and leave the answer alone. Their attack
climbs the explanation's own change; one step along the gradient of the loss, as here, is weaker, so what it
finds is a lower bound of the fragility.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from audit.attack.loss import margin
from audit.attack.norm import ball, direction, project
from audit.attack.space import Space
from audit.model import Model

_HALVINGS = 4


@dataclass(frozen=True)
class Nearby:
    """One point near each row, with the same predicted class.

    Attributes:
        points: [n, ...] raw points; the row itself where none was found.
        found: [n] whether there is one that differs from the row.
        steps: [n] length of the step, as a share of epsilon; 0 where none was found.
    """

    points: Tensor
    found: npt.NDArray[np.bool_]
    steps: npt.NDArray[np.float64]


def same_answer_nearby(model: Model, rows: Tensor, space: Space, epsilon: float) -> Nearby:
    """An FGSM step of at most `epsilon` against the predicted class that does not change it.

    A step that changes the class is halved, at most four times. Costs n rows with a gradient and up to 5 n
    forward.

    Args:
        model: the network.
        rows: [n, ...] raw rows.
        space: what may be changed.
        epsilon: length of the longest step, in units of `space`.
    """
    reach = space.reach(model)
    inside = ball(rows, epsilon, "linf", reach)
    gradient, classes = _gradient(model, rows)
    way = direction("linf", gradient, reach.unit)
    points, steps = rows.clone(), np.zeros(len(rows))
    left = torch.arange(len(rows), device=rows.device)
    for halving in range(_HALVINGS + 1):
        share = 0.5**halving
        part = inside.take(left)
        tried = project(part, rows[left] + share * epsilon * way[left])
        good = (_classes(model, tried) == classes[left]) & (tried != rows[left]).flatten(1).any(dim=1)
        points[left[good]] = tried[good]
        steps[left[good].cpu().numpy()] = share
        left = left[~good]
        if not len(left):
            break
    return Nearby(points, steps > 0, steps)


def _gradient(model: Model, rows: Tensor) -> tuple[Tensor, Tensor]:
    classes = _classes(model, rows)

    def work(part: slice) -> tuple[Tensor]:
        slope, _ = model.input_gradient(rows[part], lambda scores: margin(scores, classes[part]))
        return (slope,)

    return model.in_batches(work, len(rows))[0], classes


def _classes(model: Model, rows: Tensor) -> Tensor:
    with torch.no_grad():
        return model.in_batches(lambda part: (model.scores(rows[part]).argmax(dim=1),), len(rows))[0]
