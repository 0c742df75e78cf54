"""The checks that stand on captum, shap and lime: measures, the gate, caveats, refusals."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import relu

from audit.check import Check
from audit.checks.interpretability.deep_lift import deep_lift
from audit.checks.interpretability.deep_shap import deep_shap
from audit.checks.interpretability.layer_conductance import layer_conductance
from audit.checks.interpretability.lime_library import lime_library
from audit.checks.interpretability.lrp import lrp
from audit.checks.interpretability.permutation_shap import permutation_shap
from audit.dataset import Dataset, Feature
from audit.errors import ConfigError, NotApplicable, NotEvaluable
from audit.model import Model
from audit.products.attributions import attributions
from audit.stats import interval_at

CHECKS = (deep_lift, deep_shap, layer_conductance, lime_library, lrp, permutation_shap)
ADDING_UP = (deep_lift, deep_shap, layer_conductance, permutation_shap)


def table(columns=4, rows=60):
    inputs = np.random.default_rng(0).normal(size=(rows, columns)).astype(np.float32)
    features = tuple(Feature(name=f"f{i}", columns=(i,)) for i in range(columns))
    labels = np.zeros(rows, dtype=np.int64)
    return Dataset(inputs=inputs, labels=labels, modality="tabular", classes=("no", "yes"), features=features)


def network(columns=4):
    """Column 2 counts most."""
    torch.manual_seed(0)
    found = nn.Sequential(nn.Linear(columns, 12), nn.Tanh(), nn.Linear(12, 2))
    with torch.no_grad():
        found[0].weight[:, 2] *= 6
    return found


def measured(check, net, data, **settings):
    model = Model(module=net.eval(), device=torch.device("cpu"))
    product = {"attributions": attributions(model, data, 0), "model": model, "data": data}
    known = {name: product[name] for name in ("model", "data", "attributions") if name in check.asks}
    return check.measure(**known, **check.settings(settings))


def named(found):
    return {item.name: item for item in found.measures if not item.group}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_each_gives_evidence_that_can_be_derived_again(check):
    found = measured(check, network(), table(), rows=20)
    assert isinstance(check, Check)
    assert "logits" in check.needs
    if check is not layer_conductance:
        assert found.figures[0].data["labels"][0] == "f2"
    for item in found.measures:
        assert item.low <= item.value <= item.high
        assert interval_at(item, item.level) == pytest.approx((item.low, item.high))
        assert not item.unreliable
    assert found.caveats


@pytest.mark.parametrize("check", ADDING_UP, ids=lambda check: check.name)
def test_contributions_that_add_up_are_said_to(check):
    known = named(measured(check, network(), table(), rows=20))
    assert known["completeness_met_share"].statistics == {"x": 20, "n": 20}
    assert known["completeness_error"].value < 0.02


@pytest.mark.parametrize("check", [deep_lift, deep_shap, layer_conductance], ids=lambda check: check.name)
def test_contributions_that_do_not_add_up_are_shown_and_marked(check):
    settings = {"max_steps": 1, "steps": 1, "layer": "0"} if check is layer_conductance else {}
    found = measured(check, network(), table(), rows=20, bound=1e-12, **settings)
    leading = [item for item in found.measures if item.name == "mean_abs_attribution"]
    assert leading
    assert all("of 20 rows miss the difference" in item.unreliable for item in leading)
    assert not any(item.unreliable for item in found.measures if item.name.startswith("completeness"))
    assert found.caveats[0].startswith("Not to be relied on: the contributions of")


def test_a_shortcut_around_the_layer_is_seen_by_its_sum():
    class Shortcut(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside, self.last = network(), nn.Linear(4, 2)

        def forward(self, rows):
            return self.inside(rows) + self.last(rows)

    torch.manual_seed(3)
    found = measured(layer_conductance, Shortcut(), table(), rows=20, layer="inside.0", max_steps=64)
    assert any(item.unreliable for item in found.measures)


@pytest.mark.parametrize("check", [deep_lift, deep_shap, lrp], ids=lambda check: check.name)
def test_a_functional_activation_is_refused_with_the_method_to_use(check):
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 2)

        def forward(self, rows):
            return self.last(relu(self.first(rows)))

    with pytest.raises(NotApplicable, match=r"'relu' .* interpretability.integrated_gradients"):
        measured(check, Functional(), table(), rows=5)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_a_constant_model_has_no_explanation(check):
    net = network()
    nn.init.zeros_(net[2].weight)
    if check is lrp:
        nn.init.zeros_(net[2].bias)
    with pytest.raises(NotEvaluable, match="no explanation"):
        measured(check, net, table(), rows=5)


def test_biases_keep_part_of_the_score_from_the_inputs():
    net = nn.Sequential(nn.Linear(4, 2))
    with torch.no_grad():
        net[0].bias.fill_(0)
    assert named(measured(lrp, net, table(), rows=20))["absorbed_share"].value < 1e-4
    with torch.no_grad():
        net[0].bias.fill_(5.0)
    assert named(measured(lrp, net, table(), rows=20))["absorbed_share"].value > 0.5


def test_the_sampling_error_of_permutations_falls_with_their_number():
    few, many = (
        named(measured(permutation_shap, network(), table(), rows=10, permutations=count, background=3))
        for count in (3, 40)
    )
    first, second = few["relative_standard_error"], many["relative_standard_error"]
    assert 0 < second.value < first.value
    assert not math.isnan(second.value)


def test_images_are_drawn():
    inputs = np.random.default_rng(0).random((6, 1, 8, 8)).astype(np.float32)
    data = Dataset(inputs=inputs, labels=np.zeros(6, dtype=np.int64), modality="image", classes=("a", "b"))
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 2))
    for check in (deep_lift, deep_shap, lrp):
        found = measured(check, net, data, rows=3, examples=2)
        assert found.arrays["values"].shape == (2, 8, 8)
    for check in (permutation_shap, lime_library):
        found = measured(check, net, data, rows=2, examples=1, grid=2)
        assert len(np.unique(found.arrays["values"][0])) <= 4


def test_settings_are_checked():
    with pytest.raises(ConfigError, match="permutations"):
        permutation_shap.settings({"permutations": 1})
    with pytest.raises(ConfigError, match="bound"):
        deep_lift.settings({"bound": 0})
    with pytest.raises(ConfigError, match="samples"):
        lime_library.settings({"samples": 1})
