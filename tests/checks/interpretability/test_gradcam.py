"""Grad-CAM as evidence: where the channels are active, rows with an empty map, the layer told."""

import numpy as np
import pytest
import torch
from torch import nn

from audit.checks.interpretability.gradcam import gradcam
from audit.dataset import Dataset
from audit.errors import NotEvaluable
from audit.model import Model, state_hash
from audit.products.attributions import attributions


def images(rows=6, channels=1):
    inputs = np.random.default_rng(0).random((rows, channels, 8, 8)).astype(np.float32)
    labels = np.zeros(rows, dtype=np.int64)
    return Dataset(inputs=inputs, labels=labels, modality="image", classes=("a", "b"))


def measured(network, data, **settings):
    model = Model(module=network.eval(), device=torch.device("cpu"))
    before = state_hash(model.module)
    found = gradcam.measure(model, data, attributions(model, data, 0), **gradcam.settings(settings))
    assert state_hash(model.module) == before
    return found


def measures(found):
    return {item.name: item for item in found.measures if not item.group}


class Bright(nn.Module):
    """One channel that copies the image and speaks for class `speaks`; answers by the mean brightness."""

    def __init__(self, factor):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1, bias=False)
        self.factor = factor
        nn.init.ones_(self.conv.weight)

    def forward(self, x):
        mean = self.factor * self.conv(x).mean(dim=(1, 2, 3))
        return torch.stack([0.2 * torch.ones_like(mean), mean], dim=1)


def test_the_map_is_the_channel_where_it_speaks_for_the_class():
    data = images()
    found = measured(Bright(2.0), data)
    assert found.arrays["values"][0] == pytest.approx(2 * data.inputs[0, 0] / 64, abs=1e-6)
    assert measures(found)["empty_map_share"].value == 0
    assert any("layer 'conv', which has 8 x 8 places" in caveat for caveat in found.caveats)
    assert any("set to 0, as in the paper" in caveat for caveat in found.caveats)


def test_rows_with_an_empty_map_are_counted_and_leave_no_picture():
    """Dark images are of class 0, which no channel speaks for."""
    data = images()
    data.inputs[:2] = 0.05
    found = measured(Bright(1.0), data)
    assert measures(found)["empty_map_share"].value == pytest.approx(2 / 6)
    assert found.arrays["values"].shape[0] == 4
    against = measured(Bright(1.0), data, relu=False)
    assert measures(against)["empty_map_share"].value == 0
    assert any("for and against" in caveat for caveat in against.caveats)


def test_a_model_that_ignores_its_convolution_has_no_explanation():
    with pytest.raises(NotEvaluable, match="no explanation"):
        measured(Bright(0.0), images())


def test_it_needs_layers():
    assert gradcam.needs == {"logits", "gradients", "modules"}
    assert "ReLU" not in gradcam.title
    assert "`relu`" in gradcam.text
