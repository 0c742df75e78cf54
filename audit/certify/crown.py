"""Linear bounds carried backwards through the network (CROWN; Zhang et al., 2018, arXiv:1811.00866).

A linear function of a step's output is bounded by linear functions of earlier steps until one of the input
remains, whose extremes over a box are known. A ReLU whose input may have either sign lies below the chord
between its ends and above any line through 0 with a slope in [0, 1]. With the slope of the chord one pass
gives both sides (Fast-Lin; Weng et al., 2018, arXiv:1804.09699; Wong and Kolter, 2018, arXiv:1711.00851);
with slope 0 or 1, whichever leaves the smaller area, the lower side is usually tighter.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from audit.certify.graph import Net, Step
from audit.certify.interval import Box, Refine, slack

_MANY = 32
Slope = Literal["chord", "smaller_area"]
_TENSOR_BYTES = {"cpu": 2**22, "mps": 2**26, "cuda": 2**29}
_STEM_BYTES = {"cpu": 2**26, "mps": 2**28, "cuda": 2**31}


@dataclass(frozen=True)
class Relaxed:
    """Linear bounds of one ReLU, for each row: upper slope * x - slope * floor, lower `lower` * x.

    Attributes:
        slope: [n, ...] slope of the upper line; 1 or 0 where the sign of the input is known.
        lower: [n, ...] slope of the lower line.
        floor: [n, ...] where the upper line is 0: the least input, or 0 where the sign is known.
    """

    slope: Tensor
    lower: Tensor
    floor: Tensor


@dataclass(frozen=True)
class Stem:
    """Coefficients carried back to the first steps that differ from row to row.

    Attributes:
        at: [k, ...] coefficients by step.
        constant: [k] what the affine steps on the way add.
        size: [k] sum of the absolute values of those terms.
    """

    at: Mapping[int, Tensor]
    constant: Tensor
    size: Tensor

    def take(self, which: Tensor) -> "Stem":
        """The coefficients numbered `which` [p]."""
        at = {step: values[which] for step, values in self.at.items()}
        return Stem(at, self.constant[which], self.size[which])


@dataclass
class _Sum:
    """Constants of both sides that a walk backwards has collected, and their size; [p] each."""

    low: Tensor
    high: Tensor
    size: Tensor

    def add(self, low: Tensor, high: Tensor, size: Tensor) -> None:
        self.low, self.high, self.size = self.low + low, self.high + high, self.size + size


def relax(before: Box, slope: Slope) -> Relaxed:
    """Linear bounds of ReLU for inputs in a box."""
    low, high = before.low, before.high
    open_ = (low < 0) & (high > 0)
    width = torch.where(open_, high - low, 1)
    chord = torch.where(open_, high / width, (low >= 0).to(low.dtype))
    lower = chord if slope == "chord" else torch.where(open_, (high > -low).to(low.dtype), chord)
    return Relaxed(chord, lower, torch.where(open_, low, 0))


def stem(net: Net, start: int, coefficients: Tensor) -> Stem:
    """Carry [k, ...] coefficients of a step's output back through affine steps alone."""
    at, constant = {start: coefficients}, coefficients.new_zeros(len(coefficients))
    size = constant.clone()
    while (index := _next(net, at, {"affine"})) is not None:
        values = at.pop(index)
        offset = _offset(net, net.steps[index], values)
        constant, size = constant + _dot(values, offset), size + _dot(values.abs(), offset.abs())
        _spread_back(net.steps[index], values, at)
    return Stem(at, constant, size)


def _next(net: Net, at: Mapping[int, Tensor], kinds: set[str]) -> int | None:
    """The last step with coefficients, if it is of one of these kinds; later ones must go first."""
    last = max(at)
    return last if net.steps[last].kind in kinds else None


def _offset(net: Net, step: Step, like: Tensor) -> Tensor:
    """[1, ...] what an affine step gives for zeros."""
    zeros = [like.new_zeros(1, *net.steps[earlier].shape) for earlier in step.inputs]
    return step.operator.apply(*zeros)


def _dot(values: Tensor, fixed: Tensor) -> Tensor:
    """[p] inner products of [p, ...] with one [1, ...]."""
    return _flat(values) @ fixed.flatten()


