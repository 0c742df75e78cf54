"""What kind of output a model puts out: told from its values, or declared and checked against them."""

from collections.abc import Callable

import torch
from torch import Tensor

from audit.errors import LoadError
from audit.model import Model, OutputKind

_SUM_SLACK = 2e-3
_SIGN_SLACK = 1e-6
# Far outside the data a logit leaves [0, 1]; a probability cannot.
_FAR = (10.0, -10.0, 100.0, -100.0)
Said = tuple[str, ...]


def output_kind(model: Model, inputs: Tensor, outputs: Tensor, declared: str) -> tuple[OutputKind, Said]:
    """The kind of `outputs`, and caveats.

    Args:
        model: the model, to ask it about inputs far from the data.
        inputs: [N, ...] raw input rows.
        outputs: [N] or [N, C] what the network answered.
        declared: the kind that `[model] output` states, or `auto`.

    Raises:
        LoadError: what was declared contradicts the values, the number of outputs is not that of the
            classes (of a regression: not one), or the kind cannot be told.
    """
    if model.task == "regression":
        _refuse_no_value(outputs)
        return "values", ()
    kind, said = _detected(model, inputs, outputs) if declared == "auto" else _declared(outputs, declared)
    if outputs.isinf().any() and kind != "log_probabilities":
        raise LoadError(f"the model puts out infinity where {_words(kind)} are finite; check its weights.")
    _refuse_other_count(model, outputs, kind)
    return kind, said


def _refuse_no_value(outputs: Tensor) -> None:
    if _columns(outputs) != 1:
        raise LoadError(f"{_count_seen(outputs)}, and a regression is audited on one; give it one output.")
    if outputs.isinf().any():
        raise LoadError("the model puts out infinity where values are finite; check its weights.")


def _detected(model: Model, inputs: Tensor, outputs: Tensor) -> tuple[OutputKind, Said]:
    if not outputs.is_floating_point():
        return "labels", (_LABELS,)
    if _columns(outputs) == 1:
        return _detected_single(model, inputs, outputs)
    if are_probabilities(outputs):
        return "probabilities", ()
    if are_log_probabilities(outputs):
        return "log_probabilities", ()
    if _within_unit(outputs) and _stays_within_unit(model, inputs):
        raise LoadError(
            f"the model puts out {_columns(outputs)} numbers between 0 and 1 a row that do not sum to 1, as "
            "independent sigmoids do, which is not a choice of one class; declare [model] output if it is."
        )
    return "logits", ()


def _detected_single(model: Model, inputs: Tensor, outputs: Tensor) -> tuple[OutputKind, Said]:
    if not (_within_unit(outputs) and _stays_within_unit(model, inputs)):
        return "single_logit", ()
    return "single_probability", (_TAKEN_AS_PROBABILITY,)


def _stays_within_unit(model: Model, inputs: Tensor) -> bool:
    """Whether outputs stay in [0, 1] far outside the data; an input the model refuses says nothing."""
    for factor in _FAR:
        try:
            with torch.no_grad():
                far = model.raw(inputs * factor)
        except (RuntimeError, ValueError, IndexError):
            continue
        if not _within_unit(far[far.isfinite()]):
            return False
    return True


def _declared(outputs: Tensor, declared: str) -> tuple[OutputKind, Said]:
    kind, holds, seen = _CHECKS[declared]
    if not holds(outputs):
        raise LoadError(
            f"[model] output = '{declared}', but {seen(outputs)}; declare what the model puts out, or 'auto'."
        )
    return kind, ((_LABELS,) if kind == "labels" else ())


def are_probabilities(outputs: Tensor) -> bool:
    """Whether each row lies in [0, 1] and sums to 1."""
    if not _within_unit(outputs) or _columns(outputs) == 1:
        return False
    return bool(((outputs.double().sum(dim=1) - 1).abs() <= _SUM_SLACK).all())


def are_log_probabilities(outputs: Tensor) -> bool:
    """Whether no value is above 0 and the exponentials of each row sum to 1."""
    if _columns(outputs) == 1 or not bool((outputs <= _SUM_SLACK).all()):
        return False
    return bool((outputs.double().logsumexp(dim=1).abs() <= _SUM_SLACK).all())


