"""Predictions: what the model says about every row, computed once and shared by all checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from audit.dataset import Dataset, Floats, Ints
from audit.errors import NotApplicable, NotEvaluable

if TYPE_CHECKING:
    from audit.model import Model


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What the model says about each of the N rows of the data, without any attack.

    Attributes:
        scores: [N, C] scores whose softmax is the probability of each class.
        probabilities: [N, C] probabilities.
        predicted: [N] the class with the highest score.
        correct: [N] whether it is the label; False where a score is not a finite number.
        finite: [N] whether all scores of the row are finite numbers.
    """

    scores: Floats
    probabilities: Floats
    predicted: Ints
    correct: npt.NDArray[np.bool_]
    finite: npt.NDArray[np.bool_]


def predictions(model: Model, data: Dataset) -> Predictions:
    """The model's answer for every row of the data, in one pass.

    Raises:
        NotApplicable: the model is not a classifier.
        NotEvaluable: there are no rows, or a label is not one of the model's outputs.
    """
    if model.task != "classification":
        raise NotApplicable(f"predictions are classes, and this model's task is {model.task}.")
    if not len(data):
        raise NotEvaluable("the data hold 0 rows.")
    scores = model.predict(data.inputs)
    _refuse_unknown_labels(data.labels, scores.shape[1])
    values = scores.numpy()
    predicted = values.argmax(axis=1).astype(np.int64)
    finite = np.isfinite(values).all(axis=1)
    return Predictions(
        scores=values,
        probabilities=scores.softmax(dim=1).numpy(),
        predicted=predicted,
        correct=(predicted == data.labels) & finite,
        finite=finite,
    )


def _refuse_unknown_labels(labels: Ints, outputs: int) -> None:
    bad = np.flatnonzero((labels < 0) | (labels >= outputs))
    if len(bad):
        raise NotEvaluable(
            f"label {labels[bad[0]]} in row {bad[0]} is not one of the model's {outputs} outputs "
            f"(0 to {outputs - 1}); {len(bad)} of {len(labels)} labels are not."
        )