def _flat(values: Tensor) -> Tensor:
    """[p, ...] as [p, d]; a step may put out one number a row without an axis of its own."""
    return values.reshape(len(values), -1)


def _spread_back(step: Step, values: Tensor, at: dict[int, Tensor]) -> None:
    """Add the coefficients of an affine step's inputs to those they already have."""
    for earlier, found in zip(step.inputs, _pulled(step, values), strict=True):
        at[earlier] = at[earlier] + found if earlier in at else found


def _pulled(step: Step, values: Tensor) -> Sequence[Tensor]:
    """[p, ...] coefficients of each input of an affine step, from those of its output."""
    if step.operator.pull:
        return [step.operator.pull(values)]
    with torch.enable_grad():
        inputs = [
            values.new_zeros(len(values), *wire.shape, requires_grad=True) for wire in step.operator.wires
        ]
        outputs = step.operator.apply(*inputs)
        return torch.autograd.grad(outputs, inputs, values)


def backwards(
    net: Net, boxes: Sequence[Box], relaxed: Mapping[int, Relaxed], begin: Stem, rows: Tensor
) -> Box:
    """Bounds of p linear functions, each over the box of one row.

    Args:
        net: the network.
        boxes: bounds of the steps before, [n, ...] each.
        relaxed: linear bounds of each ReLU.
        begin: the p functions as coefficients.
        rows: [p] the row each is bounded for, or [1] the row of all.

    Returns:
        [p] lower and upper bound. The upper one is valid only where the lines have the slope of the chord.
    """
    at, total = dict(begin.at), _Sum(begin.constant, begin.constant, begin.size)
    while (index := max(at)) > 0:
        step, values = net.steps[index], at.pop(index)
        if step.kind == "affine":
            offset = _offset(net, step, values)
            constant = _dot(values, offset)
            total.add(constant, constant, _dot(values.abs(), offset.abs()))
            _spread_back(step, values, at)
        elif step.kind == "relu":
            _add(at, step.inputs[0], _through_relu(relaxed[index], values, rows, total))
        else:
            _settle(boxes[index], values, rows, total)
        if not at:
            return _widened(total)
    _settle(boxes[0], at[0], rows, total)
    return _widened(total)


def _add(at: dict[int, Tensor], index: int, values: Tensor) -> None:
    at[index] = at[index] + values if index in at else values


def _widened(total: _Sum) -> Box:
    margin = slack(total.low.dtype) * total.size
    return Box(total.low - margin, total.high + margin)


def _through_relu(lines: Relaxed, values: Tensor, rows: Tensor, total: _Sum) -> Tensor:
    """The coefficients below a ReLU: its lower line where they are positive, its upper where negative."""
    floor = _flat(lines.floor[rows])
    above = values * lines.slope[rows]
    flat = _flat(above)
    if len(rows) == 1:
        # Few signs are open in a network trained for certificates; the other terms are 0.
        open_ = floor[0].nonzero().squeeze(1)
        flat, floor = flat[:, open_], floor[:, open_]
    negative, every = (flat.clamp(max=0) * floor).sum(1), (flat * floor).sum(1)
    total.add(-negative, negative - every, 2 * negative - every)
    if lines.lower is lines.slope:
        return above
    return torch.where(values > 0, values * lines.lower[rows], above)


def _settle(box: Box, values: Tensor, rows: Tensor, total: _Sum) -> None:
    """Add the least and greatest value of what is linear in a step over that step's own box."""
    middle = _flat(((box.low + box.high) / 2)[rows])
    radius = _flat(((box.high - box.low) / 2)[rows])
    flat = _flat(values)
    centre, width = (flat * middle).sum(1), (flat.abs() * radius).sum(1)
    total.add(centre - width, centre + width, (flat.abs() * middle.abs()).sum(1) + width)


def refined(net: Net) -> Refine:
    """Tightens the bounds of what goes into a ReLU or a max-pooling, where its sign is open."""
    wanted = {earlier for step in net.steps if step.kind in {"relu", "max_pool"} for earlier in step.inputs}
    deep = _behind_relaxed(net)
    stems: dict[int, Stem | None] = {}
    lines: dict[int, Relaxed] = {}

    def refine(index: int, boxes: Sequence[Box], found: Box) -> Box:
        if net.steps[index].kind == "relu":
            lines[index] = relax(boxes[net.steps[index].inputs[0]], "chord")
        if index not in wanted or index not in deep:
            return found
        if index not in stems:
            stems[index] = _whole_stem(net, index, found.low)
        return _tightened(net, boxes, lines, found, stems[index], index)

    return refine


