"""Activation maximisation: planted templates are found again, inside the range, without a trace."""

import numpy as np
import pytest
import torch
from networks import CNN, seeded
from torch import nn

from audit.errors import ConfigError, NotApplicable
from audit.explain.activation import (
    Ascent,
    _shifted,
    class_objective,
    maximise,
    unit_means,
    unit_objective,
    watched,
)
from audit.model import Model, state_hash

CPU = torch.device("cpu")


def template():
    """A network whose class 1 answers to a bright left half and a dark right one."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    with torch.no_grad():
        net[1].bias.zero_()
        net[1].weight.zero_()
        side = torch.ones(8, 8)
        side[:, 4:] = -1
        net[1].weight[1] = side.flatten() * 0.2
    return Model(module=net.eval(), device=CPU, input_range=(0.0, 1.0))


def ascend(model, starts, objectives, seed=0, **how):
    return maximise(model, starts, objectives, (0.0, 1.0), Ascent(**how), seed)


def test_the_planted_template_is_reached_and_stays_in_the_range():
    model = template()
    starts = torch.full((2, 1, 8, 8), 0.5)
    classes = torch.tensor([1, 0])
    found = ascend(model, starts, class_objective(classes), steps=60, jitter=0)
    one = found.images[0, 0]
    assert one[:, :4].mean() > 0.95
    assert one[:, 4:].mean() < 0.05
    assert found.images.min() >= 0
    assert found.images.max() <= 1
    assert found.start == pytest.approx([0, 0], abs=1e-6)
    assert found.reached[0] == pytest.approx(0.2 * 32, rel=0.1)
    assert (found.reached > 5).all()
    # The answer is linear, so slope times change adds up to the gain.
    assert found.maps.sum(axis=(1, 2)) == pytest.approx(found.reached, rel=1e-4)
    assert model.passes.forward == 2 * 62
    assert model.passes.backward == 2 * 62


def test_smoothing_makes_neighbours_alike():
    model = Model(module=seeded(CNN, channels=1, outputs=3), device=CPU)
    starts = torch.tensor(np.random.default_rng(0).random((1, 1, 12, 12)).astype(np.float32))
    rough, smooth = (
        ascend(model, starts, class_objective(torch.tensor([1])), steps=40, jitter=0, smooth=weight)
        for weight in (0.0, 3.0)
    )
    assert smooth.images.diff(dim=3).abs().mean() < 0.7 * rough.images.diff(dim=3).abs().mean()
    assert rough.reached[0] > rough.start[0]


def test_images_do_not_depend_on_the_batch_and_the_network_is_as_before():
    model = Model(module=seeded(CNN, channels=1, outputs=3), device=CPU)
    before = state_hash(model.module)
    starts = torch.tensor(np.random.default_rng(0).random((3, 1, 8, 8)).astype(np.float32))
    classes = torch.tensor([0, 1, 2])
    whole = ascend(model, starts, class_objective(classes), steps=6)
    model.passes.batch = 1
    single = ascend(model, starts, class_objective(classes), steps=6)
    assert torch.allclose(whole.images, single.images, atol=1e-4)
    assert state_hash(model.module) == before


def test_a_unit_of_a_layer_is_maximised_and_the_hook_is_gone():
    model = Model(module=seeded(CNN, channels=1, outputs=3), device=CPU)
    before = state_hash(model.module)
    starts = torch.full((2, 1, 8, 8), 0.5)
    with watched(model, "conv") as held:
        found = ascend(
            model, starts, unit_objective(held, torch.tensor([3, 5])), steps=20, jitter=0, smooth=0
        )
    assert (found.reached > found.start).all()
    assert state_hash(model.module) == before
    with torch.no_grad():
        direct = model.module.conv(found.images).mean(dim=(2, 3))
    assert found.reached == pytest.approx([float(direct[0, 3]), float(direct[1, 5])], abs=1e-5)


def test_a_layer_that_is_not_there_is_named():
    model = Model(module=seeded(CNN, channels=1, outputs=3), device=CPU)
    with pytest.raises(ConfigError, match="'cnv' is not a layer of the network; the nearest is 'conv'"):
        watched(model, "cnv").__enter__()
    closed = Model(module=model.module, device=CPU, capabilities=frozenset({"logits", "gradients"}))
    with pytest.raises(NotApplicable, match="leave 'layer' empty"):
        watched(closed, "conv").__enter__()


def test_the_mean_of_a_unit_is_over_its_places():
    output = torch.arange(24.0).reshape(2, 3, 2, 2)
    assert unit_means(output, 2).tolist() == [[1.5, 5.5, 9.5], [13.5, 17.5, 21.5]]


def test_each_image_is_rolled_by_its_own_shift():
    images = torch.arange(2 * 2 * 4 * 5.0).reshape(2, 2, 4, 5)
    moved = _shifted(images, np.array([[1, -2], [-3, 0]]))
    assert torch.equal(moved[0], images[0].roll((1, -2), (1, 2)))
    assert torch.equal(moved[1], images[1].roll(-3, 1))
