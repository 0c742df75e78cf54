"""Permutation importance as evidence: planted features are found, useless ones are not, doubles are named."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

from audit.checks.interpretability.permutation import correlated_pairs, permutation
from audit.dataset import Dataset, Feature
from audit.errors import NotApplicable, NotEvaluable
from audit.model import Model
from audit.stats import interval_at

CPU = torch.device("cpu")


def linear(weights, bias=0.0):
    net = nn.Linear(len(weights), 2)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[0.0] * len(weights), list(weights)]))
        net.bias.copy_(torch.tensor([0.0, bias]))
    return Model(module=net.eval(), device=CPU)


def table(rows=500, seed=0):
    random = np.random.default_rng(seed)
    job = np.eye(2)[random.integers(0, 2, rows)]
    inputs = np.concatenate([random.normal(size=(rows, 2)), job], axis=1).astype(np.float32)
    features = (
        Feature(name="age", columns=(0,)),
        Feature(name="noise", columns=(1,)),
        Feature(name="job", kind="categorical", columns=(2, 3), categories=("a", "b")),
    )
    labels = (2 * inputs[:, 0] + inputs[:, 2] - inputs[:, 3] > 0).astype(np.int64)
    return Dataset(inputs=inputs, labels=labels, modality="tabular", classes=("no", "yes"), features=features)


def measured(model, data, seed=0, **settings):
    return permutation.measure(model, data, seed, **permutation.settings(settings))


def named(found, name):
    return {item.group["feature"]: item for item in found.measures if item.name == name}


def test_the_planted_features_are_found_and_the_useless_one_is_zero():
    found = measured(linear((4.0, 0.0, 2.0, -2.0)), table())
    drops, rises = named(found, "accuracy_drop"), named(found, "log_loss_increase")
    assert drops["age"].low > drops["job"].high > 0.1
    assert drops["noise"].value == 0
    assert rises["noise"].value == pytest.approx(0, abs=1e-6)
    assert found.figures[0].data["labels"][0] == "age"
    assert found.figures[0].title == "The model's quality rests on age most"
    assert interval_at(drops["age"], 0.95) == (drops["age"].low, drops["age"].high)


def test_a_model_of_noise_has_nothing_to_lose():
    data = table()
    wrong = Dataset(
        **{**vars(data), "labels": np.random.default_rng(3).integers(0, 2, len(data)), "missing": {}}
    )
    found = measured(linear((4.0, 0.0, 2.0, -2.0)), wrong)
    assert named(found, "accuracy_drop")["age"].low < 0
    assert found.figures[0].title.startswith("No feature is shown")


def test_it_agrees_with_scikit_learn_on_real_data():
    inputs, labels = load_breast_cancer(return_X_y=True)
    inputs = StandardScaler().fit_transform(inputs[:, :8]).astype(np.float32)
    fitted = LogisticRegression(C=1.0).fit(inputs, labels)
    data = Dataset(
        inputs=inputs, labels=labels.astype(np.int64), modality="tabular", classes=("malignant", "benign")
    )
    found = measured(linear(fitted.coef_[0].tolist(), float(fitted.intercept_[0])), data, repeats=20)
    drops = named(found, "accuracy_drop")
    theirs = permutation_importance(fitted, inputs, labels, n_repeats=20, random_state=1)
    for index, item in enumerate(drops[f"column {i + 1}"] for i in range(8)):
        assert item.low - 0.005 <= theirs.importances_mean[index] <= item.high + 0.005
    assert any("pairs of features correlate" in text for text in found.caveats)
    assert found.tables[1].rows[0][2] > 0.99


def test_correlation_is_that_of_the_closest_columns_and_constants_have_none():
    data = table()
    inputs = np.concatenate([data.inputs, -data.inputs[:, :1], np.ones((500, 1), np.float32)], axis=1)
    features = (*data.features, Feature(name="twin", columns=(4,)), Feature(name="one", columns=(5,)))
    ((first, second, value),) = correlated_pairs(features, inputs, 0.5)
    assert (first, second) == ("age", "twin")
    assert value == pytest.approx(1)
    assert value == pytest.approx(abs(np.corrcoef(inputs[:, 0], inputs[:, 4])[0, 1]))


def test_rows_that_cannot_be_judged_are_left_out_or_refused():
    class Broken(nn.Module):
        def forward(self, rows):
            scores = torch.stack([rows[:, 0], -rows[:, 0]], dim=1)
            return torch.where(rows[:, 1:2] > 1.5, torch.nan, scores)

    model = Model(module=Broken().eval(), device=CPU)
    found = measured(model, table(), repeats=1)
    assert any("not finite and are left out" in text for text in found.caveats)
    # Rows with a finite score of their own: none of the values that can be drawn breaks another row.
    assert all(item.value is not None for item in found.measures)

    class Mixed(nn.Module):
        def forward(self, rows):
            scores = torch.stack([rows[:, 0], -rows[:, 0]], dim=1)
            return torch.where((rows[:, :1] > 0) & (rows[:, 3:] > 0), torch.nan, scores)

    data = table()
    data.inputs[:, 2] = data.inputs[:, 0] > 0
    data.inputs[:, 3] = data.inputs[:, 0] <= 0
    found = measured(Model(module=Mixed().eval(), device=CPU), data)
    assert named(found, "accuracy_drop")["age"].value is None
    assert "not finite" in named(found, "accuracy_drop")["age"].reason
    assert named(found, "accuracy_drop")["noise"].value == 0
    with pytest.raises(NotEvaluable, match="too few to permute"):
        measured(linear((1.0, 0, 0, 0)), table(rows=1))
    bare = {key: value for key, value in vars(table()).items() if key != "labels"}
    with pytest.raises(NotApplicable, match="no true outcomes"):
        measured(linear((1.0, 0, 0, 0)), Dataset(**bare))


def test_a_model_without_classes_has_no_decision_that_becomes_worse():
    model = Model(module=nn.Linear(4, 1).eval(), device=CPU)
    with pytest.raises(NotApplicable, match="one output and no classes"):
        measured(model, table(40))
