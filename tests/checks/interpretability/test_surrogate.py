"""Surrogates as evidence: a planted rule is told in words, a model that no rule fits is said to be one."""

import numpy as np
import pytest
import torch
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from audit.checks.interpretability.surrogate import surrogate
from audit.dataset import Dataset, Feature
from audit.errors import NotEvaluable
from audit.model import Model

CPU = torch.device("cpu")


class Formula(nn.Module):
    """Two logits: 0 and a formula of the columns."""

    def __init__(self, formula):
        super().__init__()
        self.formula = formula

    def forward(self, rows):
        found = self.formula(rows)
        return torch.stack([torch.zeros_like(found), found], dim=1)


def table(rows=1000):
    random = np.random.default_rng(0)
    job = np.eye(2)[random.integers(0, 2, rows)]
    inputs = np.concatenate([random.normal(size=(rows, 2)), job], axis=1).astype(np.float32)
    features = (
        Feature(name="age", columns=(0,), unit=10.0, zero=40.0),
        Feature(name="debt", columns=(1,)),
        Feature(name="job", kind="categorical", columns=(2, 3), categories=("clerk", "cook")),
    )
    labels = np.zeros(rows, np.int64)
    return Dataset(inputs=inputs, labels=labels, modality="tabular", classes=("no", "yes"), features=features)


def measured(formula, data=None, **settings):
    model = Model(module=Formula(formula).eval(), device=CPU)
    return surrogate.measure(model, data or table(), 0, **surrogate.settings(settings))


def named(found):
    return {item.name: item for item in found.measures}


def test_a_planted_rule_is_told_in_words_and_needs_no_caveat():
    found = measured(lambda x: torch.where((x[:, 0] > 0.5) & (x[:, 3] > 0.5), 2.0, -2.0))
    known = named(found)
    assert known["tree_fidelity"].value > 0.98
    assert known["tree_fidelity"].n == 500
    assert known["tree_fidelity"].method == "wilson"
    assert not any("surrogate tree does not describe" in text for text in found.caveats)
    rules = {row[0]: row[1:] for row in found.tables[0].rows}
    (text,) = [text for text, row in rules.items() if row[0] == "yes" and row[2] == 1 and row[1] > 30]
    assert "age > 4" in text
    assert "job is cook" in text or "job is not clerk" in text
    assert sum(row[1] for row in rules.values()) == 500


def test_the_gain_over_the_majority_is_counted_row_by_row():
    found = measured(lambda x: x[:, 0] - 1)
    known = named(found)
    gain = known["tree_fidelity"].value - known["majority_agreement"].value
    assert known["tree_fidelity_over_majority"].value == pytest.approx(gain)
    assert known["majority_agreement"].value > 0.8


def test_a_model_that_no_shallow_tree_fits_is_said_to_be_one():
    found = measured(lambda x: torch.sin(9 * x[:, 0]) * torch.sin(9 * x[:, 1]))
    assert named(found)["tree_fidelity"].value < 0.7
    sentences = [text for text in found.caveats if "does not describe this model" in text]
    assert any("surrogate tree" in text for text in sentences)
    assert any("surrogate linear model" in text for text in sentences)
    assert named(found)["linear_r2"].high < 0.2


def test_high_fidelity_that_the_majority_has_too_is_not_taken_for_a_description():
    # 3 % of rows are decided otherwise, by something that the tree cannot see.
    found = measured(lambda x: torch.where(torch.sin(97 * x[:, 0] + 89 * x[:, 1]) > 0.995, 1.0, -1.0))
    assert named(found)["tree_fidelity"].low > 0.9
    assert any("surrogate tree does not describe" in text for text in found.caveats)


def test_a_linear_model_is_its_own_surrogate():
    found = measured(lambda x: 2 * x[:, 0] - x[:, 1])
    known = named(found)
    assert known["linear_r2"].value == pytest.approx(1, abs=1e-6)
    assert known["linear_fidelity"].value > 0.995
    effects = dict(found.tables[1].rows)
    assert effects["age"] == pytest.approx(2, rel=0.05)
    assert effects["debt"] == pytest.approx(-1, rel=0.05)
    assert not any("linear model does not describe" in text for text in found.caveats)
    assert found.figures[0].data["labels"][0] == "age"


def test_the_share_explained_is_that_of_a_slow_computation():
    found = measured(lambda x: x[:, 0] ** 2 + x[:, 0])
    item = named(found)["linear_r2"]
    assert 0.1 < item.low < item.value < item.high < 0.6
    # Var(x^2 + x) = 3, of which x accounts for 1.
    assert item.value == pytest.approx(1 / 3, abs=0.12)


def test_nothing_to_imitate_is_refused():
    with pytest.raises(NotEvaluable, match=r"same decision \(yes\)"):
        measured(lambda x: x[:, 0] * 0 + 3)
    with pytest.raises(NotEvaluable, match="too few"):
        measured(lambda x: x[:, 0], table(10))


def test_three_classes_without_a_favourable_one_follow_the_most_common():
    class Three(nn.Module):
        def forward(self, rows):
            return torch.stack([rows[:, 0], rows[:, 1], torch.full_like(rows[:, 0], 0.8)], dim=1)

    data = Dataset(**{**vars(table()), "classes": ("a", "b", "c")})
    model = Model(module=Three().eval(), device=CPU)
    found = surrogate.measure(model, data, 0, **surrogate.settings({}))
    assert "log-odds of c" in found.figures[0].title
    assert named(found)["tree_fidelity"].value > 0.8


def test_fidelity_is_that_of_rows_that_were_not_fitted_on():
    """A deep tree on few rows learns them by heart; what counts is what it says of the others."""
    from audit.explain.surrogate import halves

    data = table(120)
    steep = torch.tensor([37.0, 41.0])

    def jagged(x):
        return torch.sin((x[:, :2] * steep).sum(dim=1))

    known = named(measured(jagged, data, rows=120, depth=6))
    decisions = (jagged(torch.tensor(data.inputs)) > 0).long().numpy()
    values = data.inputs.astype(np.float64)
    values[:, 0] = values[:, 0] * 10 + 40
    fitted_on, held = halves(120, 0)
    assert set(fitted_on) | set(held) == set(range(120))
    assert not set(fitted_on) & set(held)
    tree = DecisionTreeClassifier(max_depth=6, min_samples_leaf=5, random_state=0)
    tree.fit(values[fitted_on], decisions[fitted_on])
    on_held = (tree.predict(values[held]) == decisions[held]).mean()
    assert (tree.predict(values[fitted_on]) == decisions[fitted_on]).mean() > on_held + 0.05
    assert known["tree_fidelity"].value == pytest.approx(on_held)
