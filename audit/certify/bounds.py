"""Certificates by bounds: rows that no point of a box around them can be classified otherwise.

What is certified is the network in exact arithmetic; the bounds are computed in the model's own precision
and widened by more than rounding loses (see `audit.certify.interval`), not by directed rounding. Convolutions
with shortened mantissas (TF32), which would lose more, are switched off while bounds are computed.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from audit.certify.crown import least, refined
from audit.certify.graph import Net
from audit.certify.interval import Box, intervals
from audit.errors import NotApplicable
from audit.model import OutputKind

Method = Literal["ibp", "crown_ibp", "crown"]
_BLOCK_BYTES = {"cpu": 2**26, "mps": 2**28, "cuda": 2**31}
_MOST_ROWS = 256
_MOST_WORK = 10**8


def threshold(net: Net, output: OutputKind) -> float:
    """The value of a single output above which it means class 1; of no use for several outputs.

    Raises:
        NotApplicable: the output is said to be a logit and ends in a sigmoid.
    """
    if net.outputs == 1 and output == "single_logit" and net.head:
        raise NotApplicable("the network ends in a sigmoid and its output is declared as a logit.")
    return 0.5 if output == "single_probability" and not net.head else 0.0


def affordable(net: Net) -> Method:
    """`crown` where carrying every inner value back is at most 1e8 multiplications wide, else `crown_ibp`."""
    sizes = [int(torch.Size(step.shape).numel()) for step in net.steps]
    inner = {earlier for step in net.steps if step.kind != "affine" for earlier in step.inputs}
    work = sum(sizes[index] * sum(sizes[:index]) for index in inner)
    return "crown" if work <= _MOST_WORK else "crown_ibp"


def margins(net: Net, box: Box, labels: Tensor, method: Method, above: float = 0.0) -> Tensor:
    """How far each row provably stays from another class: a lower bound of its smallest margin in its box.

    A row whose number is above 0 is classified as its label everywhere in its box. Cheap bounds come first;
    only rows that they leave open are looked at again.

    Args:
        net: the network.
        box: [n, ...] least and greatest raw input of each row.
        labels: [n] class indices.
        method: `ibp` intervals alone; `crown_ibp` linear bounds over intervals of the inner values; `crown`
            linear bounds all the way.
        above: see `threshold`.

    Returns:
        [n] differences of outputs before the last softmax or sigmoid.
    """
    found = torch.full((len(labels),), -torch.inf, dtype=box.low.dtype, device=box.low.device)
    methods: Sequence[Method] = ("ibp", "crown_ibp", "crown")
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        for step in methods[: methods.index(method) + 1]:
            still = (found <= 0).nonzero().squeeze(1)
            for rows in torch.split(still, _block(net, box.low)) if len(still) else ():
                part = Box(box.low[rows], box.high[rows])
                found[rows] = torch.maximum(found[rows], _METHODS[step](net, part, labels[rows], above))
    return found


def _block(net: Net, like: Tensor) -> int:
    """Rows whose bounds of every step are kept at once."""
    numbers = 2 * sum(int(torch.Size(step.shape).numel()) for step in net.steps)
    room = _BLOCK_BYTES[like.device.type] // (numbers * like.element_size())
    return max(1, min(_MOST_ROWS, room))


def _by_intervals(net: Net, box: Box, labels: Tensor, above: float) -> Tensor:
    last = intervals(net, box)[-1]
    low, high = (side.reshape(len(labels), -1) for side in (last.low, last.high))
    if net.outputs == 1:
        return torch.where(labels == 1, low[:, 0] - above, above - high[:, 0])
    own = low.gather(1, labels[:, None]).squeeze(1)
    return own - high.scatter(1, labels[:, None], -torch.inf).amax(dim=1)


def _by_lines(net: Net, box: Box, labels: Tensor, above: float, *, all_the_way: bool) -> Tensor:
    boxes = intervals(net, box, refined(net) if all_the_way else None)
    functions, offset = contrasts(net, labels, box.low, above)
    found = least(net, boxes, functions, "chord")
    if not ((found + offset[:, None]) > 0).all():
        found = torch.maximum(found, least(net, boxes, functions, "smaller_area"))
    return (found + offset[:, None]).amin(dim=1)


_METHODS: dict[Method, Callable[[Net, Box, Tensor, float], Tensor]] = {
    "ibp": _by_intervals,
    "crown_ibp": lambda *given: _by_lines(*given, all_the_way=False),
    "crown": lambda *given: _by_lines(*given, all_the_way=True),
}


def contrasts(net: Net, labels: Tensor, like: Tensor, above: float) -> tuple[Tensor, Tensor]:
    """What must be positive for a row to be classified as its label: functions @ outputs + offset.

    Each other class gives one function: the label's output minus its own. A single output is compared with
    `above`.

    Returns:
        [n, K, C] functions and [n] offsets.
    """
    classes = net.outputs
    if classes == 1:
        sign = (2 * labels - 1).to(like.dtype)
        return sign.view(-1, 1, 1), -above * sign
    eye = torch.eye(classes, dtype=like.dtype, device=like.device)
    others = torch.stack([torch.cat([eye[:c], eye[c + 1 :]]) for c in range(classes)])
    return eye[labels][:, None] - others[labels], like.new_zeros(len(labels))
