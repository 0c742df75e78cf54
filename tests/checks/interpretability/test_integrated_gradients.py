"""Integrated gradients as evidence: contributions, completeness told honestly, the baseline named."""

import numpy as np
import pytest
import torch
from torch import nn

from audit.checks.interpretability.expected_gradients import expected_gradients
from audit.checks.interpretability.input_x_gradient import input_x_gradient
from audit.checks.interpretability.integrated_gradients import integrated_gradients
from audit.dataset import Dataset, Feature
from audit.errors import NotEvaluable
from audit.model import Model
from audit.products.attributions import attributions


def table(rows=60):
    inputs = np.random.default_rng(0).normal(size=(rows, 3)).astype(np.float32)
    features = tuple(Feature(name=name, columns=(i,)) for i, name in enumerate(("age", "pay", "debt")))
    labels = np.zeros(rows, dtype=np.int64)
    return Dataset(inputs=inputs, labels=labels, modality="tabular", classes=("no", "yes"), features=features)


def measured(network, data, **settings):
    model = Model(module=network.eval(), device=torch.device("cpu"))
    return integrated_gradients.measure(model, data, attributions(model, data, 0), **settings)


def smooth():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
    with torch.no_grad():
        network[0].weight[:, [0, 2]] *= 0.2
    return network


def measures(found):
    return {item.name: item for item in found.measures if not item.group}


def test_a_smooth_model_is_explained_completely():
    found = measured(smooth(), table())
    known = measures(found)
    assert known["completeness_error"].value < 0.01
    assert known["completeness_error"].better == "lower"
    assert known["completeness_met_share"].value == 1.0
    assert known["completeness_met_share"].low > 0.9
    assert found.figures[0].data["labels"][0] == "pay"
    assert any("the mean row of the data" in caveat for caveat in found.caveats)
    assert not any("not met" in caveat for caveat in found.caveats)


class Stairs(nn.Module):
    """Almost a step function: the path sees slope only within a sliver of it."""

    def forward(self, x):
        return torch.stack([torch.zeros(len(x)), (2000 * x[:, 0]).tanh() + x[:, 1] * 0.01], dim=1)


def test_completeness_that_is_not_met_is_told():
    found = measured(Stairs(), table(), max_steps=64)
    share = measures(found)["completeness_met_share"]
    assert share.value < 0.9
    assert any("Completeness was not met" in caveat and "64 steps" in caveat for caveat in found.caveats)
    steps = next(item for item in found.tables if item.name == "completeness")
    assert sum(row[1] for row in steps.rows) == 60
    assert steps.rows[-1][0] == 64
    worst = next(caveat for caveat in found.caveats if "not met" in caveat)
    assert "more than 0.01 of it, and by up to" in worst
    told = float(worst.split("by up to ")[1].split(" ")[0])
    assert told >= steps.rows[-1][3] * 0.99


def test_steps_are_doubled_until_one_percent_is_met():
    torch.manual_seed(0)
    bent = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 2))
    found = measured(bent, table(), max_steps=4096)
    assert measures(found)["completeness_met_share"].value > 0.95
    steps = next(item for item in found.tables if item.name == "completeness")
    assert len(steps.rows) > 1
    assert measures(measured(bent, table(), bound=10.0))["completeness_met_share"].value == 1


@pytest.mark.parametrize(("baseline", "named"), [("zero", "zeros"), ("lowest", "lowest value")])
def test_the_baseline_is_named(baseline, named):
    found = measured(smooth(), table(), baseline=baseline)
    assert any(named in caveat for caveat in found.caveats)


def test_black_is_the_baseline_of_images():
    torch.manual_seed(0)
    inputs = np.random.default_rng(0).random((5, 3, 8, 8)).astype(np.float32)
    labels = np.zeros(5, dtype=np.int64)
    data = Dataset(inputs=inputs, labels=labels, modality="image", classes=("a", "b"))
    found = measured(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), data)
    assert any("(black)" in caveat for caveat in found.caveats)
    assert found.arrays["values"].shape == (4, 8, 8)


def test_a_constant_model_has_no_explanation():
    network = smooth()
    nn.init.zeros_(network[2].weight)
    with pytest.raises(NotEvaluable, match="no explanation"):
        measured(network, table())


def test_its_docstring_says_what_it_does_not_answer():
    assert integrated_gradients.needs == {"logits", "gradients"}
    assert "Another baseline" in integrated_gradients.text


class Overflowing(nn.Module):
    """Finite at some rows, infinite at the baseline."""

    def forward(self, x):
        answer = torch.where(x[:, 0] > 0.5, x[:, 1], torch.inf)
        return torch.stack([torch.zeros(len(x)), answer], dim=1)


@pytest.mark.parametrize(("check", "name"), [
    (integrated_gradients, "completeness_error"), (expected_gradients, "completeness_error"),
    (input_x_gradient, "gap_to_zero_input"),
])  # fmt: skip
def test_a_difference_to_an_infinite_answer_is_no_number(check, name):
    data = table()
    model = Model(module=Overflowing().eval(), device=torch.device("cpu"))
    found = check.measure(model, data, attributions(model, data, 0))
    (error,) = [item for item in found.measures if item.name == name]
    assert error.value is None
    assert "are finite" in error.reason
    assert not any("nan" in text or "inf " in text for text in found.caveats)
    assert all(
        np.isfinite(row[-1]) for item in found.tables if item.name == "completeness" for row in item.rows
    )
