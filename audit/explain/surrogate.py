"""Surrogates: a shallow tree and a linear model fitted to a model's answers, and the tree's rules in words.

Numpy and scikit-learn only. Sources: Craven and Shavlik 1996 (a tree fitted to a network's decisions, and its
fidelity on rows that it was not fitted on); Bastani, Kim and Bastani 2017.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from audit.dataset import Feature, Ints
from audit.explain.attribution import Doubles
from audit.explain.partial import in_user_units


@dataclass(frozen=True)
class Column:
    """A column as a reader knows it: a number's name, or `feature is category` of a one-hot column."""

    feature: str
    category: str = ""

    @property
    def text(self) -> str:
        """Its name in a table."""
        return f"{self.feature} is {self.category}" if self.category else self.feature

    def condition(self, threshold: float, *, below: bool) -> str:
        """What a split asks: at most or more than the threshold, or in the category or not."""
        if self.category:
            return f"{self.feature} is {'not ' if below else ''}{self.category}"
        return f"{self.feature} {'<=' if below else '>'} {threshold:.4g}"


@dataclass(frozen=True)
class Rule:
    """One leaf: the conditions that lead to it, the class it says, and the leaf's number in the tree."""

    conditions: tuple[str, ...]
    says: int
    leaf: int


@dataclass(frozen=True)
class Linear:
    """A linear model of the log-odds: [D] effect of one standard deviation of each column, and its answers.

    Attributes:
        effects: [D] coefficient for a standard deviation of the column; 0 for a constant one.
        predicted: [n] the answers for the held rows.
    """

    effects: Doubles
    predicted: Doubles


def user_columns(features: Sequence[Feature], flat: Doubles) -> tuple[list[Column], Doubles]:
    """Names and [N, D'] values, in the user's units, of all columns that a feature owns."""
    columns, values = [], []
    for feature in features:
        for place, index in enumerate(feature.columns):
            category = feature.categories[place] if place < len(feature.categories) else ""
            if feature.kind == "categorical":
                columns.append(Column(feature.name, category or f"{place + 1}"))
                values.append(flat[:, index])
            else:
                columns.append(Column(feature.name))
                values.append(in_user_units(feature, flat[:, index]))
    return columns, np.stack(values, axis=1)


def fit_tree(values: Doubles, decisions: Ints, depth: int, least: int) -> Any:
    """A classification tree of at most `depth` questions, with at least `least` rows in each leaf."""
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier(max_depth=depth, min_samples_leaf=least, random_state=0).fit(
        values, decisions
    )


def rules_of(tree: Any, columns: Sequence[Column]) -> list[Rule]:
    """The leaves of a fitted tree from left to right. Two leaves that say the same are kept apart."""
    inner = tree.tree_
    found: list[Rule] = []

    def walk(node: int, conditions: tuple[str, ...]) -> None:
        left, right = int(inner.children_left[node]), int(inner.children_right[node])
        if left < 0:
            says = int(tree.classes_[inner.value[node][0].argmax()])
            found.append(Rule(conditions, says, node))
            return
        column, threshold = columns[int(inner.feature[node])], float(inner.threshold[node])
        walk(left, (*conditions, column.condition(threshold, below=True)))
        walk(right, (*conditions, column.condition(threshold, below=False)))

    walk(0, ())
    return found


def fit_linear(values: Doubles, answers: Doubles, held: Doubles) -> Linear:
    """Least squares of the answers on standardised columns, with a ridge that only breaks ties.

    Args:
        values: [n, D] columns of the rows it is fitted on.
        answers: [n] log-odds that the model gives them.
        held: [m, D] rows to answer.
    """
    from sklearn.linear_model import Ridge

    centre, spread = values.mean(axis=0), values.std(axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    fitted = Ridge(alpha=1e-6 * len(values)).fit((values - centre) / scale, answers)
    effects = np.where(spread > 0, fitted.coef_, 0.0)
    return Linear(effects, fitted.predict((held - centre) / scale))


def halves(rows: int, seed: int) -> tuple[Ints, Ints]:
    """Two halves of `rows` places, drawn by the seed: to fit on, and held out."""
    order = np.random.default_rng(seed).permutation(rows)
    return np.sort(order[: rows // 2]), np.sort(order[rows // 2 :])
