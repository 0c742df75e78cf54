"""Predictions: what the model says about every row, computed once and shared by all checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from audit.dataset import Dataset, Floats, Ints
from audit.errors import NotApplicable, NotEvaluable

if TYPE_CHECKING:
    from audit.model import Model


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What the model says about each of the N rows of the data, without any attack.

    Where the data hold no true outcomes, or state the decisions themselves, asking for what they do not
    state raises `NotApplicable`.

    Attributes:
        scores: [N, C] scores whose softmax is the probability of each class.
        probabilities: [N, C] probabilities.
        predicted: [N] the class with the highest score, or the decision that the data state.
        correct: [N] whether it is the label; False where a score is not a finite number.
        finite: [N] whether all scores of the row are finite numbers.
        device: where they were computed, as torch names it, and where there is room to count them.
    """

    scores: Floats
    probabilities: Floats
    predicted: Ints
    correct: npt.NDArray[np.bool_]
    finite: npt.NDArray[np.bool_]
    device: str = "cpu"


class _Stated(Predictions):
    """Predictions read from the data, or without true outcomes, which may lack some of the fields."""

    def __init__(self, **known: Any) -> None:
        vars(self).update(known)

    if not TYPE_CHECKING:
        # Asked only for what is not there; a check must not take a placeholder for a probability.
        def __getattr__(self, name: str) -> Any:
            if name not in {item.name for item in fields(Predictions)}:
                raise AttributeError(f"predictions have no '{name}'")
            raise NotApplicable(_LACKING.get(name, _NO_SCORES))


_NO_SCORES = "the data state decisions and no scores, and no model was run that would give them"
_LACKING: Mapping[str, str] = {"correct": "the data hold no true outcomes; [data] target names their column"}


def predictions(model: Model, data: Dataset) -> Predictions:
    """The model's answer for every row of the data, in one pass, or what the data state in its place.

    Raises:
        NotApplicable: the model is not a classifier.
        NotEvaluable: there are no rows, or a label is not one of the model's outputs.
    """
    if model.task != "classification":
        raise NotApplicable(f"predictions are classes, and this model's task is {model.task}.")
    if not len(data):
        raise NotEvaluable("the data hold 0 rows.")
    if data.decisions is not None:
        return _stated(data, data.decisions)
    scores = model.predict(data.inputs)
    values = scores.numpy()
    predicted = values.argmax(axis=1).astype(np.int64)
    finite = np.isfinite(values).all(axis=1)
    known: dict[str, Any] = {
        "scores": values,
        "probabilities": scores.softmax(dim=1).numpy(),
        "predicted": predicted,
        "finite": finite,
        "device": str(model.device) if model.device.type == "cuda" else "cpu",
    }
    if not data.labelled:
        return _Stated(**known)
    _refuse_unknown_labels(data.labels, scores.shape[1])
    return Predictions(**known, correct=(predicted == data.labels) & finite)


def _stated(data: Dataset, decisions: Ints) -> Predictions:
    """What the data state: decisions, and probabilities of two classes where they hold scores."""
    known: dict[str, Any] = {"predicted": decisions, "finite": np.ones(len(data), dtype=np.bool_)}
    if data.labelled:
        known["correct"] = decisions == data.labels
    if data.scores is not None and data.favourable is not None:
        both = np.empty((len(data), 2), dtype=np.float32)
        both[:, data.favourable] = data.scores
        both[:, 1 - data.favourable] = 1 - data.scores
        known |= {"probabilities": both, "scores": np.log(np.maximum(both, np.finfo(np.float32).tiny))}
    return _Stated(**known)


def _refuse_unknown_labels(labels: Ints, outputs: int) -> None:
    bad = np.flatnonzero((labels < 0) | (labels >= outputs))
    if len(bad):
        raise NotEvaluable(
            f"label {labels[bad[0]]} in row {bad[0]} is not one of the model's {outputs} outputs "
            f"(0 to {outputs - 1}); {len(bad)} of {len(labels)} labels are not."
        )
