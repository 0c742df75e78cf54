"""Model: a loaded network that answers a batch in the user's raw units, and counts what it was asked.

`scores` is the one way through it. Whatever the network puts out (logits, log-probabilities,
probabilities, one logit), scores are [N, C] with softmax(scores) = the model's probabilities, so that no
check needs to know which kind it was. `log_odds` is the same quantity for every kind.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from audit.dataset import Floats

OutputKind = Literal[
    "logits", "log_probabilities", "probabilities", "single_logit", "single_probability", "labels", "values"
]
_SMALLEST_BATCH = 1


@dataclass
class Passes:
    """How many rows went through the model. `batch` halves when the device runs out of memory."""

    forward: int = 0
    backward: int = 0
    batch: int = 256
    halvings: int = 0


@dataclass(frozen=True, kw_only=True)
class Model:
    """A loaded network, ready to be audited.

    Attributes:
        module: the network itself, in eval mode on `device`.
        device: where it computes.
        task: `classification` or `regression`.
        output: what the network puts out, detected by the pre-flight or declared.
        classes: class names in the order of the outputs; empty when unknown.
        input_shape: shape of one input row, without the batch.
        input_range: smallest and largest raw value of an input; None when not stated.
        mean: per-channel mean subtracted inside, before the network; empty for none.
        std: per-channel standard deviation divided by inside.
        capabilities: `logits`, `gradients`, `modules`: what checks may ask of it.
        ruled_out: sentences that say why a capability is missing.
        caveats: sentences a reader must know, e.g. a static-batch export run row by row.
        loader: name of the loader that read the file.
        trust: whether the user let the file execute code.
        fingerprint: sha256 of the model file.
        source: file name, size, format, factory, for the record.
        passes: the counter.
    """

    module: nn.Module
    device: torch.device
    task: Literal["classification", "regression"] = "classification"
    output: OutputKind = "logits"
    classes: tuple[str, ...] = ()
    input_shape: tuple[int, ...] = ()
    input_range: tuple[float, float] | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    capabilities: frozenset[str] = frozenset({"logits", "gradients", "modules"})
    ruled_out: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()
    loader: str = ""
    trust: bool = False
    fingerprint: str = ""
    source: dict[str, Any] = field(default_factory=dict)
    passes: Passes = field(default_factory=Passes)

    def tensor(self, rows: Floats) -> Tensor:
        """A copy of raw input rows on the model's device, float32; a network may write into its input."""
        return torch.tensor(rows, dtype=torch.float32, device=self.device)

    def raw(self, inputs: Tensor) -> Tensor:
        """The network's own output for raw inputs [N, ...]; normalisation happens here."""
        self.passes.forward += len(inputs)
        if self.mean:
            shape = (1, -1, *([1] * (inputs.ndim - 2)))
            inputs = (inputs - inputs.new_tensor(self.mean).view(shape)) / inputs.new_tensor(self.std).view(
                shape
            )
        outputs = self.module(inputs)
        return outputs if isinstance(outputs, Tensor) else first_tensor(outputs)

    def scores(self, inputs: Tensor) -> Tensor:
        """[N, C] scores whose softmax is the model's probability of each class."""
        return as_scores(self.raw(inputs), self.output)

    def input_gradient(self, inputs: Tensor, objective: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """The gradient of a per-row objective with respect to the inputs, and the scores.

        Rows are independent (the pre-flight made sure), so the gradient of the sum holds each row's own.

        Args:
            inputs: [N, ...] raw inputs; not changed.
            objective: [N, C] scores to [N] values.

        Returns:
            [N, ...] gradient and [N, C] detached scores.
        """
        leaf = inputs.detach().clone().requires_grad_()
        with torch.enable_grad():
            scores = self.scores(leaf)
            (gradient,) = torch.autograd.grad(objective(scores).sum(), leaf)
        self.passes.backward += len(inputs)
        return gradient, scores.detach()

    def batches(self, total: int, rows_each: int = 1) -> Iterator[slice]:
        """Slices of at most a batch that cover `total` items, each costing `rows_each` model rows.

        The size is read anew for each slice, so that a halving takes effect at once.
        """
        start = 0
        while start < total:
            stop = min(total, start + max(1, self.passes.batch // rows_each))
            yield slice(start, stop)
            start = stop

    def in_batches(
        self, work: Callable[[slice], tuple[Tensor, ...]], total: int, rows_each: int = 1
    ) -> tuple[Tensor, ...]:
        """Run `work` over slices of `total` items and join its tensors along the first axis.

        When the device runs out of memory the batch is halved and the same slice is tried again.

        Args:
            work: takes a slice, returns tensors whose first axis is that slice.
            total: number of items, at least 1.
            rows_each: model rows that one item costs.
        """
        parts: list[tuple[Tensor, ...]] = []
        start = 0
        while start < total:
            stop = min(total, start + max(1, self.passes.batch // rows_each))
            try:
                parts.append(work(slice(start, stop)))
            except torch.OutOfMemoryError:
                if self.passes.batch <= _SMALLEST_BATCH:
                    raise
                self._halve()
                continue
            start = stop
        return tuple(torch.cat(column) for column in zip(*parts, strict=True))

    def _halve(self) -> None:
        self.passes.batch = max(_SMALLEST_BATCH, self.passes.batch // 2)
        self.passes.halvings += 1
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def predict(self, rows: Floats) -> Tensor:
        """[N, C] scores of raw rows, without gradients, on the CPU."""

        def work(part: slice) -> tuple[Tensor]:
            with torch.no_grad():
                return (self.scores(self.tensor(rows[part])).float().cpu(),)

        return self.in_batches(work, len(rows))[0]


def first_tensor(outputs: Any) -> Tensor:
    """The first tensor of a tuple, list or dict that a network returned."""
    values = outputs.values() if isinstance(outputs, dict) else outputs
    return next(value for value in values if isinstance(value, Tensor))


def as_scores(outputs: Tensor, kind: OutputKind) -> Tensor:
    """[N, C] scores whose softmax gives the probabilities that `outputs` of this kind mean.

    Probabilities are clamped at the smallest normal float before the logarithm. One column becomes two:
    class 0 and class 1.
    """
    smallest = torch.finfo(torch.float32).tiny
    match kind:
        case "logits" | "log_probabilities" | "values":
            return outputs
        case "probabilities":
            return outputs.clamp_min(smallest).log()
        case "single_logit":
            column = outputs.reshape(len(outputs))
            return torch.stack([torch.zeros_like(column), column], dim=1)
        case "single_probability":
            column = outputs.reshape(len(outputs))
            return torch.stack([(1 - column), column], dim=1).clamp_min(smallest).log()
        case "labels":
            raise TypeError("a model that puts out labels has no scores; its loader wraps it")


def log_odds(scores: Tensor, classes: Tensor) -> Tensor:
    """[N] log-odds of class `classes[i]` in row i: log p / (1 - p), from [N, C] scores.

    The same number for logits, log-probabilities and log of probabilities, because adding a constant to
    a row changes nothing. For two classes it is the difference of the logits.
    """
    chosen = scores.gather(1, classes[:, None]).squeeze(1)
    others = scores.scatter(1, classes[:, None], -torch.inf)
    return chosen - others.logsumexp(dim=1)


def state_hash(module: nn.Module) -> str:
    """sha256 over everything a check might leave changed: parameters, buffers, gradients, mode, hooks."""
    digest = hashlib.sha256()
    for name, tensor in sorted([*module.named_parameters(), *module.named_buffers()]):
        digest.update(name.encode())
        digest.update(_bytes(tensor))
        digest.update(str(tensor.requires_grad).encode())
        digest.update(b"none" if tensor.grad is None else _bytes(tensor.grad))
    for name, part in module.named_modules():
        hooks = len(getattr(part, "_forward_hooks", ())), len(getattr(part, "_forward_pre_hooks", ()))
        back = len(getattr(part, "_backward_hooks", ())), len(getattr(part, "_backward_pre_hooks", ()))
        digest.update(f"{name} {part.training} {hooks} {back}".encode())
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    plain = tensor.detach().to("cpu").contiguous()
    return (
        f"{plain.dtype} {tuple(plain.shape)}".encode() + plain.reshape(-1).view(torch.uint8).numpy().tobytes()
    )
