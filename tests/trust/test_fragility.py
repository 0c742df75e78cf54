"""Points nearby: inside epsilon, inside the range, another point, the same answer."""

import numpy as np
import pytest
import torch
from networks import MLP, seeded
from torch import nn

from audit.attack.space import space
from audit.dataset import Dataset, Feature
from audit.model import Model
from audit.trust.fragility import same_answer_nearby


def table(rows=60, **fields):
    inputs = np.random.default_rng(0).normal(size=(rows, 5)).astype(np.float32) * 2
    features = tuple(Feature(name=f"f{i}", columns=(i,), immutable=i == 4) for i in range(5))
    labels = np.zeros(rows, np.int64)
    return Dataset(
        inputs=inputs, labels=labels, modality="tabular", classes=("a", "b", "c"), features=features
    )


@pytest.mark.parametrize("epsilon", [0.1, 1.0])
def test_points_keep_the_answer_and_the_ball(epsilon):
    data, model = table(), Model(module=seeded(MLP), device=torch.device("cpu"))
    rows = torch.from_numpy(data.inputs)
    found = same_answer_nearby(model, rows, space(model, data), epsilon)
    before, after = (model.scores(x).argmax(dim=1) for x in (rows, found.points))
    assert torch.equal(before, after)
    moved = (found.points - rows).abs() / torch.from_numpy(data.inputs.std(axis=0))
    assert moved.max() <= epsilon * (1 + 1e-5)
    assert moved[:, 4].max() == 0
    assert (moved.amax(dim=1) > 0).numpy().tolist() == found.found.tolist()
    assert set(found.steps.tolist()) <= {0, 1, 0.5, 0.25, 0.125, 0.0625}
    if epsilon == 1:
        assert len(set(found.steps.tolist())) > 2, "some rows must have needed a shorter step"


def test_the_step_goes_against_the_answer():
    network = nn.Linear(5, 2)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[0.0] * 5, [1.0, -1.0, 0, 0, 0]]))
        network.bias.copy_(torch.tensor([0.0, 50.0]))
    data, model = table(), Model(module=network, device=torch.device("cpu"))
    rows = torch.from_numpy(data.inputs[:20])
    found = same_answer_nearby(model, rows, space(model, data), 0.2)
    change = (found.points - rows).detach()
    assert found.found.all()
    assert (change[:, 0] <= 0).all()
    assert (change[:, 1] >= 0).all()
    assert change[:, 2:].abs().max() == 0


def test_without_a_slope_there_is_no_point():
    network = nn.Linear(5, 2)
    nn.init.zeros_(network.weight)
    data, model = table(), Model(module=network, device=torch.device("cpu"))
    rows = torch.from_numpy(data.inputs[:4])
    found = same_answer_nearby(model, rows, space(model, data), 0.2)
    assert not found.found.any()
    assert torch.equal(found.points, rows)
