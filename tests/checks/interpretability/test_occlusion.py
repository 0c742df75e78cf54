"""Occlusion as evidence: what the answer needs, what hides it, rows that nothing moves."""

import numpy as np
import pytest
import torch
from torch import nn

from audit.checks.interpretability.occlusion import occlusion
from audit.dataset import Dataset, Feature
from audit.errors import NotEvaluable
from audit.model import Model, state_hash
from audit.products.attributions import attributions


def table(rows=60):
    inputs = np.random.default_rng(0).normal(size=(rows, 3)).astype(np.float32)
    features = tuple(Feature(name=name, columns=(i,)) for i, name in enumerate(("age", "pay", "debt")))
    labels = np.zeros(rows, dtype=np.int64)
    return Dataset(inputs=inputs, labels=labels, modality="tabular", classes=("no", "yes"), features=features)


def images(rows=6, channels=1):
    inputs = np.random.default_rng(0).random((rows, channels, 8, 8)).astype(np.float32)
    labels = np.zeros(rows, dtype=np.int64)
    return Dataset(inputs=inputs, labels=labels, modality="image", classes=("a", "b"))


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
    found = occlusion.measure(model, data, attributions(model, data, 0), **occlusion.settings(settings))
    assert state_hash(model.module) == before
    return found


def measures(found):
    return {item.name: item for item in found.measures if not item.group}


def test_a_constant_model_has_no_explanation():
    with pytest.raises(NotEvaluable, match="no explanation"):
        measured(linear([0.0, 0.0, 0.0]), table())


def test_a_linear_model_needs_its_features_as_much_as_they_count():
    data = table()
    found = measured(linear([0.1, -2.0, 0.5]), data)
    assert [row[0] for row in found.tables[0].rows] == ["pay", "debt", "age"]
    inside = 2 * np.abs(data.inputs[:, 1] - data.inputs[:, 1].mean())
    assert found.tables[0].rows[0][2] == pytest.approx(inside.mean(), rel=1e-5)
    assert measures(found)["unmoved_share"].value == 0
    assert any("its mean in the data" in caveat for caveat in found.caveats)
    assert not any("window" in caveat for caveat in found.caveats)


class Half(nn.Module):
    """Answers alike where pay is negative."""

    def forward(self, x):
        return torch.stack([torch.zeros(len(x)), x[:, 1].relu()], dim=1)


def test_rows_that_nothing_moves_are_counted():
    data = table()
    found = measures(measured(Half(), data, baseline="lowest"))["unmoved_share"]
    assert found.value == pytest.approx((data.inputs[:, 1] <= 0).mean())
    assert found.high > found.value


def test_a_window_is_told_with_its_picture():
    torch.manual_seed(0)
    found = measured(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), images(), window=4, stride=2, examples=3)
    assert found.arrays["values"].shape == (3, 8, 8)
    assert any("4 x 4 pixels and moves by 2" in caveat for caveat in found.caveats)


@pytest.mark.parametrize(("baseline", "told"), [("zero", "zeros"), ("lowest", "lowest"), ("auto", "mean")])
def test_what_hides_is_named(baseline, told):
    found = measured(linear([0.1, -2.0, 0.5]), table(), baseline=baseline)
    assert any(told in caveat for caveat in found.caveats)


def test_series_are_hidden_a_stretch_at_a_time():
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    with torch.no_grad():
        network[1].weight.zero_()
        network[1].weight[1, 8 + 4 : 8 + 6] = 3.0
    found = measured(network, series(), window=2, stride=2)
    assert found.tables[0].rows[0][0] == "channel 2, steps 5-6"
    assert all(row[2] == pytest.approx(0, abs=1e-6) for row in found.tables[0].rows[1:])
    assert any("2 steps of one channel" in caveat for caveat in found.caveats)
    assert "channel 2" in next(item for item in found.figures if item.kind == "curve").title