def _within_unit(outputs: Tensor) -> bool:
    return bool(((outputs >= -_SIGN_SLACK) & (outputs <= 1 + _SIGN_SLACK)).all())


def _are_labels(outputs: Tensor) -> bool:
    return _columns(outputs) == 1 and bool(((outputs == outputs.round()) & (outputs >= 0)).all())


def _columns(outputs: Tensor) -> int:
    return outputs[0].numel()


def _words(kind: str) -> str:
    return kind.replace("_", " ").replace("single logit", "single logits")


def _count_seen(outputs: Tensor) -> str:
    columns = _columns(outputs)
    return f"the model puts out {columns} number{'s' if columns > 1 else ''} a row"


def _sum_seen(outputs: Tensor) -> str:
    if _columns(outputs) == 1:
        return _count_seen(outputs)
    sums = outputs.double().sum(dim=1)
    row = int((sums - 1).abs().argmax())
    return (
        f"a row of outputs sums to {sums[row].item():.4g} with a smallest value of {outputs.min().item():.4g}"
    )


def _exponential_seen(outputs: Tensor) -> str:
    if _columns(outputs) == 1:
        return _count_seen(outputs)
    sums = outputs.double().logsumexp(dim=1).exp()
    row = int((sums - 1).abs().argmax())
    return f"the exponentials of a row of outputs sum to {sums[row].item():.4g}, not 1"


def _single_seen(outputs: Tensor) -> str:
    if _columns(outputs) != 1:
        return _count_seen(outputs)
    return f"the outputs go from {outputs.min().item():.4g} to {outputs.max().item():.4g}"


def _logits_seen(outputs: Tensor) -> str:
    return "every row of outputs sums to 1" if _columns(outputs) > 1 else _count_seen(outputs)


_LABELS = (
    "The model puts out labels and no scores: a class has probability 1 or 0, and neither confidence nor "
    "gradients can be measured."
)
_TAKEN_AS_PROBABILITY = (
    "The model puts out one number a row, always between 0 and 1, taken as the probability of class 1; "
    "declare [model] output to settle it."
)
_CHECKS: dict[str, tuple[OutputKind, Callable[[Tensor], bool], Callable[[Tensor], str]]] = {
    "logits": ("logits", lambda o: _columns(o) > 1 and not are_probabilities(o), _logits_seen),
    "probabilities": ("probabilities", are_probabilities, _sum_seen),
    "log_probabilities": ("log_probabilities", are_log_probabilities, _exponential_seen),
    "single_logit": ("single_logit", lambda o: _columns(o) == 1, _single_seen),
    "single_probability": (
        "single_probability",
        lambda o: _columns(o) == 1 and _within_unit(o),
        _single_seen,
    ),
    "labels": ("labels", _are_labels, _single_seen),
}


def _refuse_other_count(model: Model, outputs: Tensor, kind: OutputKind) -> None:
    classes = len(model.classes)
    if kind == "labels":
        _refuse_other_labels(outputs, classes)
        return
    single = kind in {"single_logit", "single_probability"}
    count = 2 if single else _columns(outputs)
    if classes and count != classes:
        what = "1 output (for 2 classes)" if single else f"{count} outputs"
        listed = ", ".join(model.classes[:3]) + (", ..." if classes > 3 else "")  # noqa: PLR2004 - a few will do
        raise LoadError(
            f"the model puts out {what}, but there are {classes} classes ({listed}); "
            "set [model] classes to the names in the order of the outputs."
        )


def _refuse_other_labels(outputs: Tensor, classes: int) -> None:
    lowest, highest = int(outputs.min()), int(outputs.max())
    if not classes:
        raise LoadError("the model puts out labels, so [model] classes must name the classes in their order.")
    if lowest < 0 or highest >= classes:
        raise LoadError(
            f"the model puts out the label {lowest if lowest < 0 else highest}, but there are {classes} "
            f"classes, numbered 0 to {classes - 1}."
        )
