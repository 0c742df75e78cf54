"""Which training rows pushed a decision: TracIn at the last layer, from the final weights.

The gradient of a row's cross-entropy with respect to the last linear layer is its error (probabilities minus
label) times the layer's input. The product of two such gradients is how much a step of training on the one
row lowers the loss of the other. Source: Pruthi et al., Estimating Training Data Influence by Tracing
Gradient Descent, 2020; the form for the last layer is their section 3.2, with one checkpoint.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from audit.dataset import Dataset, Floats, Ints
from audit.errors import NotApplicable
from audit.library.copied import copied
from audit.library.layers import Layer, find_layer, reading
from audit.model import Model

NAME = "Influence (TracIn)"
_INSTEAD = "no other method here asks which training rows mattered"
_CLOSE = 1e-4


@dataclass(frozen=True)
class Gradients:
    """Last-layer gradients of N rows in two factors: errors [N, K], and inputs [N, H] with 1 for the bias."""

    errors: Tensor
    inputs: Tensor
    predicted: Tensor

    def products(self, others: "Gradients") -> Tensor:
        """[N, n] product of each row's gradient with each of the others'; float64, on the CPU."""
        return (self.errors @ others.errors.T) * (self.inputs @ others.inputs.T)

    def squares(self) -> Tensor:
        """[N] product of each row's gradient with itself: its influence on its own loss."""
        return self.errors.square().sum(dim=1) * self.inputs.square().sum(dim=1)


def last_layer_gradients(model: Model, data: Dataset, rows: Floats, labels: Ints | None) -> Gradients:
    """Gradients of the cross-entropy of raw rows [N, ...] at the last linear layer. Costs N rows forward.

    Args:
        model: the network.
        data: the audit's data, of which one row is used to find the layer.
        rows: [N, ...] raw inputs.
        labels: [N] class of each row; None for the predicted class.

    Raises:
        NotApplicable: the network does not end in a linear layer whose outputs are the logits.
    """
    with copied(model, NAME, _INSTEAD) as own:
        layer = find_layer(own, "", own.tensor(data.inputs[:2]), NAME)
        _require_last(own, layer, own.tensor(data.inputs[:2]))

        def work(part: slice) -> tuple[Tensor, Tensor]:
            with torch.no_grad(), reading(layer) as read:
                scores = own.scores(own.tensor(rows[part]))
                return scores.softmax(dim=1).double().cpu(), read().double().cpu()

        chances, inputs = own.in_batches(work, len(rows))
    predicted = chances.argmax(dim=1)
    truth = predicted if labels is None else torch.from_numpy(labels)
    errors = chances - nn.functional.one_hot(truth, chances.shape[1])
    if layer.module.out_features == 1:
        errors = errors[:, 1:]
    if layer.module.bias is not None:
        inputs = torch.cat([inputs, torch.ones_like(inputs[:, :1])], dim=1)
    return Gradients(errors, inputs, predicted)


def _require_last(model: Model, layer: Layer, rows: Tensor) -> None:
    with torch.no_grad(), reading(Layer(layer.path, layer.module, before=False)) as read:
        scores = model.scores(rows)
        logits = read()
    if logits.ndim == 2 and logits.shape[1] == 1:  # noqa: PLR2004 - [n, 1]
        logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
    same = logits.shape == scores.shape and torch.allclose(logits.softmax(1), scores.softmax(1), atol=_CLOSE)
    if not same:
        raise NotApplicable(
            f"{NAME} needs a network whose last linear layer puts out the logits; "
            f"'{layer.path}' is followed by something else; {_INSTEAD}."
        )
