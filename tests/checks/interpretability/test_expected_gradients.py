"""Expected gradients as evidence: completeness within its own error, the background named."""

import numpy as np
import pytest
import torch
from torch import nn

from audit.checks.interpretability.expected_gradients import expected_gradients
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
    found = expected_gradients.measure(
        model, data, attributions(model, data, 0), **expected_gradients.settings(settings)
    )
    assert state_hash(model.module) == before
    return found


def measures(found):
    return {item.name: item for item in found.measures if not item.group}


def test_a_constant_model_has_no_explanation():
    with pytest.raises(NotEvaluable, match="no explanation"):
        measured(linear([0.0, 0.0, 0.0]), table())


def curved():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 2))


def test_completeness_holds_within_its_standard_error():
    found = measured(curved(), table())
    known = measures(found)
    within = known["completeness_within_error_share"]
    assert (within.n, within.better) == (60, "higher")
    assert within.value > 0.9
    assert 0.001 < known["relative_standard_error"].value < 0.2
    assert any("60 background rows" in caveat for caveat in found.caveats)


class Lying(nn.Module):
    """Answers with one function and slopes with another: a straight-through estimator left in."""

    def __init__(self):
        super().__init__()
        self.answer, self.slope = curved(), nn.Linear(3, 2)

    def forward(self, x):
        soft = self.slope(x)
        return soft + (3 * self.answer(x) - soft).detach()


def test_slopes_that_do_not_belong_to_the_answers_are_found():
    within = measures(measured(Lying(), table()))["completeness_within_error_share"]
    assert within.high < 0.8


def test_a_linear_model_is_divided_exactly_and_the_main_feature_leads():
    data = table()
    found = measured(linear([0.1, -2.0, 0.5]), data, background=60, samples=8 * 60)
    assert found.tables[0].rows[0][0] == "pay"
    inside = 2 * np.abs(data.inputs[:, 1] - data.inputs[:, 1].mean())
    assert found.tables[0].rows[0][2] == pytest.approx(inside.mean(), rel=1e-4)
    assert measures(found)["completeness_within_error_share"].value == 1


def test_one_sub_design_leaves_the_error_undefined():
    known = measures(measured(curved(), table(), samples=2))
    assert known["relative_standard_error"].value is None
    assert known["completeness_within_error_share"].value is None


def test_images_are_explained():
    torch.manual_seed(0)
    found = measured(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), images())
    assert found.arrays["values"].shape == (4, 8, 8)