def _behind_relaxed(net: Net) -> set[int]:
    """Affine steps behind a ReLU or a max-pooling: elsewhere intervals cannot be improved."""
    curved: set[int] = set()
    for index, step in enumerate(net.steps):
        if step.kind in {"relu", "max_pool"} or curved & set(step.inputs):
            curved.add(index)
    return {index for index in curved if net.steps[index].kind == "affine"}


def _whole_stem(net: Net, index: int, like: Tensor) -> Stem | None:
    """The stem of every neuron of a step, where there is room for it."""
    count = int(torch.Size(net.steps[index].shape).numel())
    if count * _largest(net) * like.element_size() > _STEM_BYTES[like.device.type]:
        return None
    return stem(net, index, _one_hot(torch.arange(count, device=like.device), net.steps[index], like))


def _largest(net: Net) -> int:
    return max(int(torch.Size(step.shape).numel()) for step in net.steps)


def _one_hot(neurons: Tensor, step: Step, like: Tensor) -> Tensor:
    count = int(torch.Size(step.shape).numel())
    chosen = like.new_zeros(len(neurons), count)
    chosen.scatter_(1, neurons[:, None], 1)
    return chosen.view(len(neurons), *step.shape)


def _tightened(
    net: Net, boxes: Sequence[Box], lines: Mapping[int, Relaxed], found: Box, whole: Stem | None, index: int
) -> Box:
    low, high = _flat(found.low).clone(), _flat(found.high).clone()
    rows, neurons = ((low < 0) & (high > 0)).nonzero(as_tuple=True)
    for part in _by_row(rows, _largest(net), low):
        at, of = neurons[part], rows[part]
        begin = whole.take(at) if whole else stem(net, index, _one_hot(at, net.steps[index], low))
        # All of one row: what belongs to the row is then broadcast rather than copied for each function.
        better = backwards(net, boxes, lines, begin, of[:1] if of[0] == of[-1] else of)
        low[rows[part], at] = torch.maximum(low[rows[part], at], better.low)
        high[rows[part], at] = torch.minimum(high[rows[part], at], better.high)
    return Box(low.view_as(found.low), high.view_as(found.high))


def _by_row(rows: Tensor, width: int, like: Tensor) -> Iterator[slice]:
    """Slices of ascending row numbers [p]: of one row each where rows have many functions, else mixed."""
    counts = torch.bincount(rows).tolist() if len(rows) else []
    if len(rows) < _MANY * len(counts):
        yield from _parts(len(rows), width, like)
        return
    start = 0
    for count in counts:
        for part in _parts(count, width, like):
            yield slice(start + part.start, min(start + part.stop, start + count))
        start += count


def _parts(total: int, width: int, like: Tensor) -> Iterator[slice]:
    """Slices of so many functions that one tensor of coefficients stays within the budget."""
    size = max(1, _TENSOR_BYTES[like.device.type] // (width * like.element_size()))
    for start in range(0, total, size):
        yield slice(start, start + size)


def least(net: Net, boxes: Sequence[Box], functions: Tensor, slope: Slope) -> Tensor:
    """[n, K] lower bounds of linear functions of the outputs.

    Args:
        net: the network.
        boxes: bounds of every step, [n, ...] each.
        functions: [n, K, C] coefficients of the C outputs.
        slope: lower line of a ReLU whose sign is open.
    """
    count, each, _ = functions.shape
    rows = torch.arange(count, device=functions.device).repeat_interleave(each)
    flat = functions.reshape(count * each, *net.steps[-1].shape)
    lines = {
        index: relax(boxes[step.inputs[0]], slope)
        for index, step in enumerate(net.steps)
        if step.kind == "relu"
    }
    last = len(net.steps) - 1
    found = [
        backwards(net, boxes, lines, stem(net, last, flat[part]), rows[part]).low
        for part in _parts(len(flat), _largest(net), flat)
    ]
    return torch.cat(found).view(count, each)
