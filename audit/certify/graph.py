"""Read a network as a list of steps that bounds are known for, or say which operator stands in the way."""

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from audit.certify.operators import Kind, Operator, Shape, Sized, Uncovered, Wire, build, scaled
from audit.errors import NotApplicable
from audit.model import Model

Called = tuple[str, tuple[Any, ...], dict[str, Any]]
_PROBES = 3
_AGREEMENT = 1e-3
_NAMES: Mapping[Any, str] = {
    functional.max_pool1d: "max_pool1d",
    functional.max_pool2d: "max_pool2d",
    functional.adaptive_avg_pool1d: "adaptive_avg_pool1d",
    functional.adaptive_avg_pool2d: "adaptive_avg_pool2d",
    operator.truediv: "truediv",
}


@dataclass(frozen=True)
class Step:
    """One operator and the shape of one row of what it puts out."""

    operator: Operator
    shape: Shape

    @property
    def kind(self) -> Kind:
        """How bounds pass through it."""
        return self.operator.kind

    @property
    def inputs(self) -> tuple[int, ...]:
        """Indices of the steps it is applied to."""
        return tuple(wire.step for wire in self.operator.wires)


@dataclass(frozen=True)
class Net:
    """A network as steps; step 0 is its input, the last one its output.

    Attributes:
        steps: each applied to earlier ones only.
        head: the final softmax or sigmoid that was left out, because it changes no decision; else empty.
    """

    steps: tuple[Step, ...]
    head: str

    @property
    def outputs(self) -> int:
        """Numbers it puts out for a row."""
        return int(torch.Size(self.steps[-1].shape).numel())

    def forward(self, rows: Tensor) -> Tensor:
        """[n, C] outputs before the head for [n, ...] raw inputs, step by step."""
        values: list[Tensor] = [rows]
        for step in self.steps[1:]:
            values.append(step.operator.apply(*(values[index] for index in step.inputs)))
        return values[-1].reshape(len(rows), -1)


def read(model: Model, rows: Tensor) -> Net:
    """The model as steps, normalisation included.

    The steps are not taken at their word: on `rows` they must give what the model gives.

    Args:
        model: a classifier in eval mode.
        rows: [n, ...] raw input rows, at least one.

    Raises:
        NotApplicable: an operator is not covered, the graph cannot be read, or it does not reproduce the
            model's outputs.
    """
    net = trace(model.module, rows, model.mean, model.std)
    model.passes.forward += _PROBES
    with torch.no_grad():
        told, wanted = net.forward(rows), model.raw(rows).reshape(len(rows), -1)
    shown = _HEADS[net.head](told)
    if shown.shape != wanted.shape or not torch.allclose(shown, wanted, _AGREEMENT, _AGREEMENT):
        raise NotApplicable(
            "bounds need the network's graph, and the graph that was read does not reproduce its outputs"
        )
    return net


def trace(module: nn.Module, rows: Tensor, mean: tuple[float, ...] = (), std: tuple[float, ...] = ()) -> Net:
    """The steps of a module; `mean` and `std` by channel are applied before it.

    Raises:
        NotApplicable: an operator is not covered or the graph cannot be read.
    """
    shape = (1, -1, *([1] * (rows.ndim - 2)))
    probe = rows[torch.arange(_PROBES, device=rows.device) % len(rows)]
    begin = Operator("input", (), _unused)
    steps = [Step(begin, tuple(rows.shape[1:]))]
    if mean:
        middle, width = (probe.new_tensor(values).view(shape) for values in (mean, std))
        wire = Wire(0, steps[0].shape)
        steps.append(Step(scaled(wire, 1 / width, -middle / width), steps[0].shape))
        probe = (probe - middle) / width
    try:
        graph = _graph(module)
        values = _values(graph, probe)
        last = _read_nodes(graph, values, steps)
    except Uncovered as reason:
        raise NotApplicable(
            f"bounds are known for feed-forward and convolutional ReLU networks: {reason}"
        ) from None
    return _ended(steps, last)


def _unused(*_: Tensor) -> Tensor:
    raise AssertionError("the input is given, not computed")


_HEADS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "": lambda outputs: outputs,
    "softmax": lambda outputs: outputs.softmax(dim=1),
    "log_softmax": lambda outputs: outputs.log_softmax(dim=1),
    "sigmoid": torch.sigmoid,
}


