"""Pre-flight: look at a model before anything is measured on it.

What makes every later number wrong is an error here: a model in training mode, one that refuses the data,
puts out NaN, or another kind of output than was declared. What makes some numbers wrong rules out what
they need, in a sentence of `Model.ruled_out`: output that changes from call to call or with the other rows
of the batch, and gradients that are not there.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from audit.dataset import Floats
from audit.errors import LoadError
from audit.loaders.batched import Batched
from audit.loaders.factory import first_line
from audit.model import Model, Passes, Probe, log_odds, measured_batch, state_hash
from audit.outputs import output_kind

PREFLIGHT_ROWS = 32
_ALONE = 8
_SAME = 1e-6
# Kernels differ with the batch; TensorFloat-32 on CUDA rounds to 10 bits.
_APART = {"cpu": 1e-4, "mps": 1e-3, "cuda": 5e-3}
_EVERYTHING = frozenset({"logits", "gradients", "modules"})


@dataclass(frozen=True)
class _Question:
    probe: Probe
    rules_out: frozenset[str]


def preflight(model: Model, rows: Floats, declared: str) -> Model:
    """The model with what was found out about it: output, input shape, capabilities and caveats.

    Args:
        model: a loaded model.
        rows: [N, ...] raw input rows, at least one; the first 32 are looked at.
        declared: `[model] output`, `auto` to detect it.

    Raises:
        LoadError: the model is in training mode, refuses the rows, puts out NaN or infinity, or its
            output contradicts what was declared or the number of classes.
    """
    inputs = model.tensor(rows[:PREFLIGHT_ROWS])
    _refuse_training_mode(model.module)
    _refuse_normalization(model, inputs)
    _refuse_out_of_range(model, inputs)
    before = state_hash(model.module)
    model, outputs = _answered(model, inputs)
    kind, said = output_kind(model, inputs, outputs, declared)
    model = replace(model, output=kind, input_shape=tuple(inputs.shape[1:]))
    questions = [_repeatable(model, inputs, outputs), _independent(model, inputs)]
    gradients, unclear = _gradients(model, inputs)
    questions += [gradients, _unchanged(model, before)]
    shown = Probe("output", passed=True, detail=f"{kind.replace('_', ' ')}, {_columns(outputs)} a row")
    mode = Probe("evaluation mode", passed=True, detail="no layer is in training mode")
    return replace(
        model,
        capabilities=model.capabilities.difference(*(_lost(question) for question in questions)),
        ruled_out=(*model.ruled_out, *(_sentence(q) for q in questions if not q.probe.passed)),
        caveats=(*model.caveats, *said, *unclear),
        passes=Passes(batch=_batch(model, inputs)),
        preflight=(mode, shown, *(question.probe for question in questions)),
    )


def _batch(model: Model, inputs: Tensor) -> int:
    smallest = model.module.low if isinstance(model.module, Batched) else 1
    return max(smallest, measured_batch(model, inputs))


def _lost(question: _Question) -> frozenset[str]:
    return frozenset() if question.probe.passed else question.rules_out


def _sentence(question: _Question) -> str:
    what = ", ".join(sorted(question.rules_out))
    return f"{question.probe.detail[:1].upper()}{question.probe.detail[1:]}, which rules out {what}."


def _columns(outputs: Tensor) -> str:
    columns = outputs[0].numel()
    return f"{columns} number{'s' if columns > 1 else ''}"


def _refuse_training_mode(module: nn.Module) -> None:
    training = [name or "the network itself" for name, part in module.named_modules() if part.training]
    if training:
        raise LoadError(
            f"the model is in training mode at '{training[0]}' after eval(), so it would change while it is "
            "audited; save it so that eval() reaches every layer."
        )


def _refuse_normalization(model: Model, inputs: Tensor) -> None:
    channels = inputs.shape[1] if inputs.ndim > 1 else 1
    if model.mean and len(model.mean) not in {1, channels}:
        raise LoadError(
            f"[model] normalize has {len(model.mean)} means, but a row of the data has the shape "
            f"{_shape(inputs)}; give one mean for each of its {channels} channels."
        )


def _refuse_out_of_range(model: Model, inputs: Tensor) -> None:
    if not torch.isfinite(inputs).all():
        row = int((~torch.isfinite(inputs)).flatten(1).any(dim=1).nonzero()[0, 0])
        raise LoadError(f"the data holds NaN or infinity in row {row} of the rows looked at; clean it first.")
    if model.input_range is None:
        return
    low, high = model.input_range
    lowest, highest = inputs.min().item(), inputs.max().item()
    slack = 1e-4 * (high - low)
    if lowest < low - slack or highest > high + slack:
        raise LoadError(
            f"[model] input_range = [{low:g}, {high:g}], but the data holds values from {lowest:g} to "
            f"{highest:g}; state the range of the raw data."
        )


def _shape(inputs: Tensor) -> str:
    return "[" + ", ".join(map(str, inputs.shape[1:])) + "]"


def _answered(model: Model, inputs: Tensor) -> tuple[Model, Tensor]:
    """The outputs for the rows; a network that takes single rows only is wrapped so that it takes batches."""
    try:
        outputs = _outputs(model, inputs)
        whole = outputs.ndim > 0 and len(outputs) == len(inputs)
        refused = None
    except Exception as error:  # noqa: BLE001 - a network may raise anything; it is told below
        whole, refused = False, error
    if not whole:
        outputs = _one_by_one(model, inputs, refused)
        caveat = "The model takes one row at a time, so it is run row by row."
        model = replace(model, module=Batched(model.module, 1, 1), caveats=(*model.caveats, caveat))
    _refuse_undefined(outputs, len(inputs))
    return model, outputs


def _outputs(model: Model, inputs: Tensor) -> Tensor:
    with torch.no_grad():
        return model.raw(inputs)


def _one_by_one(model: Model, inputs: Tensor, refused: Exception | None) -> Tensor:
    """Outputs of single rows; where these are refused too the data does not fit the model."""
    try:
        parts = [_outputs(model, row[None]) for row in inputs]
    except Exception as error:
        said = first_line(refused or error)
        raise LoadError(
            f"the model refuses rows of the shape {_shape(inputs)} that the data has"
            f"{_expected(model)}: {said}."
        ) from error
    if any(part.ndim == 0 or len(part) != 1 for part in parts):
        shape = list(parts[0].shape)
        raise LoadError(
            f"the model answers one row of the shape {_shape(inputs)} with a tensor of the shape {shape}; "
            "it must answer a batch [N, ...] with [N, outputs]."
        )
    return torch.cat(parts)


def _expected(model: Model) -> str:
    """What the network takes, told from the export or from its first layer with weights."""
    stated = model.source.get("exported_shape")
    if stated:
        return f"; it was exported for [{', '.join('any' if n is None else str(n) for n in stated)}]"
    for name, part in model.module.named_modules():
        if isinstance(part, nn.Linear):
            return f"; its first layer '{name}' takes [{part.in_features}]"
        if isinstance(part, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            sizes = ", any" * len(part.kernel_size)
            return f"; its first layer '{name}' takes [{part.in_channels}{sizes}]"
    return ""


def _refuse_undefined(outputs: Tensor, count: int) -> None:
    if outputs.ndim > 2 or not outputs[0].numel():  # noqa: PLR2004 - rows and columns
        raise LoadError(
            f"the model puts out {list(outputs.shape)} for {count} rows; it must put out [N, outputs], "
            "one row of numbers for each."
        )
    undefined = outputs.isnan() | (outputs == torch.inf)
    if undefined.any():
        rows = undefined.reshape(count, -1).any(dim=1)
        raise LoadError(
            f"the model puts out NaN or infinity for {int(rows.sum())} of the {count} rows looked at "
            f"(the first is number {int(rows.nonzero()[0, 0])}); check its weights and [model] normalize."
        )


def _spread(outputs: Tensor) -> float:
    """What a difference is held against: the largest output, at least 1."""
    finite = outputs[outputs.isfinite()].abs()
    return max(1.0, finite.max().item() if len(finite) else 1.0)


def _apart(first: Tensor, second: Tensor) -> float:
    """Largest difference relative to the size of the outputs; infinities in the same places are equal."""
    first, second = first.double(), second.double()
    differing = torch.where(first == second, torch.zeros_like(first), (first - second).abs())
    return differing.max().item() / _spread(first)


def _repeatable(model: Model, inputs: Tensor, outputs: Tensor) -> _Question:
    apart = max(_apart(outputs, _outputs(model, inputs)) for _ in range(2))
    passed = apart <= _SAME
    detail = (
        "identical calls give identical outputs"
        if passed
        else f"identical calls give outputs that differ by {apart:.2g} of their size (random or stateful)"
    )
    return _Question(Probe("repeatable", passed, detail), _EVERYTHING)


def _independent(model: Model, inputs: Tensor) -> _Question:
    """`f(batch)[i] == f(x_i)`; a single row is put into a batch with a row of zeros."""
    batch = inputs if len(inputs) > 1 else torch.cat([inputs, torch.zeros_like(inputs)])
    together = _outputs(model, batch)[: min(_ALONE, len(inputs))]
    try:
        alone = torch.cat([_outputs(model, row[None]) for row in inputs[:_ALONE]])
    except Exception as error:  # noqa: BLE001 - a network may raise anything; it is told to the reader
        passed, detail = False, f"the model refuses a row on its own ({first_line(error)})"
    else:
        apart = _apart(alone, together)
        passed = apart <= _APART[model.device.type]
        detail = f"a row's output depends on the other rows of its batch (by {apart:.2g} of its size)"
    if passed:
        detail = "a row's output does not depend on the other rows of its batch"
    return _Question(Probe("rows independent", passed, detail), _EVERYTHING)


def _unchanged(model: Model, before: str) -> _Question:
    inner = model.module.inner if isinstance(model.module, Batched) else model.module
    passed = before in {state_hash(model.module), state_hash(inner)}
    detail = (
        "answering changes nothing in the model"
        if passed
        else "the model changes its own parameters or buffers when it answers"
    )
    return _Question(Probe("model unchanged", passed, detail), _EVERYTHING)


def _gradients(model: Model, inputs: Tensor) -> tuple[_Question, tuple[str, ...]]:
    """Gradients of the chosen class's log-odds: finite in every row, and not zero in all."""
    passed, detail, zero = _seen_gradients(model, inputs)
    caveat = (
        f"The gradient is exactly zero for {zero} of the {len(inputs)} rows looked at, so gradient methods "
        "see nothing there."
    )
    question = _Question(Probe("gradients", passed, detail), frozenset({"gradients"}))
    return question, ((caveat,) if passed and zero else ())


def _seen_gradients(model: Model, inputs: Tensor) -> tuple[bool, str, int]:
    if model.output == "labels":
        return False, "labels have no gradient", 0
    try:
        gradient, _ = model.input_gradient(inputs, lambda scores: _objective(model, scores))
    except Exception as error:  # noqa: BLE001 - a network may raise anything; it is told to the reader
        return False, f"the model gives no gradient ({first_line(error)})", 0
    flat = gradient.reshape(len(inputs), -1)
    broken = int((~flat.isfinite()).any(dim=1).sum())
    if broken:
        return False, f"the gradient is NaN or infinite in {broken} of {len(inputs)} rows", 0
    zero = int((flat == 0).all(dim=1).sum())
    if zero == len(inputs):
        return False, f"the gradient is exactly zero in all {len(inputs)} rows", zero
    return True, f"finite in all {len(inputs)} rows, not zero in {len(inputs) - zero}", zero


def _objective(model: Model, scores: Tensor) -> Tensor:
    if model.task == "regression":
        return scores.sum(dim=1)
    return log_odds(scores, scores.detach().argmax(dim=1))
