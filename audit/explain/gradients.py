"""Saliency and integrated gradients: both from the gradient of the explained number at the input.

Sources: Simonyan, Vedaldi and Zisserman 2014 (saliency); Sundararajan, Taly and Yan 2017 (integrated
gradients); their section 5 asks that the completeness error be looked at, which is done here for each row.
"""

from dataclasses import dataclass
from functools import cache, partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from audit.explain.attribution import Doubles
from audit.explain.quantity import Output, quantity
from audit.model import Model, evenly

Rule = Literal["gauss_legendre", "midpoint"]
EPS = 1e-6


def gradients(model: Model, rows: Tensor, classes: Tensor, output: Output = "log_odds") -> Tensor:
    """[N, ...] gradient of the explained number of class `classes[i]` at each raw row, on the CPU.

    Costs N rows forward and N backward.
    """

    def work(part: slice) -> tuple[Tensor]:
        gradient, _ = model.input_gradient(rows[part], lambda scores: quantity(scores, classes[part], output))
        return (gradient,)

    return model.in_batches(work, len(rows))[0].float().cpu()


@dataclass(frozen=True)
class PathAttribution:
    """Integrated gradients of N rows.

    Attributes:
        values: [N, ...] attribution of each input element, on the CPU.
        completeness: [N] |sum - (f(x) - f(b))| / (|f(x) - f(b)| + eps).
        steps: [N] steps that each row was computed with.
    """

    values: Tensor
    completeness: Doubles
    steps: Doubles


def integrated_gradients(
    model: Model,
    rows: Tensor,
    baseline: Tensor,
    classes: Tensor,
    differences: Tensor,
    *,
    output: Output = "log_odds",
    rule: Rule = "gauss_legendre",
    steps: int = 32,
    max_steps: int = 512,
    bound: float = 0.01,
) -> PathAttribution:
    """Integrate the gradient along the straight line from a baseline to each row.

    Rows whose completeness error is above `bound` are computed again with twice the steps, up to
    `max_steps`; the rest are not touched. No more than a batch of the path is held at once.

    Args:
        model: the network.
        rows: [N, ...] raw rows.
        baseline: [1, ...] or [N, ...] where the line starts.
        classes: [N] class explained.
        differences: [N] f(x) - f(baseline), float64 on the CPU.
        output: which number is explained.
        rule: quadrature rule.
        steps: points on the line at first.
        max_steps: most points on the line.
        bound: largest completeness error that is left alone.
    """
    baseline = baseline.expand_as(rows)
    values = torch.zeros(rows.shape, dtype=torch.float32)
    error = np.full(len(rows), np.inf)
    used = np.zeros(len(rows))
    left = torch.arange(len(rows))
    while len(left):
        at = left.to(rows.device)
        found = _along_path(model, rows[at], baseline[at], classes[at], output, quadrature(rule, steps))
        values[left] = found
        error[left.numpy()] = completeness_error(found, differences[left])
        used[left.numpy()] = steps
        steps *= 2
        left = torch.from_numpy(np.flatnonzero(error > bound)) if steps <= max_steps else left[:0]
    return PathAttribution(values, error, used)


@cache
def quadrature(rule: Rule, steps: int) -> tuple[Doubles, Doubles]:
    """[steps], [steps] positions in (0, 1) and weights, which add up to 1; shared, so not to be changed."""
    if rule == "midpoint":
        return (np.arange(steps) + 0.5) / steps, np.full(steps, 1 / steps)
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    return (nodes + 1) / 2, weights / 2


def completeness_error(values: Tensor, differences: Tensor) -> Doubles:
    """[N] |sum of a row's values - difference| / (|difference| + eps)."""
    total = values.to(torch.float64).flatten(1).sum(dim=1)
    error: Doubles = ((total - differences).abs() / (differences.abs() + EPS)).numpy()
    return error


def _along_path(
    model: Model,
    rows: Tensor,
    baseline: Tensor,
    classes: Tensor,
    output: Output,
    points: tuple[Doubles, Doubles],
) -> Tensor:
    positions, weights = (rows.new_tensor(item) for item in points)

    def work(part: slice) -> tuple[Tensor]:
        start, way, wanted = baseline[part], rows[part] - baseline[part], classes[part]
        total = way.new_zeros(1, way.numel())
        at_once = evenly(len(positions), max(1, model.passes.batch // len(way)))
        for at, weight in zip(torch.split(positions, at_once), torch.split(weights, at_once), strict=True):
            line = torch.addcmul(start, at.view(-1, *([1] * way.ndim)), way)
            explained = partial(quantity, classes=wanted.repeat(len(at)), output=output)
            slope, _ = model.input_gradient(line.flatten(0, 1), explained)
            total.addmm_(weight[None], slope.reshape(len(at), -1))
        return (total.view_as(way) * way,)

    return model.in_batches(work, len(rows), rows_each=len(positions))[0].float().cpu()
