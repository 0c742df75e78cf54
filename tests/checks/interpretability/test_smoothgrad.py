"""SmoothGrad and VarGrad as evidence: averaged slopes, their sampling error, the noise told."""

import numpy as np
import pytest
import torch
from torch import nn

from audit.checks.interpretability.smoothgrad import smoothgrad
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


def linear(weights, bias=0.0):
    network = nn.Linear(3, 2)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[0.0, 0.0, 0.0], weights]))
        network.bias.copy_(torch.tensor([0.0, bias]))
    return network


def measured(network, data, **settings):
    model = Model(module=network.eval(), device=torch.device("cpu"))
    before = state_hash(model.module)
    found = smoothgrad.measure(model, data, attributions(model, data, 0), **smoothgrad.settings(settings))
    assert state_hash(model.module) == before
    return found


def measures(found):
    return {item.name: item for item in found.measures if not item.group}


def test_a_constant_model_has_no_explanation():
    with pytest.raises(NotEvaluable, match="no explanation"):
        measured(linear([0.0, 0.0, 0.0]), table())


def test_the_steepest_feature_leads_without_sampling_error():
    data = table()
    found = measured(linear([0.1, -2.0, 0.5]), data)
    assert [row[0] for row in found.tables[0].rows] == ["pay", "debt", "age"]
    assert found.tables[0].rows[0][2] == pytest.approx(2 * data.inputs[:, 1].std(), rel=1e-4)
    assert measures(found)["relative_standard_error"].value < 1e-5
    assert found.figures[0].title.startswith("pay would move")
    assert any("50 copies with noise of 0.15" in caveat for caveat in found.caveats)


class Wavy(nn.Module):
    """Steep in age; bent in pay alone."""

    def forward(self, x):
        answer = 5 * x[:, 0] + (6 * x[:, 1]).sin() / 2
        return torch.stack([torch.zeros_like(answer), answer], dim=1)


def test_the_variance_shows_where_the_slope_changes():
    mean = measured(Wavy(), table())
    variance = measured(Wavy(), table(), statistic="variance")
    assert mean.tables[0].rows[0][0] == "age"
    assert variance.tables[0].rows[0][0] == "pay"
    assert "squared" in variance.tables[0].note
    assert "slope" in variance.figures[0].title
    assert 0.05 < measures(variance)["relative_standard_error"].value < 0.5


def test_the_two_statistics_have_names_of_their_own():
    """A doubt about the variance must not meet the mean."""
    for statistic, name in (("mean", "mean_abs_attribution"), ("variance", "mean_gradient_variance")):
        found = measured(Wavy(), table(), statistic=statistic)
        assert {m.name for m in found.measures} == {name, "relative_standard_error"}


def test_more_copies_have_less_error():
    few, many = (measures(measured(Wavy(), table(), samples=n)) for n in (16, 256))
    ratio = few["relative_standard_error"].value / many["relative_standard_error"].value
    assert 2.5 < ratio < 6


def test_three_copies_have_no_sampling_error_that_can_be_told():
    error = measures(measured(Wavy(), table(), samples=3))["relative_standard_error"]
    assert error.value is None
    assert "too few" in error.reason


def test_images_come_with_a_picture_and_the_range_as_the_unit_of_noise():
    torch.manual_seed(0)
    found = measured(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), images(), examples=2)
    assert found.arrays["values"].shape == (2, 8, 8)
    assert any("range of the images" in caveat for caveat in found.caveats)
