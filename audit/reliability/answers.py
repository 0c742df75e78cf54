"""Answers: what a model says of labelled rows, as log-probabilities, and what that is worth."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from audit.dataset import Doubles, Floats, Ints

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Rows with a finite score for every class.

    Attributes:
        log_probabilities: [n, C] natural logarithm of the probability of each class.
        labels: [n] true class.
        rows: [n] indices of the rows in the data.
        lost: rows left out because a score was not a finite number.
    """

    log_probabilities: Doubles
    labels: Ints
    rows: Ints
    lost: int = 0

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.labels)

    @cached_property
    def predicted(self) -> Ints:
        """[n] the most probable class."""
        found: Ints = self.log_probabilities.argmax(axis=1).astype(np.int64)
        return found

    @cached_property
    def right(self) -> Bools:
        """[n] whether it is the true one."""
        return np.asarray(self.predicted == self.labels)

    @cached_property
    def confidence(self) -> Doubles:
        """[n] probability of the most probable class, in (0, 1]."""
        found: Doubles = np.exp(self.log_probabilities.max(axis=1))
        return found

    @cached_property
    def rank(self) -> Doubles:
        """[n] log-odds of the most probable class: orders rows where probabilities have all become 1."""
        return log_odds(self.log_probabilities)

    @cached_property
    def loss(self) -> Doubles:
        """[n] log loss: minus the log-probability of the true class."""
        found: Doubles = -self.log_probabilities[np.arange(len(self)), self.labels]
        return found

    @cached_property
    def brier(self) -> Doubles:
        """[n] half the squared distance of the probabilities from the truth, in [0, 1]."""
        gaps = np.exp(self.log_probabilities)
        gaps[np.arange(len(self)), self.labels] -= 1
        found: Doubles = (gaps**2).sum(axis=1) / 2
        return found

    def of(self, members: Bools) -> "Answers":
        """The same for the rows that are marked, [n]."""
        return replace(
            self,
            log_probabilities=self.log_probabilities[members],
            labels=self.labels[members],
            rows=self.rows[members],
        )


def answers(scores: Floats | Doubles, labels: Ints, rows: Ints) -> Answers:
    """Answers from scores whose softmax is the probability of each class.

    Args:
        scores: [n, C]; rows with a score that is not a finite number are left out and counted.
        labels: [n] true class.
        rows: [n] indices of the rows in the data.
    """
    values = np.asarray(scores, dtype=np.float64)
    finite = np.isfinite(values).all(axis=1)
    kept = values[finite]
    total = np.logaddexp.reduce(kept, axis=1, keepdims=True)
    return Answers(
        log_probabilities=kept - total,
        labels=labels[finite],
        rows=rows[finite],
        lost=int((~finite).sum()),
    )


def log_odds(scores: Doubles, chosen: Ints | None = None) -> Doubles:
    """[n] log p / (1 - p) of a class of each row from [n, C] finite scores.

    Args:
        scores: [n, C].
        chosen: [n] the class; the most probable one where None.
    """
    place, classes = np.arange(len(scores)), scores.argmax(axis=1) if chosen is None else chosen
    others = scores.copy()
    others[place, classes] = -np.inf
    found: Doubles = scores[place, classes] - np.logaddexp.reduce(others, axis=1)
    return found
