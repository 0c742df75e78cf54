"""Attention rollout: how attention mixes positions from the first layer to the last.

Each layer's attention, averaged over heads, is averaged with the identity (the residual connection) and the
layers are multiplied. Source: Abnar and Zuidema 2020.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from audit.errors import NotApplicable
from audit.explain.attribution import Doubles
from audit.explain.quantity import quantity
from audit.model import Model

Read = Literal["auto", "mean", "first", "last"]
INSTEAD = "use interpretability.integrated_gradients or interpretability.shap instead"
_CUBE = 3


@dataclass(frozen=True)
class Call:
    """One call of an attention layer.

    Attributes:
        tokens: its output, [N, T, E], or [T, N, E] where the batch is not the first axis.
        weights: [N, T, S] attention, averaged over heads.
        batch_first: whether the batch is the first axis of `tokens`.
    """

    tokens: Tensor
    weights: Tensor
    batch_first: bool


@dataclass(frozen=True)
class Rollout:
    """Attention rolled out for n rows.

    Attributes:
        shares: [n, T] share of what the answer reads that comes from each position; a row adds up to 1.
        reading: [n, T] how much the answer reads each output position; a row adds up to 1.
        layers: number of attention layers that were multiplied.
    """

    shares: Doubles
    reading: Doubles
    layers: int


def attention_layers(model: Model) -> dict[str, nn.MultiheadAttention]:
    """The network's attention layers by name.

    Raises:
        NotApplicable: the network cannot be looked into or holds none.
    """
    if "modules" not in model.capabilities:
        raise NotApplicable(f"this format does not show the network's layers; {INSTEAD}.")
    found = {n: part for n, part in model.module.named_modules() if isinstance(part, nn.MultiheadAttention)}
    if not found:
        raise NotApplicable(f"the network holds no nn.MultiheadAttention, so none is rolled out; {INSTEAD}.")
    return found


@contextmanager
def captured(model: Model) -> Iterator[list[Call]]:
    """A list that gets each call of an attention layer, in their order.

    The fused fast path, which computes no weights, is off inside; hooks and that switch are as before
    afterwards.
    """
    seen: list[Call] = []

    def ask(_module: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        # Positional: query, key, value, key_padding_mask, need_weights, ...
        args = (*args[:4], True, *args[5:]) if len(args) > 4 else args  # noqa: PLR2004 - see above
        weights = {} if len(args) > 4 else {"need_weights": True}  # noqa: PLR2004 - see above
        return args, {**kwargs, **weights, "average_attn_weights": True}

    def keep(module: nn.Module, _args: Any, output: Any) -> None:
        tokens, weights = output
        seen.append(Call(tokens, weights, bool(getattr(module, "batch_first", False))))

    handles: list[Any] = []
    fast = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        for layer in attention_layers(model).values():
            handles.append(layer.register_forward_pre_hook(ask, with_kwargs=True))
            handles.append(layer.register_forward_hook(keep))
        yield seen
    finally:
        for handle in handles:
            handle.remove()
        torch.backends.mha.set_fastpath_enabled(fast)


def rollout(model: Model, rows: Tensor, classes: Tensor, read: Read = "auto") -> Rollout:
    """Attention rollout of each row. Costs n rows forward, and n backward where `read` is `auto`.

    Args:
        model: the network.
        rows: [n, ...] raw rows.
        classes: [n] class whose log-odds say which positions are read, for `auto`.
        read: which output positions the answer reads: by the size of its slope at each, all alike, the
            first (a class token) or the last.

    Raises:
        NotApplicable: no attention, an attention between different sequences, or the batch and the positions
            are mixed up.
    """
    attention_layers(model)
    depth: list[int] = []

    def work(part: slice) -> tuple[Tensor, Tensor]:
        inputs = rows[part].clone().requires_grad_(read == "auto")
        with captured(model) as seen, torch.set_grad_enabled(read == "auto"):
            # A copy, because a network may write into its input.
            scores = model.scores(inputs.clone())
        weights = [_square(call.weights, len(inputs)) for call in seen]
        _same_length(weights)
        depth[:] = [len(weights)]
        reading = _reading(model, scores, seen[-1], classes[part], read)
        return _shares(weights, reading), reading

    shares, reading = model.in_batches(work, len(rows))
    return Rollout(shares.cpu().double().numpy(), reading.cpu().double().numpy(), depth[0])


def rolled(weights: list[Tensor]) -> Tensor:
    """[N, T, T] the product of the layers' attention [N, T, T], each averaged with the identity."""
    total = torch.eye(weights[0].shape[-1], device=weights[0].device, dtype=torch.float64)
    total = total.expand(len(weights[0]), -1, -1)
    for item in weights:
        layer = (item.double() + torch.eye(item.shape[-1], device=item.device, dtype=torch.float64)) / 2
        total = layer / layer.sum(dim=-1, keepdim=True) @ total
    return total


def _shares(weights: list[Tensor], reading: Tensor) -> Tensor:
    return (reading[:, None, :] @ rolled([item.detach() for item in weights])).squeeze(1)


def _square(weights: Tensor | None, rows: int) -> Tensor:
    if weights is None or weights.ndim != _CUBE or len(weights) != rows:
        shape = None if weights is None else list(weights.shape)
        raise NotApplicable(
            f"attention weights of {rows} rows have the shape {shape}, so a row cannot be told; {INSTEAD}."
        )
    if weights.shape[1] != weights.shape[2]:
        raise NotApplicable(
            f"an attention layer joins {weights.shape[1]} positions to {weights.shape[2]} others "
            f"(cross-attention), which rollout does not cover; {INSTEAD}."
        )
    return weights


def _same_length(weights: list[Tensor]) -> None:
    lengths = sorted({item.shape[-1] for item in weights})
    if not weights:
        raise NotApplicable(f"no attention layer was called for these rows; {INSTEAD}.")
    if len(lengths) > 1:
        raise NotApplicable(
            f"attention layers have {lengths[0]} and {lengths[-1]} positions, which rollout cannot multiply; "
            f"{INSTEAD}."
        )


def _reading(model: Model, scores: Tensor, last: Call, classes: Tensor, read: Read) -> Tensor:
    """[n, T] how much the answer reads each output position of the last attention layer."""
    count, length = len(scores), last.weights.shape[-1]
    if read == "auto":
        objective = quantity(scores, classes, "log_odds").sum()
        (gradient,) = torch.autograd.grad(objective, last.tokens, materialize_grads=True)
        model.passes.backward += count
        gradient = gradient if last.batch_first else gradient.transpose(0, 1)
        size = gradient.detach().double().norm(dim=-1)
        total = size.sum(dim=1, keepdim=True)
        return torch.where(total > 0, size / total.clamp_min(torch.finfo(size.dtype).tiny), 1 / length)
    found = torch.zeros(count, length, dtype=torch.float64, device=scores.device)
    chosen = {"mean": slice(None), "first": slice(0, 1), "last": slice(length - 1, length)}[read]
    found[:, chosen] = 1.0
    return found / found.sum(dim=1, keepdim=True)
