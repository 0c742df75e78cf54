"""LIME as evidence: how well the simple model imitates is told beside its weights."""

import numpy as np
import pytest
import torch
from torch import nn

from audit.checks.interpretability.lime import lime
from audit.checks.interpretability.lime_library import lime_library
from audit.dataset import Dataset, Feature
from audit.errors import NotEvaluable
from audit.explain.features import superpixels
from audit.model import Model
from audit.products.attributions import attributions


def table(rows=40):
    inputs = np.random.default_rng(0).normal(size=(rows, 4)).astype(np.float32)
    features = tuple(Feature(name=f"f{i}", columns=(i,)) for i in range(4))
    labels = np.zeros(rows, dtype=np.int64)
    return Dataset(inputs=inputs, labels=labels, modality="tabular", classes=("no", "yes"), features=features)


def measured(net, data, **settings):
    model = Model(module=net.eval(), device=torch.device("cpu"))
    return lime.measure(model, data, attributions(model, data, 0), **settings)


def measures(found):
    return {item.name: item for item in found.measures if not item.group}


def linear():
    torch.manual_seed(0)
    net = nn.Linear(4, 2)
    with torch.no_grad():
        net.weight[1, 3] = 5
    return net


class Waves(nn.Module):
    """A model that no straight line describes."""

    def forward(self, x):
        return torch.stack([torch.zeros(len(x)), 3 * (9 * x[:, 0]).sin() * (7 * x[:, 1]).cos()], dim=1)


def test_a_straight_model_is_imitated_and_its_steepest_feature_leads():
    found = measured(linear(), table())
    known = measures(found)
    assert known["local_r2"].value > 0.98
    assert known["local_r2"].better == "higher"
    assert known["local_prediction_error"].value < 0.2
    assert known["local_prediction_error"].unit == "log-odds"
    assert found.figures[0].data["labels"][0] == "f3"


def test_a_model_that_no_straight_line_describes_is_found_out():
    known = measures(measured(Waves(), table()))
    assert known["local_r2"].value < 0.2
    assert known["local_prediction_error"].value > 0.5


def test_a_constant_model_has_no_explanation():
    net = linear()
    nn.init.zeros_(net.weight)
    with pytest.raises(NotEvaluable, match="no explanation"):
        measured(net, table())


@pytest.mark.parametrize("segments", ["grid", "slic"])
@pytest.mark.parametrize("fill", ["mean", 0.5])
def test_images_are_cut_and_filled_as_told(segments, fill):
    torch.manual_seed(0)
    inputs = np.random.default_rng(0).random((5, 3, 8, 8)).astype(np.float32)
    labels = np.zeros(5, dtype=np.int64)
    data = Dataset(inputs=inputs, labels=labels, modality="image", classes=("a", "b"))
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    found = measured(net, data, segments=segments, fill=fill, samples=400)
    text = " ".join(found.caveats)
    assert ("superpixels" in text) == (segments == "slic")
    assert ("mean colour" in text) == (fill == "mean")
    assert measures(found)["local_r2"].value > 0.5
    assert found.arrays["values"].shape == (4, 8, 8)
    assert len(found.tables[0].rows) == 16


def test_settings_are_checked_by_their_types():
    assert lime.settings({"fill": 0.25})["fill"] == 0.25
    assert lime.settings({})["fill"] == "mean"
    assert lime.needs == {"logits"}


@pytest.mark.parametrize("check", [lime, lime_library], ids=["native", "library"])
def test_images_may_be_cut_by_quickshift(check):
    """Two halves of different brightness, and a model that sees the right one alone."""

    class Right(nn.Module):
        def forward(self, x):
            seen = x[:, :, :, 16:].mean(dim=(1, 2, 3))
            return torch.stack([0 * seen, 5 * seen], dim=1)

    random = np.random.default_rng(0)
    inputs = 0.02 * random.random((3, 3, 32, 32), dtype=np.float32)
    inputs[:, :, :, 16:] += 0.9
    data = Dataset(inputs=inputs, labels=np.zeros(3, np.int64), modality="image", classes=("a", "b"))
    model = Model(module=Right(), device=torch.device("cpu"))
    source = attributions(model, data, 0)
    given = check.settings({"segments": "quickshift", "samples": 200, "fill": 0.0})
    check.measure(model, data, source, **given)
    found = source.of(check.name.split(".")[1], segments="quickshift", samples=200, fill=0.0)
    assert found.features[0] == "segment 1"
    cells = superpixels(inputs[found.rows], 16, "quickshift")
    assert found.values.shape[1] == cells.max() + 1 >= 2
    right = np.abs(found.maps[:, :, 16:]).sum()
    assert right > 5 * np.abs(found.maps[:, :, :16]).sum()
