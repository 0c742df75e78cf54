"""Interval bounds (Gowal et al., 2018, arXiv:1810.12715): each step's least and greatest value in a box.

Computed with ordinary rounding and then widened by `slack` times the sum of the absolute values of all
terms, several times what rounding loses in practice; directed rounding is not used.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from audit.certify.graph import Net, Step

_ROUNDINGS = 16


@dataclass(frozen=True)
class Box:
    """Least and greatest value of each coordinate, [n, ...] each."""

    low: Tensor
    high: Tensor

    def meet(self, other: "Box") -> "Box":
        """What lies in both."""
        return Box(torch.maximum(self.low, other.low), torch.minimum(self.high, other.high))


Refine = Callable[[int, Sequence[Box], Box], Box]


def slack(dtype: torch.dtype) -> float:
    """Share of the sum of absolute terms by which each bound is widened: 16 roundings, 1.9e-6 in float32."""
    return _ROUNDINGS * torch.finfo(dtype).eps


def intervals(net: Net, box: Box, refine: Refine | None = None) -> list[Box]:
    """Bounds of every step of the network, for inputs in `box`.

    Args:
        net: the network.
        box: [n, ...] least and greatest raw input of each row.
        refine: may tighten the bounds of a step before the next ones are computed from it.
    """
    boxes = [box]
    for index, step in enumerate(net.steps[1:], start=1):
        found = _through(step, [boxes[earlier] for earlier in step.inputs])
        boxes.append(refine(index, boxes, found) if refine else found)
    return boxes


def _through(step: Step, inputs: Sequence[Box]) -> Box:
    if step.operator.spread is None:
        return Box(*(step.operator.apply(side) for side in (inputs[0].low, inputs[0].high)))
    share = slack(inputs[0].low.dtype)
    middles = [(box.low + box.high) / 2 for box in inputs]
    radii = [(box.high - box.low) / 2 for box in inputs]
    widened = [
        radius + share * (middle.abs() + radius) for middle, radius in zip(middles, radii, strict=True)
    ]
    middle, radius = step.operator.apply(*middles), step.operator.spread(*widened)
    radius = radius + share * middle.abs()
    return Box(middle - radius, middle + radius)
