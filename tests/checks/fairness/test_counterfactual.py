"""A linear model whose flips are worked out by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from audit.checks.fairness.counterfactual import counterfactual
from audit.dataset import Dataset, Feature, Sensitive
from audit.errors import NotApplicable
from audit.model import Model
from audit.products.predictions import predictions


def linear(weights, bias=0.0):
    """Grants where weights . x + bias > 0."""
    layer = nn.Linear(len(weights), 2)
    with torch.no_grad():
        layer.weight[:] = torch.tensor([[0.0] * len(weights), weights])
        layer.bias[:] = torch.tensor([0.0, bias])
    return Model(module=layer.eval(), device=torch.device("cpu"), classes=("no", "yes"))


def dataset(inputs, groups, codes, features, favourable=1, name="sex"):
    return Dataset(
        inputs=np.asarray(inputs, np.float32), labels=np.zeros(len(codes), np.int64), modality="tabular",
        classes=("no", "yes"), favourable=favourable, features=features,
        sensitive={name: Sensitive(name=name, groups=groups, codes=np.asarray(codes, np.int64))},
    )  # fmt: skip


def run(model, data):
    return counterfactual.measure(model, data, predictions(model, data), **counterfactual.settings({}))


def counts(evidence, name, group=None, **settings):
    (found,) = [
        m for m in evidence.measures
        if m.name == name and dict(m.group) == (group or {}) and settings.items() <= m.settings.items()
    ]  # fmt: skip
    return found.statistics["x"], found.statistics["n"]


BINARY = (Feature(name="income", columns=(0,)), Feature(name="sex", columns=(1,)))
# Granted where income + 2 male > 3. Women of income 0 to 4: none of 0-3 is granted, 4 is. Men alike: 2-4 are.
INCOMES = [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]
SEX = [0] * 5 + [1] * 5
BY_HAND = dataset(np.stack([INCOMES, SEX], axis=1), ("Female", "Male"), SEX, BINARY)


def test_the_flips_of_a_linear_model_are_those_worked_out_by_hand():
    """As men, women of income 2 and 3 gain; as women, men of income 2 and 3 lose."""
    evidence = run(linear([1.0, 2.0], bias=-3.0), BY_HAND)
    women, men = {"sex": "Female"}, {"sex": "Male"}
    assert counts(evidence, "decision_change_rate", women, to="Male") == (2, 5)
    assert counts(evidence, "favourable_gained_rate", women, to="Male") == (2, 5)
    assert counts(evidence, "favourable_lost_rate", women, to="Male") == (0, 5)
    assert counts(evidence, "favourable_lost_rate", men, to="Female") == (2, 5)
    assert counts(evidence, "favourable_gained_rate", men, to="Female") == (0, 5)
    assert counts(evidence, "decision_change_rate", attribute="sex") == (4, 10)
    assert [list(row) for row in evidence.tables[0].rows] == [
        ["Female", "Male", 5, 2, 0, 2],
        ["Male", "Female", 5, 2, 2, 0],
    ]


def test_a_model_that_ignores_the_feature_changes_nothing():
    evidence = run(linear([1.0, 0.0], bias=-1.5), BY_HAND)
    assert {m.value for m in evidence.measures} == {0.0}
    assert all(m.high > 0 for m in evidence.measures)


def test_a_one_hot_group_is_set_to_every_other_category():
    """Granted where x + a - b > 0, x = .5: A is granted, B is not, C is."""
    rows = [[0.5, 1, 0, 0]] * 3 + [[0.5, 0, 1, 0]] * 4 + [[0.5, 0, 0, 1]] * 5
    codes = [0] * 3 + [1] * 4 + [2] * 5
    features = (
        Feature(name="x", columns=(0,)),
        Feature(name="race", kind="categorical", columns=(1, 2, 3), categories=("r_A", "r_B", "r_C")),
    )
    evidence = run(
        linear([1.0, 1.0, -1.0, 0.0]), dataset(rows, ("A", "B", "C"), codes, features, name="race")
    )
    assert counts(evidence, "favourable_lost_rate", {"race": "A"}, to="B") == (3, 3)
    assert counts(evidence, "decision_change_rate", {"race": "A"}, to="C") == (0, 3)
    assert counts(evidence, "favourable_gained_rate", {"race": "B"}, to="A") == (4, 4)
    assert counts(evidence, "favourable_gained_rate", {"race": "B"}, to="C") == (4, 4)
    assert counts(evidence, "favourable_lost_rate", {"race": "C"}, to="B") == (5, 5)
    assert counts(evidence, "decision_change_rate", attribute="race") == (12, 12)


def test_a_dropped_category_is_the_pattern_of_zeros():
    features = (Feature(name="sex", kind="categorical", columns=(0,), categories=("Male",)),)
    evidence = run(
        linear([1.0], bias=-0.5), dataset([[0], [0], [1]], ("Female", "Male"), [0, 0, 1], features)
    )
    assert counts(evidence, "favourable_gained_rate", {"sex": "Female"}, to="Male") == (2, 2)


def test_a_value_without_a_known_group_is_not_flipped_and_counted():
    features = (Feature(name="sex", kind="categorical", columns=(0, 1)),)
    data = dataset([[1, 0], [0, 1], [0, 0], [0, 0]], ("F", "M", "unknown"), [0, 1, 2, 2], features)
    evidence = run(linear([0.0, 1.0], bias=-0.5), data)
    assert counts(evidence, "decision_change_rate", attribute="sex") == (2, 2)
    assert any("2 of 4 rows hold a value of 'sex'" in caveat for caveat in evidence.caveats)


def test_without_a_favourable_outcome_changes_have_no_direction():
    data = dataset(BY_HAND.inputs, ("Female", "Male"), SEX, BINARY, favourable=None)
    evidence = run(linear([1.0, 2.0], bias=-3.0), data)
    assert {m.name for m in evidence.measures} == {"decision_change_rate"}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (dataset(BY_HAND.inputs, ("Female", "Male"), SEX, BINARY[:1]), "'sex' is not the name of an input"),
        (
            dataset(
                [[0, 20], [0, 30], [0, 40]], ("young", "old"), [0, 0, 1],
                (Feature(name="income", columns=(0,)), Feature(name="sex", columns=(1,))),
            ),
            "'sex' is an input with 3 values that do not stand for one group each",
        ),
        (dataset([[1, 1]], ("Female", "Male"), [1], BINARY), "fewer than two known groups"),
        (Dataset(inputs=np.zeros((2, 2), np.float32), labels=np.zeros(2, np.int64), modality="tabular",
                 classes=("no", "yes")), "names no sensitive feature"),
    ],
)  # fmt: skip
def test_it_says_why_it_does_not_apply(data, words):
    with pytest.raises(NotApplicable, match=words):
        run(linear([1.0, 2.0]), data)


def test_the_data_are_left_as_they_are():
    before = BY_HAND.inputs.copy()
    run(linear([1.0, 2.0]), BY_HAND)
    assert (BY_HAND.inputs == before).all()
