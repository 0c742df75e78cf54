"""What a network does to a row, operator by operator, and inside which of its layers.

captum and shap rewrite the gradient of *layers* that they know. An operator outside such a layer keeps its
plain gradient and nobody is told. The trace finds these operators before anything is computed.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@dataclass(frozen=True)
class Step:
    """One operator on values that depend on the input.

    Attributes:
        name: name of the operator, e.g. `relu`; a name that ends in `_` writes into its input.
        depends: how many of its tensors depend on the input.
        first: whether the first of its tensors does.
        path: the layer that called it, as `named_modules` calls it; empty for the network itself.
        kind: type of that layer.
    """

    name: str
    depends: int
    first: bool
    path: str
    kind: type[nn.Module]


@dataclass(frozen=True)
class Trace:
    """All steps of one forward pass, and how often each layer was called, by path."""

    steps: tuple[Step, ...]
    calls: Counter[str]


def trace(module: nn.Module, run: Callable[[Tensor], Any], rows: Tensor) -> Trace:
    """Run a network once and note what it does to the rows.

    Args:
        module: the network whose layers are watched; it gets hooks for the time of the call.
        run: calls the network, with whatever stands before it.
        rows: [N, ...] the input.
    """
    watch = _Watch(rows)
    with _watched(module, watch), torch.no_grad(), watch:
        run(rows)
    return Trace(tuple(watch.steps), watch.calls)


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows the memory that the input flows through; tensors are kept so that memory is not used again."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.steps: list[Step] = []
        self.calls: Counter[str] = Counter()
        self.inside: list[tuple[str, type[nn.Module]]] = [("", nn.Module)]
        self._kept = [rows]
        self._depending = {rows.untyped_storage().data_ptr()}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = [self._depends(leaf) for leaf in _tensors((args, kwargs))]
        outputs = func(*args, **(kwargs or {}))
        if any(given):
            for leaf in _tensors(outputs):
                self._kept.append(leaf)
                self._depending.add(leaf.untyped_storage().data_ptr())
            name = func.overloadpacket.__name__
            self.steps.append(Step(name, sum(given), given[0], *self.inside[-1]))
        return outputs

    def _depends(self, tensor: Tensor) -> bool:
        return tensor.numel() > 0 and tensor.untyped_storage().data_ptr() in self._depending


def _tensors(values: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor))


@contextmanager
def _watched(module: nn.Module, watch: _Watch) -> Iterator[None]:
    handles: list[Any] = []

    def follow(path: str, part: nn.Module) -> None:
        def enter(*_: Any) -> None:
            watch.calls[path] += 1
            watch.inside.append((path, type(part)))

        def leave(*_: Any) -> None:
            watch.inside.pop()

        handles.append(part.register_forward_pre_hook(enter))
        handles.append(part.register_forward_hook(leave, always_call=True))

    try:
        for path, part in module.named_modules():
            follow(path, part)
        yield
    finally:
        for handle in handles:
            handle.remove()
