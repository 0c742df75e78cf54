"""Points nearby: inside epsilon, inside the range, another point, the same answer in a fresh pass."""

import numpy as np
import pytest
import torch
from networks import MLP, seeded
from torch import nn

from audit.attack.nearby import REASONS, same_answer
from audit.attack.space import space
from audit.dataset import Dataset, Feature
from audit.model import Model, Passes

ROWS = np.arange(3, 60, 2)


def table(rows=60):
    inputs = np.random.default_rng(0).normal(size=(rows, 5)).astype(np.float32) * 2
    features = tuple(Feature(name=f"f{i}", columns=(i,), immutable=i == 4) for i in range(5))
    labels = np.zeros(rows, np.int64)
    return Dataset(
        inputs=inputs, labels=labels, modality="tabular", classes=("a", "b", "c"), features=features
    )


def model_of(network, batch=256):
    return Model(module=network.eval(), device=torch.device("cpu"), passes=Passes(batch=batch))


def near(network, epsilon, rows=ROWS, norm="linf", batch=256):
    data, model = table(), model_of(network, batch)
    return data, model, same_answer(model, data.inputs, rows, space(model, data), epsilon, norm)


def lengths(moved, norm):
    order = {"linf": np.inf, "l2": 2, "l1": 1}[norm]
    return np.linalg.norm(moved, order, axis=1)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("epsilon", [0.1, 1.0])
def test_points_keep_the_answer_and_the_ball(epsilon, norm):
    data, model, found = near(seeded(MLP), epsilon, norm=norm)
    rows, limits = data.inputs[ROWS], data.column_bounds()
    before, after = (model.predict(x).argmax(dim=1) for x in (rows, found.points))
    assert torch.equal(before, after)
    moved = np.abs(found.points.astype(np.float64) - rows) / data.inputs.std(axis=0)
    assert lengths(moved, norm).max() <= epsilon * (1 + 1e-5)
    assert moved[:, 4].max() == 0
    assert (found.points >= limits[0]).all()
    assert (found.points <= limits[1]).all()
    assert (moved.max(axis=1) > 0).tolist() == found.found.tolist()
    assert set(found.steps.tolist()) <= {0, 1, 0.5, 0.25, 0.125, 0.0625}
    assert found.found.any()
    assert found.rejected == dict.fromkeys(REASONS, 0)


def test_the_furthest_share_that_keeps_the_answer_is_taken():
    """Restated row by row: the first of 1, 1/2, 1/4, 1/8 and 1/16 of the step that keeps the class."""
    network = seeded(MLP)
    data, model, found = near(network, 1.0)
    bounds, unit = data.column_bounds(), data.inputs.std(axis=0)
    unit[4] = 0
    for position, index in enumerate(ROWS):
        row = torch.from_numpy(data.inputs[index : index + 1]).requires_grad_()
        scores = model.scores(row)[0]
        said, other = scores.detach().argsort(descending=True)[:2].tolist()
        (slope,) = torch.autograd.grad(scores[other] - scores[said], row)
        longest = 0.0
        for share in (1, 0.5, 0.25, 0.125, 0.0625):
            tried = row.detach().numpy() + share * np.sign(slope.numpy()) * unit
            tried = np.clip(tried, *bounds).astype(np.float32)
            if int(model.predict(tried)[0].argmax()) == said:
                longest = share
                break
        assert found.steps[position] == longest
    assert len(set(found.steps.tolist())) > 2, "some rows must have needed a shorter step"


def test_the_step_goes_against_the_answer():
    network = nn.Linear(5, 2)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[0.0] * 5, [1.0, -1.0, 0, 0, 0]]))
        network.bias.copy_(torch.tensor([0.0, 50.0]))
    data, _, found = near(network, 0.2)
    change = found.points - data.inputs[ROWS]
    assert found.found.all()
    assert (change[:, 0] <= 0).all()
    assert (change[:, 1] >= 0).all()
    assert np.abs(change[:, 2:]).max() == 0


