"""Surrogates: rules in the user's words, the planted tree and the planted weights found again."""

import numpy as np
import pytest

from audit.dataset import Feature
from audit.explain.surrogate import Column, fit_linear, fit_tree, halves, rules_of, user_columns

FEATURES = (
    Feature(name="age", columns=(0,), unit=10.0, zero=40.0),
    Feature(name="job", kind="categorical", columns=(1, 2), categories=("clerk", "cook")),
)


def table(rows=400):
    random = np.random.default_rng(0)
    job = random.integers(0, 2, rows)
    return np.concatenate([random.normal(size=(rows, 1)), np.eye(2)[job]], axis=1)


def test_columns_are_in_the_users_units_and_words():
    columns, values = user_columns(FEATURES, table())
    assert [item.text for item in columns] == ["age", "job is clerk", "job is cook"]
    assert values[:, 0] == pytest.approx(40 + 10 * table()[:, 0])
    assert columns[1].condition(0.5, below=True) == "job is not clerk"
    assert columns[0].condition(32.5, below=False) == "age > 32.5"
    assert user_columns((Feature(name="j", kind="categorical", columns=(0,)),), table())[0] == [
        Column("j", "1")
    ]


def test_a_planted_rule_is_found_and_each_leaf_is_where_its_conditions_say():
    columns, values = user_columns(FEATURES, table())
    decisions = ((values[:, 0] > 45) & (values[:, 2] == 1)).astype(np.int64)
    tree = fit_tree(values, decisions, 2, 5)
    rules = rules_of(tree, columns)
    assert (tree.predict(values) == decisions).all()
    (yes,) = [rule for rule in rules if rule.says == 1]
    assert len(yes.conditions) == 2
    assert any(text.startswith("age > 4") for text in yes.conditions)
    assert {"job is cook", "job is not clerk"} & set(yes.conditions)
    inside = tree.apply(values) == yes.leaf
    assert (inside == (decisions == 1)).all()


def test_linear_effects_are_weight_times_deviation_and_constants_have_none():
    random = np.random.default_rng(1)
    values = random.normal(size=(300, 3)) * [1, 5, 0] + [0, 3, 2]
    answers = 2 * values[:, 0] - 0.3 * values[:, 1]
    found = fit_linear(values, answers, values[:10])
    assert found.effects == pytest.approx([2 * values[:, 0].std(), -0.3 * values[:, 1].std(), 0], abs=1e-4)
    assert found.predicted == pytest.approx(answers[:10], abs=1e-4)


def test_the_halves_are_apart_and_together_everything():
    first, second = halves(11, 3)
    assert sorted([*first, *second]) == list(range(11))
    assert len(first) == 5
    assert halves(11, 3)[0].tolist() == first.tolist()