def _graph(module: nn.Module) -> fx.GraphModule:
    if isinstance(module, fx.GraphModule):
        return module
    if isinstance(module, torch.jit.ScriptModule):
        raise Uncovered("a TorchScript program cannot be read operator by operator")
    try:
        return fx.symbolic_trace(module)
    except Exception as error:  # noqa: BLE001 - whatever the network's own code raises while it is traced
        first = str(error).partition("\n")[0]
        raise Uncovered(f"its graph cannot be read ({type(error).__name__}: {first})") from None


def _values(graph: fx.GraphModule, probe: Tensor) -> dict[fx.Node, Any]:
    """What each node gives for a few rows: constants, sizes and shapes."""
    interpreter = fx.Interpreter(graph, garbage_collect_values=False)
    try:
        with torch.no_grad():
            interpreter.run(probe.clone())
    except Exception as error:  # noqa: BLE001 - or while it runs operator by operator
        first = str(error).partition("\n")[0]
        raise Uncovered(f"its graph does not run ({type(error).__name__}: {first})") from None
    return interpreter.env


def _read_nodes(graph: fx.GraphModule, values: Mapping[fx.Node, Any], steps: list[Step]) -> int:
    """Append a step for each node; the index of the one that gives the output."""
    known: dict[fx.Node, Any] = {}
    for node in graph.graph.nodes:
        match node.op:
            case "placeholder":
                given = any(isinstance(value, Wire) for value in known.values())
                known[node] = values[node] if given else Wire(len(steps) - 1, steps[-1].shape)
            case "output":
                found = _first(fx.node.map_arg(node.args[0], known.__getitem__))
                return found.step
            case "get_attr":
                known[node] = _constant(values[node])
            case _:
                known[node] = _known(node, graph, known, values, steps)
    raise Uncovered("it has no output")


def _first(structure: Any) -> Wire:
    """The wire of the output that `first_tensor` would take."""
    if isinstance(structure, Mapping):
        structure = [structure["logits"]] if "logits" in structure else list(structure.values())
    if isinstance(structure, list | tuple):
        structure = next((item for item in structure if isinstance(item, Wire)), None)
    if not isinstance(structure, Wire):
        raise Uncovered("its output does not depend on its input")
    return structure