def test_without_a_slope_there_is_no_point():
    network = nn.Linear(5, 2)
    nn.init.zeros_(network.weight)
    data, _, found = near(network, 0.2)
    assert not found.found.any()
    assert np.array_equal(found.points, data.inputs[ROWS])


def test_epsilon_0_finds_nothing_and_no_rows_cost_nothing():
    data, _, found = near(seeded(MLP), 0.0)
    assert not found.found.any()
    assert np.array_equal(found.points, data.inputs[ROWS])
    _, model, nothing = near(seeded(MLP), 0.1, rows=np.empty(0, np.int64))
    assert nothing.points.shape == (0, 5)
    assert (model.passes.forward, model.passes.backward) == (0, 0)


def test_the_batch_size_changes_nothing_and_passes_are_counted():
    _, model, whole = near(seeded(MLP), 1.0)
    _, _, small = near(seeded(MLP), 1.0, batch=4)
    assert np.array_equal(whole.steps, small.steps)
    np.testing.assert_allclose(whole.points, small.points, atol=1e-6)
    assert (whole.forward_rows, whole.backward_rows) == (model.passes.forward, model.passes.backward)
    assert whole.backward_rows == len(ROWS)
    assert 5 * len(ROWS) <= whole.forward_rows <= 9 * len(ROWS)


class Turncoat(nn.Module):
    """Answers as a plain network does for its first calls, and the other way round from then on."""

    def __init__(self, honest):
        super().__init__()
        self.body = nn.Linear(5, 2)
        with torch.no_grad():
            self.body.weight.copy_(torch.tensor([[0.0] * 5, [1.0, -1.0, 0, 0, 0]]))
            self.body.bias.copy_(torch.tensor([0.0, 50.0]))
        self.honest, self.calls = honest, 0

    def forward(self, x):
        self.calls += 1
        return self.body(x) * (-1.0 if self.calls == self.honest + 1 else 1.0)


def test_a_point_that_does_not_hold_in_a_fresh_pass_does_not_count():
    """Classes, gradient and the first step are three passes; the fourth judges the points."""
    honest = near(Turncoat(9), 0.2)[2]
    assert honest.found.all()
    data, _, found = near(Turncoat(3), 0.2)
    assert not found.found.any()
    assert found.rejected == {REASONS[0]: 0, REASONS[1]: 0, REASONS[2]: len(ROWS)}
    assert np.array_equal(found.points, data.inputs[ROWS])


@pytest.mark.parametrize(("low", "reason"), [(False, REASONS[0]), (True, REASONS[1])])
def test_a_point_outside_the_ball_or_the_range_does_not_count(monkeypatch, low, reason):
    """A projection that lets everything pass is planted; what is stored is measured anew."""
    from audit.attack import nearby

    monkeypatch.setattr(nearby, "project", lambda inside, points: points if low else points + 3 * inside.unit)
    network = nn.Linear(5, 2)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[0.0] * 5, [1.0, -1.0, 0, 0, 0]]))
        network.bias.copy_(torch.tensor([0.0, 500.0]))
    data, _, found = near(network, 1.0)
    assert found.rejected[reason] > 0
    assert sum(found.rejected.values()) == (~found.found).sum()
    unmoved = found.points[~found.found]
    assert np.array_equal(unmoved, data.inputs[ROWS][~found.found])


def test_a_row_whose_answer_is_no_number_has_no_point():
    class Broken(nn.Module):
        def forward(self, x):
            score = torch.where(x[:, 0] > 0, x[:, 1], torch.nan)
            return torch.stack([torch.full_like(score, 50.0) + 0 * score, score], dim=1)

    data, _, found = near(Broken(), 0.2)
    broken = data.inputs[ROWS, 0] <= 0
    assert 0 < broken.sum() < len(ROWS)
    assert not found.found[broken].any()
    assert found.found[~broken].any()
