"""Seven wrappers of a network: plain, and six that hide or bend its gradient. Tests share them.

All but `Softmax` put out what the network puts out: logits or log-probabilities.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot


class Plain(nn.Module):
    """The network as it is."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, rows: Tensor) -> Tensor:
        return self.network(rows)


class Louder(Plain):
    """Logits times 100: the gradient of the cross-entropy underflows in single precision."""

    def forward(self, rows: Tensor) -> Tensor:
        return 100 * self.network(rows)


class Softmax(Plain):
    """Probabilities in the place of logits, which hides nothing."""

    def forward(self, rows: Tensor) -> Tensor:
        return self.network(rows).softmax(dim=1)


class Quantised(Plain):
    """Inputs in [0, 1] rounded to 3 bits: no gradient passes."""

    def forward(self, rows: Tensor) -> Tensor:
        return self.network(torch.round(rows * 7) / 7)


class Noisy(Plain):
    """Normal noise of .05 on the input, drawn anew in each pass."""

    def forward(self, rows: Tensor) -> Tensor:
        return self.network(rows + 0.05 * torch.randn_like(rows))


class LabelsOnly(Plain):
    """1 for the predicted class and 0 for the others, with a gradient that is zero."""

    def forward(self, rows: Tensor) -> Tensor:
        scores = self.network(rows)
        return one_hot(scores.argmax(dim=1), scores.shape[1]) + 0 * scores


class Saturated(Plain):
    """Logits through a steep tanh: the clear ones all become 1, and their gradient 0."""

    def forward(self, rows: Tensor) -> Tensor:
        return torch.tanh(5 * self.network(rows) + 40)


MASKS = {
    "plain": Plain,
    "logits x 100": Louder,
    "softmax": Softmax,
    "quantised": Quantised,
    "noisy": Noisy,
    "labels only": LabelsOnly,
    "saturated": Saturated,
}
