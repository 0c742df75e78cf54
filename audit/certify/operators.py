"""Operators that bounds are known for: affine ones with their absolute value and transpose, ReLU, max-pool.

Each builder takes the arguments of the torch function of the same name, with a `Wire` wherever a value
depends on the network's input. What no builder accepts is refused with `Uncovered`, never guessed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.grad import conv1d_input, conv2d_input

Kind = Literal["input", "affine", "relu", "max_pool"]
Shape = tuple[int, ...]
_PLANE = 2


class Uncovered(Exception):  # noqa: N818 - a reason that becomes a sentence, not an error of the program
    """Why no bounds are known for an operator, as the middle of a sentence."""


@dataclass(frozen=True)
class Wire:
    """A value that depends on the input: the step that makes it, and the shape of one row of it."""

    step: int
    shape: Shape


@dataclass(frozen=True)
class Sized:
    """A number that depends on how many rows there are; only a reshape may use it."""

    value: Any


@dataclass(frozen=True)
class Operator:
    """What one step of a network computes.

    Attributes:
        kind: how bounds pass through it.
        wires: what it is applied to.
        apply: [n, ...] inputs to the [n, ...] output.
        spread: for affine ones: how far the output can move, [n, ...], when each input moves by at most the
            given radius; |W| times the radius.
        pull: for affine ones where it is cheaper than what autograd does: [n, ...] coefficients of the
            output to those of its one input.
        head: a final monotone function (softmax, sigmoid) that was left out; empty otherwise.
        reshapes: keeps every value and only changes the shape.
    """

    kind: Kind
    wires: tuple[Wire, ...]
    apply: Callable[..., Tensor]
    spread: Callable[..., Tensor] | None = None
    pull: Callable[[Tensor], Tensor] | None = None
    head: str = ""
    reshapes: bool = False


def build(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], row: Shape) -> Operator:
    """The operator that a torch function with these arguments is.

    Args:
        name: name of the torch function, or `aten.` and the name where the order of arguments is ATen's.
        args: positional arguments; a `Wire` stands for each value that depends on the input.
        kwargs: keyword arguments.
        row: shape of one row of its output.

    Raises:
        Uncovered: no bounds are known for it, or not with these arguments.
    """
    plain = name.removeprefix("aten.").removesuffix("_")
    if plain in _RESHAPES:
        return _reshape(_wire(args, kwargs), row)
    builder = _ATEN.get(plain) if name.startswith("aten.") else None
    builder = builder or _BUILDERS.get(plain)
    if builder is None:
        raise Uncovered(f"the operator '{plain}' is not covered")
    if any(isinstance(value, Sized) for value in (*args, *kwargs.values())):
        raise Uncovered(f"'{plain}' depends on how many rows there are")
    rest = dict(kwargs)
    given = (rest.pop("input"), *args) if "input" in rest else args
    try:
        return builder(*given, **rest)
    except TypeError as error:
        raise Uncovered(f"'{plain}' is not covered with these arguments ({error})") from None


def _wire(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Wire:
    first = args[0] if args else kwargs.get("input")
    if not isinstance(first, Wire):
        raise Uncovered("a reshape of a collection is not covered")
    return first


def positive(wires: tuple[Wire, ...], apply: Callable[..., Tensor], **more: Any) -> Operator:
    """A linear operator without a constant whose coefficients are all at least 0."""
    return Operator("affine", wires, apply, apply, **more)


def _reshape(x: Wire, row: Shape) -> Operator:
    def pull(coefficients: Tensor) -> Tensor:
        return coefficients.reshape(len(coefficients), *x.shape)

    if prod(row) != prod(x.shape):
        raise Uncovered("a reshape that mixes rows is not covered")
    return positive((x,), lambda rows: rows.reshape(len(rows), *row), pull=pull, reshapes=True)


def _identity(x: Wire, *_: Any, **__: Any) -> Operator:
    return positive((x,), _same, pull=_same)


def _same(rows: Tensor) -> Tensor:
    return rows


def _head(name: str, x: Wire, dim: int | None = None, *_: Any, **__: Any) -> Operator:
    if name == "sigmoid" and prod(x.shape) != 1:
        raise Uncovered("a sigmoid over several outputs is not covered")
    if name != "sigmoid" and (len(x.shape) != 1 or dim not in {1, -1}):
        raise Uncovered(f"{name} over anything but the classes of a row is not covered")
    return positive((x,), _same, pull=_same, head=name)


def _dropout(x: Wire, p: float = 0.5, training: bool = True, *_: Any) -> Operator:
    if training and p:
        raise Uncovered("dropout that is active during evaluation is not covered")
    return _identity(x)


def _relu(x: Wire, *_: Any, **__: Any) -> Operator:
    return Operator("relu", (x,), functional.relu)


def _linear(x: Wire, weight: Tensor, bias: Tensor | None = None) -> Operator:
    size = weight.abs()
    return Operator(
        "affine",
        (x,),
        lambda rows: functional.linear(rows, weight, bias),
        lambda radius: functional.linear(radius, size),
        lambda coefficients: coefficients @ weight,
    )


def _conv(
    dimensions: int,
    x: Wire,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Operator:
    run = (functional.conv1d, functional.conv2d)[dimensions - 1]
    back: Callable[..., Tensor] = (conv1d_input, conv2d_input)[dimensions - 1]
    if isinstance(padding, str):
        padding = _padding(padding, weight, dilation)
    size = weight.abs()
    how = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}

    def pull(coefficients: Tensor) -> Tensor:
        if dimensions == _PLANE and groups == 1:
            return _folded(coefficients, x.shape, weight, how)
        return back((len(coefficients), *x.shape), weight, coefficients, **how)

    return Operator(
        "affine",
        (x,),
        lambda rows: run(rows, weight, bias, **how),
        lambda radius: run(radius, size, None, **how),
        pull,
    )


def _folded(coefficients: Tensor, shape: Shape, weight: Tensor, how: Mapping[str, Any]) -> Tensor:
    """The transpose of a plain convolution as a product and a sum of patches: 4x faster for few channels."""
    patches = torch.matmul(weight.flatten(1).t(), coefficients.flatten(2))
    kernel = tuple(weight.shape[2:])
    return functional.fold(
        patches, shape[1:], kernel, dilation=how["dilation"], padding=how["padding"], stride=how["stride"]
    )


def _padding(padding: str, weight: Tensor, dilation: Any) -> list[int]:
    """Numbers for `same` and `valid`."""
    kernel = weight.shape[2:]
    steps = [dilation] * len(kernel) if isinstance(dilation, int) else list(dilation)
    total = [step * (k - 1) if padding == "same" else 0 for step, k in zip(steps, kernel, strict=True)]
    if any(width % 2 for width in total):
        raise Uncovered("padding = 'same' with an even kernel is not covered")
    return [width // 2 for width in total]


def _batch_norm(
    x: Wire,
    mean: Tensor | None,
    variance: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,  # noqa: ARG001 - torch's signature
    eps: float = 1e-5,
    *_: Any,
) -> Operator:
    if training or mean is None or variance is None:
        raise Uncovered("batch normalisation over the rows of a batch is not covered")
    shape = (1, -1, *([1] * (len(x.shape) - 1)))
    factor = (variance + eps).rsqrt() * (1 if weight is None else weight)
    offset = (0 if bias is None else bias) - mean * factor
    return scaled(x, factor.view(shape), offset.view(shape))


def _batch_norm_aten(
    x: Wire,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    variance: Tensor | None,
    *rest: Any,
) -> Operator:
    return _batch_norm(x, mean, variance, weight, bias, *rest)


def scaled(x: Wire, factor: Tensor | float, offset: Tensor | float) -> Operator:
    """X * factor + offset, each a number or a tensor that fits one row or one channel."""
    size = abs(factor)
    if any(isinstance(value, Tensor) and _widens(x, value) for value in (factor, offset)):
        raise Uncovered("arithmetic that changes the shape of a row is not covered")
    return Operator(
        "affine",
        (x,),
        lambda rows: rows * factor + offset,
        lambda radius: radius * size,
        lambda coefficients: coefficients * factor,
    )


def _widens(x: Wire, value: Tensor) -> bool:
    whole = (1, *x.shape)
    try:
        return tuple(np.broadcast_shapes(whole, tuple(value.shape))) != whole
    except ValueError:
        return True


def _is_constant(value: Any) -> bool:
    return isinstance(value, Tensor | int | float) and not isinstance(value, bool)


def _sum(signs: tuple[int, int], a: Any, b: Any, *, alpha: float = 1) -> Operator:
    first, second = signs[0], signs[1] * alpha
    if isinstance(a, Wire) and isinstance(b, Wire):
        if a.shape != b.shape:
            raise Uncovered("a sum of values of different shapes is not covered")
        return Operator(
            "affine",
            (a, b),
            lambda x, y: first * x + second * y,
            lambda x, y: abs(first) * x + abs(second) * y,
        )
    if isinstance(a, Wire) and _is_constant(b):
        return scaled(a, float(first), second * b)
    if isinstance(b, Wire) and _is_constant(a):
        return scaled(b, float(second), first * a)
    raise Uncovered("a sum of these arguments is not covered")


def _mul(a: Any, b: Any) -> Operator:
    wire, factor = (a, b) if isinstance(a, Wire) else (b, a)
    if not isinstance(wire, Wire) or not _is_constant(factor):
        raise Uncovered("a product of two values that both depend on the input is not covered")
    return scaled(wire, factor, 0.0)


def _div(a: Any, b: Any) -> Operator:
    if not isinstance(a, Wire) or not _is_constant(b):
        raise Uncovered("a division by a value that depends on the input is not covered")
    return scaled(a, 1 / b, 0.0)


def _neg(x: Wire) -> Operator:
    return scaled(x, -1.0, 0.0)


def _max_pool(run: Callable[..., Any], x: Wire, *args: Any, **kwargs: Any) -> Operator:
    if kwargs.pop("return_indices", False) or any(isinstance(value, bool) and value for value in args[4:]):
        raise Uncovered("max-pooling with indices or a ceiling is not covered")
    return Operator("max_pool", (x,), lambda rows: run(rows, *args, **kwargs))


def _pool(run: Callable[..., Any], x: Wire, *args: Any, **kwargs: Any) -> Operator:
    return positive((x,), lambda rows: run(rows, *args, **kwargs))


def _mean(x: Wire, dim: Any = None, keepdim: bool = False, **_: Any) -> Operator:
    axes = [dim] if isinstance(dim, int) else list(dim or ())
    if not axes or any(axis % (len(x.shape) + 1) == 0 for axis in axes):
        raise Uncovered("a mean over rows is not covered")
    return positive((x,), lambda rows: rows.mean(dim=axes, keepdim=keepdim))


def _pad(x: Wire, pad: Any, mode: str = "constant", value: float | None = None) -> Operator:
    widths = list(pad)
    if mode != "constant" or len(widths) > 2 * len(x.shape):
        raise Uncovered(f"padding of kind '{mode}' is not covered")
    return Operator(
        "affine",
        (x,),
        lambda rows: functional.pad(rows, widths, value=value or 0.0),
        lambda radius: functional.pad(radius, widths),
    )


def _cat(tensors: Any, dim: int = 0) -> Operator:
    wires = tuple(tensors)
    if not all(isinstance(wire, Wire) for wire in wires) or dim % (len(wires[0].shape) + 1) == 0:
        raise Uncovered("this concatenation is not covered")
    return positive(wires, lambda *rows: torch.cat(rows, dim=dim))


def _getitem(x: Wire, index: Any) -> Operator:
    parts = index if isinstance(index, tuple) else (index,)
    ends = [end for part in parts if isinstance(part, slice) for end in (part.start, part.stop, part.step)]
    plain = all(isinstance(part, slice | int) for part in parts)
    if parts[0] != slice(None) or not plain or not all(isinstance(end, int | None) for end in ends):
        raise Uncovered("indexing of rows, by a list or by a size is not covered")
    return positive((x,), lambda rows: rows[parts])


def _slice(x: Wire, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Operator:
    whole = start in {None, 0} and end in {None, 2**63 - 1} and step == 1
    if dim % (len(x.shape) + 1) == 0 and not whole:
        raise Uncovered("a slice of the rows is not covered")
    index = (slice(None),) * (dim % (len(x.shape) + 1)) + (slice(start, end, step),)
    return _identity(x) if whole else positive((x,), lambda rows: rows[index])


_RESHAPES = {"flatten", "view", "reshape", "squeeze", "unsqueeze", "unflatten"}
_BUILDERS: dict[str, Callable[..., Operator]] = {
    "linear": _linear,
    "conv1d": partial(_conv, 1),
    "conv2d": partial(_conv, 2),
    "batch_norm": _batch_norm,
    "relu": _relu,
    "max_pool1d": partial(_max_pool, functional.max_pool1d),
    "max_pool2d": partial(_max_pool, functional.max_pool2d),
    "avg_pool1d": partial(_pool, functional.avg_pool1d),
    "avg_pool2d": partial(_pool, functional.avg_pool2d),
    "adaptive_avg_pool1d": partial(_pool, functional.adaptive_avg_pool1d),
    "adaptive_avg_pool2d": partial(_pool, functional.adaptive_avg_pool2d),
    "mean": _mean,
    "add": partial(_sum, (1, 1)),
    "iadd": partial(_sum, (1, 1)),
    "sub": partial(_sum, (1, -1)),
    "rsub": partial(_sum, (-1, 1)),
    "mul": _mul,
    "div": _div,
    "truediv": _div,
    "neg": _neg,
    "pad": _pad,
    "cat": _cat,
    "getitem": _getitem,
    "slice": _slice,
    "dropout": _dropout,
    "feature_dropout": _dropout,
    "dropout2d": _dropout,
    "identity": _identity,
    "contiguous": _identity,
    "detach": _identity,
    "clone": _identity,
    "softmax": partial(_head, "softmax"),
    "log_softmax": partial(_head, "log_softmax"),
    "sigmoid": partial(_head, "sigmoid"),
}
_ATEN: dict[str, Callable[..., Operator]] = {"batch_norm": _batch_norm_aten}
