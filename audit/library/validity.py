"""Is this method valid for this model? Asked before the method runs, because captum and shap do not say.

Both rewrite the gradient inside layers that they know (`nn.ReLU`, `nn.MaxPool2d`, ...). The same function
called outside a layer keeps its plain gradient, and a layer called twice overwrites what it remembered of
the first call: the numbers come out all the same, and are wrong.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from audit.errors import NotApplicable
from audit.library.trace import Step, Trace, trace
from audit.model import Model

_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_SMOOTH = (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Softmax)
_RESHAPING = {
    *("view", "_unsafe_view", "reshape", "permute", "transpose", "t", "unsqueeze", "squeeze", "expand"),
    *("slice", "select", "split", "split_with_sizes", "unbind", "cat", "stack", "clone", "alias", "detach"),
    *("_to_copy", "contiguous", "constant_pad_nd", "flip", "roll", "index_select", "unfold", "repeat"),
    *("_reshape_alias", "as_strided", "movedim", "narrow"),
}
_SUMS = {
    *("add", "sub", "rsub", "neg", "mean", "sum", "native_batch_norm", "cudnn_batch_norm"),
    *("_native_batch_norm_legit_no_training", "miopen_batch_norm", "avg_pool1d", "avg_pool2d", "avg_pool3d"),
    *("_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "upsample_nearest2d", "upsample_bilinear2d"),
}
_PRODUCTS = {"mul", "mm", "bmm", "addmm", "baddbmm", "mv", "convolution", "linear", "dot", "addmv"}
_SHOWN = 3


@dataclass(frozen=True)
class Demands:
    """What a method asks of a network.

    Attributes:
        name: how the method is called in a sentence.
        layers: types of layers whose operators it has a rule for.
        linear: whether sums and products with constants may stand outside these layers.
        every_layer: whether each layer at the end of the tree must be of one of these types.
        alone: whether any layer, not only a curved one, may be called but once.
    """

    name: str
    layers: frozenset[type[nn.Module]]
    linear: bool = True
    every_layer: bool = False
    alone: bool = False


DEMANDS = {
    "deep_lift": Demands("DeepLift (captum)", frozenset({*_SMOOTH, *_POOLS})),
    "deep_shap": Demands("DeepSHAP (shap)", frozenset({*_SMOOTH, *_POOLS, nn.SELU, nn.GELU})),
    "lrp": Demands(
        "LRP (captum)",
        frozenset(
            {nn.Linear, nn.Conv2d, nn.BatchNorm2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, *_POOLS, nn.ReLU}
            | {nn.Tanh, nn.Dropout, nn.Flatten, nn.Identity}
        ),
        linear=False,
        every_layer=True,
        alone=True,
    ),
}
INSTEAD = "interpretability.integrated_gradients needs no layers of a certain kind; use it instead"


def require_layers(model: Model, what: str) -> None:
    """Refuse a network that came without its tree of layers.

    Args:
        model: the network.
        what: the method, as a sentence begins with it.

    Raises:
        NotApplicable: it is an exported program or TorchScript, or modules were ruled out when it was loaded.
    """
    parts = list(model.module.modules())
    if any(isinstance(part, torch.jit.ScriptModule) for part in parts):
        raise NotApplicable(f"{what} works on layers, and a TorchScript file has none; {INSTEAD}.")
    if "modules" not in model.capabilities or any(isinstance(part, fx.GraphModule) for part in parts):
        raise NotApplicable(f"{what} works on layers, and an exported program has none; {INSTEAD}.")


def require_valid(model: Model, method: str, rows: Tensor) -> None:
    """Refuse a method that would give wrong numbers for this network. Costs the rows forward once.

    Args:
        model: the network; its layers get hooks for the time of the call, so give a copy.
        method: a key of `DEMANDS`.
        rows: [N, ...] raw rows, one or two are enough.

    Raises:
        NotApplicable: names up to three places where the method has no rule, and what to use instead.
    """
    demands = DEMANDS[method]
    require_layers(model, demands.name)
    faults = list(dict.fromkeys(faults_of(model.module, demands, trace(model.module, model.raw, rows))))
    if faults:
        more = f" and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        found = "; ".join(faults[:_SHOWN])
        raise NotApplicable(
            f"{demands.name} is not valid for this model: {found}{more}. {_capital(INSTEAD)}."
        )


def faults_of(module: nn.Module, demands: Demands, seen: Trace) -> Iterator[str]:
    """Each place where the method has no rule for what the network does, as the part of a sentence."""
    if demands.every_layer:
        for path, part in module.named_modules():
            if not list(part.children()) and type(part) not in demands.layers:
                yield f"layer {_layer(path, type(part))} has no rule"
    types = {path: type(part) for path, part in module.named_modules()}
    for path, count in seen.calls.items():
        remembered = types[path] in demands.layers and (demands.alone or path in _curved(seen))
        if count > 1 and remembered:
            yield f"layer {_layer(path, types[path])} is called {count} times in one pass"
    for step in seen.steps:
        if step.kind not in demands.layers and not _harmless(step, demands):
            yield _sentence(step)


def _curved(seen: Trace) -> set[str]:
    return {step.path for step in seen.steps if not _linear(step)}


def _harmless(step: Step, demands: Demands) -> bool:
    return step.name in _RESHAPING or (demands.linear and _linear(step))


def _linear(step: Step) -> bool:
    """Linear in the input: a sum, or a product or quotient in which one factor alone depends on it."""
    if step.name in _RESHAPING | _SUMS:
        return True
    if step.name == "div":
        return step.depends == 1 and step.first
    return step.name in _PRODUCTS and step.depends == 1


def _sentence(step: Step) -> str:
    where = f"in {_layer(step.path, step.kind)}" if step.path else "in the network's own code"
    if step.name.endswith("_"):
        return f"'{step.name}' writes into its input {where}"
    if _linear(step) or step.name in _PRODUCTS:
        return f"'{step.name}' joins or scales values {where}, for which it has no rule"
    return f"'{step.name}' is called {where}, outside a layer that it has a rule for"


def _layer(path: str, kind: type[nn.Module]) -> str:
    return f"'{path}' ({kind.__name__})" if path else f"({kind.__name__})"


def _capital(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:] if not sentence.startswith("interp") else sentence
