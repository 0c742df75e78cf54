"""Input x gradient: the slope of the explained number at each input times the input."""

from typing import Any

import numpy as np

from audit.dataset import Dataset
from audit.explain.explained import Explained, elementwise, scores_of
from audit.explain.features import layout
from audit.explain.gradients import EPS, gradients
from audit.explain.quantity import mean_by_class
from audit.model import Model


def input_x_gradient(
    model: Model, data: Dataset, seed: int, explained: Explained, *, grid: int = 4
) -> dict[str, Any]:
    """Gradient times raw input; `extras["zero_gap"]` tells how far the sum is from f(x) - f(zeros).

    The sum is that difference for a network without biases that is linear in pieces; it need not be for any
    other, so `completeness` is not given. Costs n + 1 rows forward and n backward.

    Args:
        model: the network.
        data: what it is explained on.
        seed: not used.
        explained: the rows.
        grid: an image is cut into `grid` x `grid` cells, each channel of a series into `grid` stretches.
    """
    del seed
    slope = gradients(model, explained.inputs, explained.classes, explained.output).double().numpy()
    values = slope * explained.inputs.cpu().double().numpy()
    zeros = scores_of(model, explained.inputs[:1] * 0)
    difference = explained.fx - mean_by_class(zeros, explained.classes, explained.output).numpy()
    gap = np.abs(values.reshape(len(values), -1).sum(axis=1) - difference) / (np.abs(difference) + EPS)
    return {**elementwise(values, layout(data, grid)), "extras": {"zero_gap": gap}}
