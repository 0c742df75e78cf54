"""A network as DeepLift wants it: rows and their references in one batch, one number for each.

DeepLift passes differences back layer by layer. The explained number (log-odds, say) is no layer, so its own
multipliers are put in front: the mean gradient on the straight line between the two outputs. They add up to
the difference of the number, as DeepLift asks of every layer (Shrikumar et al. 2017, section 3.1), and are
exact where the number is linear in the outputs, as log-odds of two logits are.
"""

import torch
from torch import Tensor, nn

from audit.explain.gradients import quadrature
from audit.explain.quantity import Output, quantity
from audit.model import Model, as_scores

POINTS = 32


class Pairs(nn.Module):
    """[2n, ...] raw rows, then their references, to [2n, 1] numbers.

    With gradients on, only the differences between a row and its reference mean something; without them each
    number is the explained one itself.

    Attributes:
        classes: [n] class explained of each row, or [1] for all; set before each call.
    """

    def __init__(self, model: Model, output: Output) -> None:
        super().__init__()
        self.network = model.module
        self.classes = torch.zeros(1, dtype=torch.long, device=model.device)
        self._model, self._output = model, output
        self.eval()

    def forward(self, rows: Tensor) -> Tensor:
        """Two halves of one batch, so that each pair goes through every layer together."""
        raw = self._model.raw(rows).reshape(len(rows), -1)
        if not torch.is_grad_enabled():
            return self._number(raw, self.classes.expand(len(raw)))[:, None]
        own, other = raw.detach().double().chunk(2)
        factor = self._multipliers(own, other, self.classes.expand(len(own))).to(raw.dtype)
        return (raw * factor.repeat(2, 1)).sum(dim=1, keepdim=True)

    def _number(self, raw: Tensor, classes: Tensor) -> Tensor:
        return quantity(as_scores(raw, self._model.output, len(self._model.classes)), classes, self._output)

    def _multipliers(self, own: Tensor, other: Tensor, classes: Tensor) -> Tensor:
        """[n, C] mean gradient of the number between `other` and `own` [n, C]."""
        places, weights = (own.new_tensor(item) for item in quadrature("gauss_legendre", POINTS))
        line = (other + places[:, None, None] * (own - other)).requires_grad_()
        numbers = self._number(line.flatten(0, 1), classes.repeat(POINTS))
        (slope,) = torch.autograd.grad(numbers.sum(), line)
        mean: Tensor = torch.tensordot(weights, slope, dims=1)
        return mean
