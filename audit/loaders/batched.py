"""A network that takes batches of some sizes only, made to take batches of any size."""

import torch
from torch import Tensor, nn

from audit.model import first_tensor


class Batched(nn.Module):
    """Cuts a batch into parts that the network takes; a part that is too short is padded with its last row.

    Rows of a network are independent (the pre-flight makes sure), so padding changes no row's output.

    Attributes:
        inner: the network.
        low: smallest batch it takes.
        high: largest batch it takes.
    """

    def __init__(self, inner: nn.Module, low: int, high: int) -> None:
        super().__init__()
        self.inner, self.low, self.high = inner, low, high
        self.training = False

    def forward(self, inputs: Tensor) -> Tensor:
        """[N, ...] inputs of any N to the network's outputs for them."""
        return torch.cat([self._part(part) for part in torch.split(inputs, self.high)])

    def _part(self, part: Tensor) -> Tensor:
        lacking = self.low - len(part)
        if lacking > 0:
            padding = part[-1:].expand(lacking, *part.shape[1:])
            return first_tensor(self.inner(torch.cat([part, padding])))[: len(part)]
        return first_tensor(self.inner(part))
