"""Layer-wise relevance propagation as captum computes it (epsilon rule in every layer)."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audit.dataset import Dataset
from audit.errors import NotApplicable
from audit.explain.explained import Explained, elementwise
from audit.explain.features import layout
from audit.explain.gradients import completeness_error
from audit.library.copied import copied
from audit.library.validity import DEMANDS, INSTEAD, require_layers, require_valid
from audit.model import Model

NAME = DEMANDS["lrp"].name


class _Reshaped(nn.Module):
    """A layer that only changes the shape, as captum takes it: it knows dropout and no `nn.Flatten`."""

    def __init__(self, inner: nn.Flatten | None) -> None:
        super().__init__()
        self.same = nn.Dropout(0.0)
        self._axes = None if inner is None else (inner.start_dim, inner.end_dim)

    def forward(self, values: Tensor) -> Tensor:
        kept: Tensor = self.same(values)
        return kept if self._axes is None else kept.flatten(*self._axes)


def lrp(model: Model, data: Dataset, seed: int, explained: Explained, *, grid: int = 4) -> dict[str, Any]:
    """Relevance of each input for the logit of the class. Costs 2 rows forward and 1 backward for each row.

    The relevance of all inputs adds up to the logit itself, as far as biases and the epsilon of the rule do
    not take some of it; the completeness error says how much. There is no baseline.

    Args:
        model: the network; it must put out logits.
        data: what it is explained on.
        seed: not used.
        explained: the rows; what is explained is the logit of their class.
        grid: cells that pixels are added up in.

    Raises:
        NotApplicable: the network puts out no logits, or has a layer without a rule.
    """
    del seed
    require_layers(model, NAME)
    if model.output not in {"logits", "single_logit"}:
        raise NotApplicable(
            f"{NAME} distributes a logit, and this model puts out "
            f"{model.output.replace('_', ' ')}; {INSTEAD}."
        )
    with copied(model, NAME) as own:
        plain = replace(own, mean=(), std=())
        require_valid(plain, "lrp", _normalised(model, explained.inputs[:2]))
        values, logits = _values(own, explained)
    return {
        **elementwise(values.double().numpy(), layout(data, grid)),
        "fx": logits.double().numpy(),
        "base": np.zeros(len(logits)),
        "completeness": completeness_error(values, logits.double()),
        "unit": "logit",
    }


def _values(model: Model, explained: Explained) -> tuple[Tensor, Tensor]:
    """[n, ...] relevance and [n] logit of the class. Relevance is that of the normalised inputs."""
    from captum.attr import LRP

    network = nn.Sequential(_without_flatten(model.module)).eval()
    method = LRP(network)
    single = model.output == "single_logit"

    def work(part: slice) -> tuple[Tensor, Tensor]:
        rows, classes = _normalised(model, explained.inputs[part]), explained.classes[part]
        sign = 2.0 * classes - 1 if single else torch.ones_like(classes, dtype=torch.float32)
        with torch.no_grad():
            raw = network(rows).reshape(len(rows), -1)
        logit = raw[:, 0] if single else raw.gather(1, classes[:, None]).squeeze(1)
        found = method.attribute(rows, target=None if single else classes).detach()
        model.passes.forward += 3 * len(rows)
        model.passes.backward += len(rows)
        signed = found * sign.view(-1, *([1] * (found.ndim - 1)))
        return signed.float().cpu(), (sign * logit).float().cpu()

    values, logits = model.in_batches(work, len(explained.inputs))
    return values, logits


def _normalised(model: Model, rows: Tensor) -> Tensor:
    if not model.mean:
        return rows.clone()
    shape = (1, -1, *([1] * (rows.ndim - 2)))
    mean, std = (rows.new_tensor(values).view(shape) for values in (model.mean, model.std))
    return (rows - mean) / std


def _without_flatten(module: nn.Module) -> nn.Module:
    if isinstance(module, nn.Flatten | nn.Identity):
        return _Reshaped(module if isinstance(module, nn.Flatten) else None)
    for name, part in module.named_children():
        setattr(module, name, _without_flatten(part))
    return module