def _constant(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value


def _known(
    node: fx.Node,
    graph: fx.GraphModule,
    known: Mapping[fx.Node, Any],
    values: Mapping[fx.Node, Any],
    steps: list[Step],
) -> Any:
    """A wire for what depends on the input, else the constant or the size it is."""
    value = values[node]
    if not any(isinstance(known[part], Wire | Sized) for part in node.all_input_nodes):
        return _constant(value)
    if not isinstance(value, Tensor):
        return Sized(value)
    if not len(value.shape) or len(value) != _PROBES:
        raise Uncovered(f"'{node.name}' does not give one result a row")
    row = tuple(value.shape[1:])
    given: Any = fx.node.map_arg((node.args, node.kwargs), known.__getitem__)
    name, args, kwargs = _called(node, graph, tuple(given[0]), dict(given[1]))
    steps.append(Step(build(name, args, kwargs, row), row))
    _refuse_after_head(steps)
    return Wire(len(steps) - 1, row)


def _refuse_after_head(steps: list[Step]) -> None:
    last = steps[-1].operator
    if not last.reshapes and any(_head_of(steps, wire.step) for wire in last.wires):
        raise Uncovered("a softmax or sigmoid before the last operator is not covered")


def _head_of(steps: list[Step], index: int) -> str:
    """The head that this step is, or reshapes; empty for none."""
    at = steps[index].operator
    if at.head or not at.reshapes:
        return at.head
    return _head_of(steps, at.wires[0].step)


def _called(node: fx.Node, graph: fx.GraphModule, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Called:
    """A node as the name and the arguments of a torch function."""
    if node.op == "call_module":
        name, more, named = _of_module(graph.get_submodule(str(node.target)))
        return name, (*args, *more), named
    if node.op == "call_method":
        return str(node.target), args, kwargs
    if str(node.target).startswith("aten."):
        return ".".join(str(node.target).split(".")[:2]), args, kwargs
    name = _NAMES.get(node.target) or str(getattr(node.target, "__name__", node.target))
    return name, args, kwargs


def _of_module(module: nn.Module) -> Called:
    """A layer as the torch function it calls, and the arguments after the input."""
    told = _LAYERS.get(type(module))
    if told is None:
        raise Uncovered(f"the layer {type(module).__name__} is not covered")
    return told(module)


def _of_conv(m: Any) -> Called:
    if m.padding_mode != "zeros":
        raise Uncovered(f"convolution with padding_mode = '{m.padding_mode}' is not covered")
    how = (m.stride, m.padding, m.dilation, m.groups)
    return f"conv{len(m.kernel_size)}d", (*_tensors(m.weight, m.bias), *how), {}


def _of_batch_norm(m: Any) -> Called:
    kept = _tensors(m.running_mean, m.running_var, m.weight, m.bias)
    return "batch_norm", (*kept, m.training, 0.0, m.eps), {}


def _of_max_pool(m: Any) -> Called:
    how = (m.kernel_size, m.stride, m.padding, m.dilation)
    named = {"ceil_mode": m.ceil_mode, "return_indices": m.return_indices}
    return ("max_pool1d" if isinstance(m, nn.MaxPool1d) else "max_pool2d"), how, named


def _of_avg_pool(m: Any) -> Called:
    how = (m.kernel_size, m.stride, m.padding, m.ceil_mode, m.count_include_pad)
    if isinstance(m, nn.AvgPool1d):
        return "avg_pool1d", how, {}
    return "avg_pool2d", (*how, m.divisor_override), {}


def _tensors(*values: Tensor | None) -> tuple[Tensor | None, ...]:
    return tuple(None if value is None else value.detach() for value in values)


def _ended(steps: list[Step], last: int) -> Net:
    """The steps that the output needs, in order and numbered anew."""
    needed = set(_ancestors(steps, last))
    order = sorted(needed)
    number = {old: new for new, old in enumerate(order)}
    kept = []
    for old in order:
        at = steps[old].operator
        wires = tuple(Wire(number[wire.step], wire.shape) for wire in at.wires)
        renumbered = Operator(at.kind, wires, at.apply, at.spread, at.pull, at.head, at.reshapes)
        kept.append(Step(renumbered, steps[old].shape))
    return Net(tuple(kept), _head_of(steps, last))


def _ancestors(steps: list[Step], last: int) -> Iterator[int]:
    waiting, seen = [last], {last}
    while waiting:
        index = waiting.pop()
        yield index
        for earlier in steps[index].inputs:
            if earlier not in seen:
                seen.add(earlier)
                waiting.append(earlier)


_LAYERS: Mapping[type[nn.Module], Callable[[Any], Called]] = {
    nn.Linear: lambda m: ("linear", _tensors(m.weight, m.bias), {}),
    nn.Conv1d: _of_conv,
    nn.Conv2d: _of_conv,
    nn.BatchNorm1d: _of_batch_norm,
    nn.BatchNorm2d: _of_batch_norm,
    nn.ReLU: lambda _: ("relu", (), {}),
    nn.Identity: lambda _: ("identity", (), {}),
    nn.Sigmoid: lambda _: ("sigmoid", (), {}),
    nn.Dropout: lambda m: ("dropout", (m.p, m.training), {}),
    nn.Dropout1d: lambda m: ("dropout", (m.p, m.training), {}),
    nn.Dropout2d: lambda m: ("dropout", (m.p, m.training), {}),
    nn.Flatten: lambda _: ("reshape", (), {}),
    nn.Unflatten: lambda _: ("reshape", (), {}),
    nn.Softmax: lambda m: ("softmax", (m.dim,), {}),
    nn.LogSoftmax: lambda m: ("log_softmax", (m.dim,), {}),
    nn.MaxPool1d: _of_max_pool,
    nn.MaxPool2d: _of_max_pool,
    nn.AvgPool1d: _of_avg_pool,
    nn.AvgPool2d: _of_avg_pool,
    nn.AdaptiveAvgPool1d: lambda m: ("adaptive_avg_pool1d", (m.output_size,), {}),
    nn.AdaptiveAvgPool2d: lambda m: ("adaptive_avg_pool2d", (m.output_size,), {}),
}
