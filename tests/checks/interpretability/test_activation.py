"""Activation maximisation as evidence: planted classes and units are reached; what cannot be is refused."""

import numpy as np
import pytest
import torch
from networks import CNN, LeNet, seeded
from torch import nn

from audit import pictures
from audit.checks.interpretability.activation import activation
from audit.dataset import Dataset
from audit.errors import ConfigError, NotApplicable, NotEvaluable
from audit.model import Model, state_hash

CPU = torch.device("cpu")


def images(rows=6, side=8):
    inputs = np.random.default_rng(0).random((rows, 1, side, side)).astype(np.float32)
    return Dataset(inputs=inputs, labels=np.zeros(rows, np.int64), modality="image", classes=("a", "b", "c"))


def measured(model, data=None, **settings):
    return activation.measure(model, data or images(), 0, **activation.settings(settings))


def of(net, **fields):
    return Model(module=net.eval(), device=CPU, input_range=(0.0, 1.0), **fields)


def named(found, name):
    return {next(iter(item.group.values())): item for item in found.measures if item.name == name}


def test_each_class_is_reached_from_every_start_and_the_images_are_shown():
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    torch.manual_seed(0)
    nn.init.normal_(net[1].weight, std=0.5)
    model = of(net)
    before = state_hash(model.module)
    found = measured(model, steps=40, jitter=0)
    reached = named(found, "probability_reached")
    assert set(reached) == {"a", "b", "c"}
    assert all(item.value > 0.95 and item.n == 3 for item in reached.values())
    # A linear answer has one way up.
    assert all(item.value > 0.8 for item in named(found, "likeness").values())
    assert state_hash(model.module) == before
    assert found.arrays["activation_images"].shape == (3, 8, 8, 1)
    assert pictures.heatmaps_of(found.figures[0].data, found.arrays, 10**6).tiles
    assert any("not examples of a class" in text for text in found.caveats)


def test_a_class_that_nothing_can_raise_is_not_reached():
    class Blind(nn.Module):
        def forward(self, rows):
            own = rows.mean(dim=(1, 2, 3))
            return torch.stack([own, own + 0, own * 0 - 9 - own], dim=1)

    found = named(measured(of(Blind()), steps=20, classes=("c",)), "probability_reached")
    assert found["c"].value < 0.01


def test_units_of_a_layer_are_held_against_the_data():
    model = of(seeded(CNN, channels=1, outputs=3))
    found = measured(model, layer="conv", units=(1, 4), steps=40, seeds=2, jitter=0, smooth=0)
    assert set(named(found, "activation_reached")) == {"conv 1", "conv 4"}
    assert [row[0] for row in found.tables[0].rows] == ["conv 1", "conv 4"]
    with torch.no_grad():
        means = model.module.conv(torch.tensor(images().inputs)).mean(dim=(2, 3))
    for row, unit in zip(found.tables[0].rows, (1, 4), strict=True):
        assert row[4] == pytest.approx(float(means[:, unit].max()), abs=1e-5)
        assert row[3] > row[4]
    for name, item in named(found, "activation_over_data").items():
        strongest = float(means[:, int(name[-1])].max())
        assert (item.value is None) == (strongest <= 0)


def test_the_same_seed_gives_the_same_images():
    model = of(seeded(CNN, channels=1, outputs=3))
    one, two = (measured(model, steps=5, seeds=1) for _ in range(2))
    assert (one.arrays["activation_images"] == two.arrays["activation_images"]).all()


def test_what_is_asked_wrongly_is_named():
    model = of(seeded(CNN, channels=1, outputs=3))
    with pytest.raises(ConfigError, match="'classes' names 'd'"):
        measured(model, classes=("d",))
    with pytest.raises(ConfigError, match="'units' are named and no 'layer'"):
        measured(model, units=(1,))
    with pytest.raises(ConfigError, match="units 0 to 7"):
        measured(model, layer="conv", units=(8,), steps=1)
    with pytest.raises(ConfigError, match="nearest is 'conv'"):
        measured(model, layer="cov", steps=1)
    with pytest.raises(NotApplicable, match="one output"):
        measured(of(nn.Sequential(nn.Flatten(), nn.Linear(64, 1)), output="values"))
    flat = Dataset(**{**vars(images()), "inputs": np.zeros((2, 1, 8, 8), np.float32)})
    with pytest.raises(NotEvaluable, match="no range"):
        measured(Model(module=model.module, device=CPU), flat)


def test_a_real_digit_network_is_sure_of_its_made_images(shared_data):
    net = LeNet()
    net.load_state_dict(torch.load(shared_data / "mnist/lenet.pth", map_location="cpu", weights_only=True))
    stored = np.load(shared_data / "mnist/mnist_test.npz")["images"][:50]
    inputs = (stored[:, None] / 255).astype(np.float32)
    digits = tuple(str(i) for i in range(10))
    data = Dataset(inputs=inputs, labels=np.zeros(50, np.int64), modality="image", classes=digits)
    found = measured(of(net, output="log_probabilities"), data, seeds=1, steps=64, classes=("0", "7"))
    assert all(item.value > 0.9 for item in named(found, "probability_reached").values())
