"""RISE as evidence: places that raise the answer, and the sampling error of the masks."""

import numpy as np
import pytest
import torch
from torch import nn

from audit.checks.interpretability.rise import rise
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
    found = rise.measure(model, data, attributions(model, data, 0), **rise.settings(settings))
    assert state_hash(model.module) == before
    return found


def measures(found):
    return {item.name: item for item in found.measures if not item.group}


def test_a_constant_model_has_no_explanation():
    with pytest.raises(NotEvaluable, match="no explanation"):
        measured(corner(0.0), images())


def corner(weight):
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    picture = torch.zeros(2, 8, 8)
    picture[1, :4, 4:] = weight
    with torch.no_grad():
        network[1].weight.copy_(picture.flatten(1))
        network[1].bias.zero_()
    return network


def test_the_corner_that_counts_leads():
    found = measured(corner(1.0), images(), baseline="zero", samples=600)
    leading = {row[0] for row in found.tables[0].rows[:4]}
    assert leading == {f"row {down}, column {across}" for down in (1, 2) for across in (3, 4)}
    assert found.arrays["values"].shape == (4, 8, 8)
    assert any("600 random masks of 8 cells" in caveat for caveat in found.caveats)


def test_more_masks_have_less_error():
    few, many = (measures(measured(corner(1.0), images(), samples=n)) for n in (100, 1600))
    ratio = few["relative_standard_error"].value / many["relative_standard_error"].value
    assert 2 < ratio < 8


def test_it_is_for_images_and_series():
    assert rise.modality == {"image", "series"}
    assert rise.needs == {"logits"}
