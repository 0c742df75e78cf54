"""Saliency as evidence: slopes, rows without any, and no picture where there is nothing to say."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from audit.checks.interpretability.saliency import saliency
from audit.dataset import Dataset, Feature
from audit.errors import NotEvaluable
from audit.model import Model
from audit.products.attributions import attributions


def table(rows=50):
    inputs = np.random.default_rng(0).normal(size=(rows, 3)).astype(np.float32)
    features = tuple(Feature(name=name, columns=(i,)) for i, name in enumerate(("age", "pay", "debt")))
    labels = np.zeros(rows, dtype=np.int64)
    return Dataset(inputs=inputs, labels=labels, modality="tabular", classes=("no", "yes"), features=features)


def measured(network, data, **settings):
    model = Model(module=network.eval(), device=torch.device("cpu"))
    return saliency.measure(model, data, attributions(model, data, 0), **settings)


def steep(weights):
    network = nn.Linear(3, 2)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[0.0, 0.0, 0.0], weights]))
    return network


def test_the_steepest_feature_leads():
    data = table()
    found = measured(steep([0.1, -2.0, 0.5]), data)
    assert [row[0] for row in found.tables[0].rows] == ["pay", "debt", "age"]
    assert found.tables[0].rows[0][2] == pytest.approx(2 * data.inputs[:, 1].std(), rel=1e-4)
    assert found.figures[0].title.startswith("pay would move")
    assert "local slope" in " ".join(found.caveats)
    silent = found.measures[0]
    assert (silent.name, silent.value, silent.n, silent.better) == ("zero_gradient_share", 0.0, 50, "lower")
    assert silent.high > 0


class Half(nn.Module):
    """No slope where the first input is negative."""

    def forward(self, x):
        return torch.stack([torch.zeros(len(x)), x[:, 0].relu() + 0 * x.sum(dim=1)], dim=1)


def test_rows_without_any_slope_are_counted():
    data = table()
    found = measured(Half(), data)
    assert found.measures[0].value == pytest.approx((data.inputs[:, 0] <= 0).mean())


def test_a_constant_model_has_no_explanation():
    with pytest.raises(NotEvaluable, match="no explanation"):
        measured(steep([0.0, 0.0, 0.0]), table())


class Broken(nn.Module):
    def forward(self, x):
        return torch.stack([x[:, 0], x[:, 0] * torch.nan], dim=1)


def test_a_model_that_answers_nan_has_no_explanation():
    with pytest.raises(NotEvaluable, match="0 of 50 rows"):
        measured(Broken(), table())


def test_images_come_with_cells_and_a_picture():
    torch.manual_seed(0)
    inputs = np.random.default_rng(0).random((6, 1, 8, 8)).astype(np.float32)
    labels = np.zeros(6, dtype=np.int64)
    data = Dataset(inputs=inputs, labels=labels, modality="image", classes=("a", "b"))
    found = measured(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), data, examples=2)
    assert sum(row[2] for row in found.tables[0].rows) == pytest.approx(1)
    assert found.arrays["images"].shape == (2, 8, 8, 1)
    assert (found.arrays["values"] >= 0).all()
    assert measured(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), data, examples=0).arrays == {}


NAMES = [
    "saliency",
    "integrated_gradients",
    "shap",
    "lime",
    "input_x_gradient",
    "smoothgrad",
    "expected_gradients",
    "occlusion",
    "rise",
    "gradcam",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_check_is_planned_without_loading_torch(name):
    code = (
        f"import sys; from audit.checks.interpretability.{name} import {name} as item; "
        "item.settings({}); assert 'torch' not in sys.modules; print(item.title)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip()


def test_it_asks_for_what_it_needs():
    assert saliency.asks == ("model", "data", "attributions")
    assert saliency.needs == {"logits", "gradients"}
    assert saliency.title.startswith("Saliency")
    assert "2014" in saliency.text
