"""SHAP as evidence: shares that add up, the sampling error, the background named."""

import numpy as np
import pytest
import torch
from torch import nn

from audit.checks.interpretability.shap import shap
from audit.dataset import Dataset, Feature
from audit.errors import NotEvaluable
from audit.model import Model
from audit.products.attributions import attributions


def table(columns=4, rows=40):
    inputs = np.random.default_rng(0).normal(size=(rows, columns)).astype(np.float32)
    features = tuple(Feature(name=f"f{i}", columns=(i,)) for i in range(columns))
    labels = np.zeros(rows, dtype=np.int64)
    return Dataset(inputs=inputs, labels=labels, modality="tabular", classes=("no", "yes"), features=features)


def network(columns=4):
    torch.manual_seed(0)
    found = nn.Sequential(nn.Linear(columns, 12), nn.Tanh(), nn.Linear(12, 2))
    with torch.no_grad():
        found[0].weight[:, 2] *= 6
    return found


def measured(net, data, **settings):
    model = Model(module=net.eval(), device=torch.device("cpu"))
    return shap.measure(model, data, attributions(model, data, 0), **settings)


def measures(found):
    return {item.name: item for item in found.measures if not item.group}


def test_few_features_are_explained_exactly():
    found = measured(network(), table(), rows=30, background=7)
    known = measures(found)
    assert known["additivity_error"].value < 1e-6
    assert known["additivity_error"].n == 30
    assert known["relative_standard_error"].value == 0
    assert found.figures[0].data["labels"][0] == "f2"
    assert any("7 background rows" in caveat for caveat in found.caveats)
    assert any("All 14 coalitions" in caveat for caveat in found.caveats)


def test_the_sampling_error_of_many_features_falls_with_the_samples():
    few, many = (
        measures(measured(network(14), table(14), rows=10, background=4, samples=samples))
        for samples in (100, 1500)
    )
    first, second = few["relative_standard_error"], many["relative_standard_error"]
    assert 0 < second.value < first.value < 0.5
    assert first.better == "lower"
    assert few["additivity_error"].value < 1e-6


def test_a_constant_model_has_no_explanation():
    net = network()
    nn.init.zeros_(net[2].weight)
    with pytest.raises(NotEvaluable, match="no explanation"):
        measured(net, table())


def test_an_image_is_explained_by_its_cells():
    torch.manual_seed(0)
    inputs = np.random.default_rng(0).random((6, 3, 6, 6)).astype(np.float32)
    labels = np.zeros(6, dtype=np.int64)
    data = Dataset(inputs=inputs, labels=labels, modality="image", classes=("a", "b"))
    net = nn.Sequential(nn.Flatten(), nn.Linear(108, 2))
    found = measured(net, data, grid=2, examples=1)
    assert any("2 x 2 cells" in caveat for caveat in found.caveats)
    values = found.arrays["values"][0]
    assert len(np.unique(values)) <= 4
    assert (values[:3, :3] == values[0, 0]).all()


def test_it_needs_no_gradients():
    assert shap.needs == {"logits"}
    assert shap.settings({})["grid"] == 4
