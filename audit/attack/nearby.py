"""Points close to a row that the model answers the same: what must not change there can be looked at.

An explanation is one such thing: Ghorbani, Abid and Zou 2019, arXiv:1710.10547, change it and leave the
answer alone. Their attack climbs the explanation's own change; one step along the gradient of the loss, as
here, is weaker, so what is found to change is a lower bound.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from audit.attack.loss import margin
from audit.attack.norm import Norm, ball, direction, project
from audit.attack.space import Space
from audit.attack.verify import inside_ball, inside_range
from audit.dataset import Floats, Ints
from audit.model import Model

REASONS = ("outside epsilon", "outside the valid range", "another answer in a fresh pass")
_HALVINGS = 4
_NO_ANSWER = -1


@dataclass(frozen=True, kw_only=True)
class Nearby:
    """One point near each of n rows, with the same predicted class.

    Attributes:
        rows: [n] indices of the data set's rows.
        points: [n, ...] raw points; the row itself where none was found.
        steps: [n] length of the step, as a share of epsilon; 0 where none was found.
        epsilon: the radius.
        norm: how distance was measured.
        rejected: how many points did not count when they were judged again, by reason.
        forward_rows: model rows sent forward.
        backward_rows: model rows whose gradient was taken.
    """

    rows: Ints
    points: Floats
    steps: npt.NDArray[np.float64]
    epsilon: float
    norm: Norm
    rejected: Mapping[str, int]
    forward_rows: int
    backward_rows: int

    @property
    def found(self) -> npt.NDArray[np.bool_]:
        """[n] whether there is a point that differs from the row."""
        return self.steps > 0


def same_answer(
    model: Model, inputs: Floats, rows: Ints, space: Space, epsilon: float, norm: Norm = "linf"
) -> Nearby:
    """The furthest point of an FGSM step against the predicted class that does not change it.

    A step of `epsilon` that changes the class is halved, at most four times, so the longest share that keeps
    the class is taken. Every point is judged again from the stored array in a pass of its own: inside
    epsilon, inside the valid range, the class that a fresh pass gives the row. Costs n rows with a gradient
    and up to 8 n forward.

    Args:
        model: the network; it gives gradients.
        inputs: [N, ...] inputs of the whole data set.
        rows: [n] indices of the rows.
        space: what may be changed.
        epsilon: length of the longest step, in units of `space`.
        norm: how length is measured.
    """
    forward, backward = model.passes.forward, model.passes.backward
    before = inputs[rows]
    points, steps = before.copy(), np.zeros(len(rows))
    rejected = dict.fromkeys(REASONS, 0)
    if len(rows):
        points, steps = _stepped(model, model.tensor(before), space, epsilon, norm)
        why = _judged(model, points, before, space, epsilon, norm)
        failed = (why >= 0) & (steps > 0)
        rejected = {reason: int((failed & (why == code)).sum()) for code, reason in enumerate(REASONS)}
        points[failed], steps[failed] = before[failed], 0.0
    return Nearby(
        rows=rows,
        points=points,
        steps=steps,
        epsilon=epsilon,
        norm=norm,
        rejected=rejected,
        forward_rows=model.passes.forward - forward,
        backward_rows=model.passes.backward - backward,
    )


def _stepped(
    model: Model, rows: Tensor, space: Space, epsilon: float, norm: Norm
) -> tuple[Floats, npt.NDArray[np.float64]]:
    """[n, ...] the points and [n] the shares of epsilon that were gone."""
    reach = space.reach(model)
    inside = ball(rows, epsilon, norm, reach)
    gradient, classes = _gradient(model, rows)
    way = direction(norm, gradient, reach.unit)
    points, steps = rows.clone(), np.zeros(len(rows))
    left = torch.arange(len(rows), device=rows.device)
    for halving in range(_HALVINGS + 1):
        share = 0.5**halving
        tried = project(inside.take(left), rows[left] + share * epsilon * way[left])
        kept = (_classes(model, tried) == classes[left]) & (classes[left] != _NO_ANSWER)
        good = kept & (tried != rows[left]).flatten(1).any(dim=1)
        points[left[good]] = tried[good]
        steps[left[good].cpu().numpy()] = share
        left = left[~good]
        if not len(left):
            break
    return points.cpu().numpy(), steps


def _judged(
    model: Model, points: Floats, rows: Floats, space: Space, epsilon: float, norm: Norm
) -> npt.NDArray[np.int8]:
    """[n] which of `REASONS` speaks against each point; -1 for none."""
    why = np.full(len(points), -1, dtype=np.int8)
    answer, was = (_answers(model.predict(part)).numpy() for part in (points, rows))
    why[(answer != was) | (was == _NO_ANSWER)] = 2
    why[~inside_range(points, rows, space)] = 1
    why[~inside_ball(points, rows, space, norm, epsilon)] = 0
    return why


def _gradient(model: Model, rows: Tensor) -> tuple[Tensor, Tensor]:
    classes = _classes(model, rows)

    def work(part: slice) -> tuple[Tensor]:
        said = classes[part].clamp_min(0)
        slope, _ = model.input_gradient(rows[part], lambda scores: margin(scores, said))
        return (slope,)

    return model.in_batches(work, len(rows))[0], classes


def _classes(model: Model, rows: Tensor) -> Tensor:
    """[n] predicted classes, -1 where a score is not a number."""
    with torch.no_grad():
        return model.in_batches(lambda part: (_answers(model.scores(rows[part])),), len(rows))[0]


def _answers(scores: Tensor) -> Tensor:
    return torch.where(scores.isnan().any(dim=1), _NO_ANSWER, scores.argmax(dim=1))
