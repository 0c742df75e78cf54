"""Input x gradient as evidence: what it would be from zero, and how far it is from a division."""

import numpy as np
import pytest
import torch
from torch import nn

from audit.checks.interpretability.input_x_gradient import input_x_gradient
from audit.dataset import Dataset, Feature
from audit.errors import NotEvaluable
from audit.model import Model, state_hash
from audit.products.attributions import attributions


def table(rows=60):
    inputs = np.random.default_rng(0).normal(size=(rows, 3)).astype(np.float32)
    features = tuple(Feature(name=name, columns=(i,)) for i, name in enumerate(("age", "pay", "debt")))
    labels = np.zeros(rows, dtype=np.int64)
    return Dataset(inputs=inputs, labels=labels, modality="tabular", classes=("no", "yes"), features=features)


def series(rows=30):
    inputs = np.random.default_rng(0).normal(size=(rows, 2, 8)).astype(np.float32)
    labels = np.zeros(rows, dtype=np.int64)
    return Dataset(inputs=inputs, labels=labels, modality="series", classes=("a", "b"))


def linear(weights, bias=0.0):
    network = nn.Linear(3, 2)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[0.0, 0.0, 0.0], weights]))
        network.bias.copy_(torch.tensor([0.0, bias]))
    return network


def measured(network, data, **settings):
    model = Model(module=network.eval(), device=torch.device("cpu"))
    before = state_hash(model.module)
    found = input_x_gradient.measure(
        model, data, attributions(model, data, 0), **input_x_gradient.settings(settings)
    )
    assert state_hash(model.module) == before
    return found


def measures(found):
    return {item.name: item for item in found.measures if not item.group}


def test_a_constant_model_has_no_explanation():
    with pytest.raises(NotEvaluable, match="no explanation"):
        measured(linear([0.0, 0.0, 0.0]), table())


def test_a_linear_model_leaves_no_gap():
    data = table()
    found = measured(linear([0.1, -2.0, 0.5], bias=1.0), data)
    assert [row[0] for row in found.tables[0].rows] == ["pay", "debt", "age"]
    assert found.tables[0].rows[0][2] == pytest.approx(2 * np.abs(data.inputs[:, 1]).mean(), rel=1e-5)
    assert measures(found)["gap_to_zero_input"].value < 1e-4
    assert any("input of zeros" in caveat for caveat in found.caveats)


class Saturated(nn.Module):
    """No slope away from 0, although the input decides everything."""

    def forward(self, x):
        answer = (20 * x[:, 1]).tanh() + 1e-3 * x[:, 0]
        return torch.stack([torch.zeros_like(answer), answer], dim=1)


def test_a_saturated_model_shows_a_gap():
    gap = measures(measured(Saturated(), table()))["gap_to_zero_input"]
    assert gap.value > 0.5
    assert gap.low > 0.3


def test_series_are_told_by_channel_and_stretch():
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    found = measured(network, series(), grid=2)
    assert {row[0] for row in found.tables[0].rows} == {
        f"channel {channel}, steps {steps}" for channel in (1, 2) for steps in ("1-4", "5-8")
    }
    assert any("2 stretches" in caveat for caveat in found.caveats)
    curve = next(item for item in found.figures if item.kind == "curve")
    assert [line["x"] for line in curve.data["series"]] == [list(range(1, 9))] * 2
