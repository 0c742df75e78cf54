"""Model: a loaded network that answers a batch in the user's raw units, and counts what it was asked.

`scores` is the one way through it. Whatever the network puts out (logits, log-probabilities,
probabilities, one logit), scores are [N, C] with softmax(scores) = the model's probabilities, so that no
check needs to know which kind it was. `log_odds` is the same quantity for every kind.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules import module as _everywhere
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from audit.dataset import Floats

OutputKind = Literal[
    "logits", "log_probabilities", "probabilities", "single_logit", "single_probability", "labels", "values"
]
_SMALLEST_BATCH = 1
_RECURRENT = {"lstm", "gru", "rnn", "rnn_tanh", "rnn_relu", "_cudnn_rnn"}
_TABLE = 2
_BATCHES = (16, 8192)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_BUDGET = {"cpu": 8 * 2**20, "mps": 256 * 2**20, "cuda": 2 * 2**30}


@dataclass
class Passes:
    """How many rows went through the model. `batch` halves when the device runs out of memory."""

    forward: int = 0
    backward: int = 0
    batch: int = 256
    halvings: int = 0


@dataclass(frozen=True)
class Probe:
    """One question of the pre-flight, whether the model passed it, and what was seen."""

    name: str
    passed: bool
    detail: str


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
        preflight: what the pre-flight asked and saw; empty before it.
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
    preflight: tuple[Probe, ...] = ()

    def tensor(self, rows: Floats) -> Tensor:
        """A copy of raw input rows on the model's device, float32; a network may write into its input."""
        return torch.tensor(rows, dtype=torch.float32, device=self.device)

    def raw(self, inputs: Tensor) -> Tensor:
        """The network's own output for raw inputs [N, ...]; normalisation happens here."""
        self.passes.forward += inputs.shape[0]
        if self.mean:
            shape = (1, -1, *([1] * (inputs.ndim - 2)))
            mean, std = (inputs.new_tensor(values).view(shape) for values in (self.mean, self.std))
            inputs = (inputs - mean) / std
        return first_tensor(self.module(inputs))

    def scores(self, inputs: Tensor) -> Tensor:
        """[N, C] scores whose softmax is the model's probability of each class."""
        return as_scores(self.raw(inputs), self.output, len(self.classes))

    def input_gradient(
        self,
        inputs: Tensor,
        objective: Callable[[Tensor], Tensor],
        weigh: Callable[[Tensor], Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The gradient of a per-row objective with respect to the inputs, and the scores.

        Rows are independent (the pre-flight made sure), so the gradient of the sum holds each row's own.

        Args:
            inputs: [N, ...] raw inputs; not changed.
            objective: [N, C] scores to [N] values.
            weigh: [N, C] scores to the weight [N] of each row's gradient; where it is 0 so is the gradient,
                or it is no number. None weighs all rows alike.

        Returns:
            [N, ...] gradient and [N, C] detached scores.
        """
        leaf = inputs.detach().clone().requires_grad_()
        with self.differentiable():
            scores = self.scores(leaf)
            values = objective(scores)
            weights = torch.ones_like(values) if weigh is None else weigh(scores.detach())
            (gradient,) = torch.autograd.grad(values, leaf, weights)
        self.passes.backward += inputs.shape[0]
        return gradient, scores.detach()

    def differentiable(self) -> AbstractContextManager[object]:
        """Inside, a backward pass may follow a forward pass in eval mode.

        cuDNN refuses it for recurrent layers, so it is off for a network that has some. Train mode, which it
        asks for, would switch dropout on and explain another network.
        """
        return _without_cudnn() if self._recurrent else torch.enable_grad()

    @cached_property
    def _recurrent(self) -> bool:
        """Whether a layer is recurrent, in any format that the network may have been read from."""
        parts = list(self.module.modules())
        layers = {getattr(part, "original_name", type(part).__name__).lower() for part in parts}
        graphs = [part.graph for part in parts if isinstance(part, torch.fx.GraphModule)]
        called = {str(node.target) for graph in graphs for node in graph.nodes}
        operators = {name.split(".")[1] for name in called if name.startswith("aten.")}
        return bool((layers | operators) & _RECURRENT) or any(isinstance(part, nn.RNNBase) for part in parts)

    def in_batches(
        self, work: Callable[[slice], tuple[Tensor, ...]], total: int, rows_each: int = 1, load: int = 1
    ) -> tuple[Tensor, ...]:
        """Run `work` over slices of `total` items and join its tensors along the first axis.

        When the device runs out of memory the batch is halved and the same slice is tried again; a slice
        of one item that does not fit raises what the device raised.

        Args:
            work: takes a slice, returns tensors whose first axis is that slice.
            total: number of items, at least 1.
            rows_each: model rows that one item costs.
            load: batches in one slice, for work that keeps to `passes.batch` rows at a time itself.
        """
        parts: list[tuple[Tensor, ...]] = []
        start = 0
        while start < total:
            stop = min(total, start + max(1, self.passes.batch // rows_each) * load)
            try:
                parts.append(work(slice(start, stop)))
            except (torch.OutOfMemoryError, RuntimeError) as error:
                smallest = min((stop - start) * rows_each, self.passes.batch) <= _SMALLEST_BATCH
                if smallest or not _is_out_of_memory(error):
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


@contextmanager
def _without_cudnn() -> Iterator[None]:
    before = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = False
    try:
        with torch.enable_grad():
            yield
    finally:
        torch.backends.cudnn.enabled = before


def evenly(count: int, most: int) -> int:
    """Size of a part when `count` items are cut into as few parts of at most `most` as there must be."""
    return -(-count // -(-count // most))


def first_tensor(outputs: Any) -> Tensor:
    """The tensor a network returned: itself, the `logits` of a mapping, or the first of a collection.

    Raises:
        TypeError: what was returned holds no tensor.
    """
    if isinstance(outputs, Tensor):
        return outputs
    if isinstance(outputs, Mapping):
        outputs = [outputs["logits"]] if "logits" in outputs else list(outputs.values())
    if isinstance(outputs, list | tuple):
        for value in outputs:
            if isinstance(value, Tensor):
                return value
    raise TypeError(f"the network returned a {type(outputs).__name__} that holds no tensor")


def as_scores(outputs: Tensor, kind: OutputKind, classes: int = 0) -> Tensor:
    """[N, C] scores whose softmax gives the probabilities that `outputs` of this kind mean.

    Probabilities are clamped at the smallest normal float before the logarithm. One column becomes two:
    class 0 and class 1. A label becomes probability 1 of its class and 0 of the others.

    Args:
        outputs: [N, C], or [N] or [N, 1] for one column and for labels.
        kind: what they are.
        classes: number of classes; labels cannot be told apart without it.
    """
    smallest = torch.finfo(torch.float32).tiny
    match kind:
        case "logits" | "values":
            return outputs if outputs.ndim == _TABLE else outputs.reshape(len(outputs), -1)
        case "log_probabilities":
            return outputs.clamp_min(torch.finfo(outputs.dtype).min)
        case "probabilities":
            return outputs.clamp_min(smallest).log()
        case "single_logit":
            column = outputs.reshape(len(outputs))
            return torch.stack([torch.zeros_like(column), column], dim=1)
        case "single_probability":
            column = outputs.reshape(len(outputs))
            return torch.stack([1 - column, column], dim=1).clamp_min(smallest).log()
        case "labels":
            chosen = nn.functional.one_hot(outputs.reshape(len(outputs)).long(), classes)
            return chosen.float().clamp_min(smallest).log()


def log_odds(scores: Tensor, classes: Tensor) -> Tensor:
    """[N] log-odds of class `classes[i]` in row i: log p / (1 - p), from [N, C] scores.

    The same number for logits, log-probabilities and log of probabilities, because adding a constant to
    a row changes nothing. For two classes it is the difference of the logits.
    """
    if scores.shape[1] == 2:  # noqa: PLR2004 - the same number, at a third of the cost
        margin = scores[:, 1] - scores[:, 0]
        return torch.where(classes == 1, margin, -margin)
    chosen = scores.gather(1, classes[:, None]).squeeze(1)
    others = scores.scatter(1, classes[:, None], -torch.inf)
    return chosen - others.logsumexp(dim=1)


def measured_batch(model: Model, rows: Tensor) -> int:
    """A batch size that keeps the activations of one batch within 8 MiB (2 GiB on CUDA).

    Counted, not timed, so that two runs of one model give the same record: the bytes that every operator
    puts out for two rows, views left out.

    Args:
        model: the model.
        rows: [N, ...] raw input rows, at least one.

    Returns:
        A power of two from 16 to 8192.
    """
    pair = rows[:2] if len(rows) > 1 else torch.cat([rows, rows])
    counter = _Bytes()  # type: ignore[no-untyped-call]
    # A fused TorchScript kernel would hide its inner results, and fusion starts after some calls.
    unfused = torch.jit.optimized_execution(False)  # type: ignore[attr-defined]
    with torch.no_grad(), unfused, counter:
        outputs = model.raw(pair)
    seen = max(counter.total, _size(pair) + _size(outputs))
    fits = _BUDGET[model.device.type] // max(1, seen // 2)
    low, high = _BATCHES
    return min(high, max(low, 1 << max(0, fits.bit_length() - 1)))


class _Bytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sums the bytes of what operators put out; a view of an input costs nothing."""

    total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        outputs = func(*args, **(kwargs or {}))
        given = {leaf.untyped_storage().data_ptr() for leaf in _tensors((args, kwargs))}
        self.total += sum(
            _size(leaf) for leaf in _tensors(outputs) if leaf.untyped_storage().data_ptr() not in given
        )
        return outputs


def _tensors(values: Any) -> Iterable[Tensor]:
    return (leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor))


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _is_out_of_memory(error: Exception) -> bool:
    """The CPU allocator raises a plain RuntimeError that is known by its text alone."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def state_hash(module: nn.Module) -> str:
    """sha256 over everything a check might leave changed: parameters, buffers, gradients, mode, hooks."""
    digest = hashlib.sha256()
    tensors = [*module.named_parameters(), *module.named_buffers()]
    for name, tensor in sorted(tensors, key=lambda pair: pair[0]):
        digest.update(name.encode())
        digest.update(_bytes(tensor))
        digest.update(str(tensor.requires_grad).encode())
        digest.update(b"none" if tensor.grad is None else _bytes(tensor.grad))
    for name, part in module.named_modules():
        hooks = [len(getattr(part, kind, ())) for kind in _HOOKS]
        digest.update(f"{name} {part.training} {hooks}".encode())
        # TorchScript keeps a `forward` of its own there once it has been called.
        replaced = "forward" in vars(part) and not isinstance(part, torch.jit.ScriptModule)
        digest.update(str(replaced).encode())
    hooks = [len(getattr(_everywhere, f"_global{kind}", ())) for kind in _HOOKS]
    digest.update(f"everywhere {hooks}".encode())
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    plain = tensor.detach().to("cpu").contiguous()
    return (
        f"{plain.dtype} {tuple(plain.shape)}".encode() + plain.reshape(-1).view(torch.uint8).numpy().tobytes()
    )
