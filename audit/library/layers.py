"""A layer of a network, by the name that the user gives it or the one that decides last."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from audit.errors import ConfigError, NotApplicable, nearest
from audit.library.trace import trace
from audit.library.validity import require_layers
from audit.model import Model, first_tensor


@dataclass(frozen=True)
class Layer:
    """Where hidden values are read.

    Attributes:
        path: the layer's name, as `named_modules` has it.
        module: the layer itself.
        before: whether its input is read; else its output.
    """

    path: str
    module: nn.Module
    before: bool

    @property
    def place(self) -> str:
        """How a sentence calls it."""
        return f"{'input' if self.before else 'output'} of '{self.path}'"


def find_layer(model: Model, name: str, rows: Tensor, what: str) -> Layer:
    """The layer `name`, or the input of the last `nn.Linear`. Costs the rows forward once.

    Args:
        model: the network; its layers get hooks for the time of the call, so give a copy.
        name: name of a layer; empty for the input of the last linear layer.
        rows: [N, ...] raw rows, one or two are enough.
        what: the method, as a sentence begins with it.

    Raises:
        ConfigError: no layer has that name.
        NotApplicable: the network has no such layer, or calls it other than once.
    """
    require_layers(model, what)
    layers = {path or "(the network)": part for path, part in model.module.named_modules()}
    linear = [path for path, part in layers.items() if isinstance(part, nn.Linear)]
    if not name and not linear:
        raise NotApplicable(f"{what} needs a layer, and the model has no linear one; name one with 'layer'.")
    if name and name not in layers:
        raise ConfigError(f"'layer' = '{name}' is no layer of the model{nearest(name, layers)}.")
    path = name or linear[-1]
    calls = trace(model.module, model.raw, rows).calls["" if path == "(the network)" else path]
    if calls != 1:
        raise NotApplicable(
            f"{what} needs a layer that is called once, and '{path}' is called {calls} times."
        )
    return Layer(path, layers[path], before=not name)


@contextmanager
def reading(layer: Layer) -> Iterator[Callable[[], Tensor]]:
    """Reads the layer's values of the last forward pass: a function that gives [n, ...], in the graph."""
    seen: list[Tensor] = []

    def keep(_module: nn.Module, given: object, output: object) -> None:
        seen[:] = [first_tensor(given if layer.before else output)]

    handle = layer.module.register_forward_hook(keep)
    try:
        yield lambda: seen[0]
    finally:
        handle.remove()


def by_unit(values: Tensor) -> Tensor:
    """[n, units] sums over all positions of each unit or channel of [n, units, ...]."""
    return values.flatten(2).sum(dim=2) if values.ndim > 2 else values  # noqa: PLR2004 - [n, units]


def in_float64(values: Tensor) -> Tensor:
    """A detached float64 copy on the CPU."""
    return values.detach().to(device="cpu", dtype=torch.float64)
