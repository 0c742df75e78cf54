"""Planted examples are there, the attack decides whether they are found, and the model is unchanged."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from masks import LabelsOnly, Louder, Quantised, Softmax
from networks import MLP, seeded
from torch import nn

from audit.attack import control as kernel
from audit.attack.control import SAMPLES, control, readable
from audit.attack.curve import Target
from audit.attack.loop import Pgd
from audit.attack.space import Space
from audit.model import Model, state_hash

ROWS = 40


def target(network, rows=ROWS, width=30, **fields):
    """Rows in [0, 1] that the network classifies correctly by definition."""
    inputs = np.random.default_rng(0).random((rows, width)).astype(np.float32)
    model = Model(module=network.eval(), device=torch.device("cpu"), **fields)
    space = Space(
        scale="input",
        unit=np.ones(width, np.float32),
        low=np.zeros(width, np.float32),
        high=np.ones(width, np.float32),
        epsilons=(0.1,),
    )
    labels = model.predict(inputs).argmax(dim=1).numpy()
    return Target(model, inputs, labels, np.arange(rows), np.ones(rows, dtype=bool), space, 0)


def network():
    return seeded(MLP, inputs=30, outputs=4, hidden=64)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_attack_that_works_finds_what_was_planted(norm):
    aim = target(network())
    before = state_hash(aim.model.module)
    seen = control(aim, 0.2, Pgd(norm=norm))
    assert (seen.asked, seen.planted) == (SAMPLES, SAMPLES)
    assert seen.found >= 63
    assert seen.by_chance < 16
    assert seen.where == "features before the last layer"
    assert state_hash(aim.model.module) == before


def test_an_attack_that_hardly_moves_misses_most():
    weak = Pgd(steps=1, step_size=0.01, random_start=False)
    seen = control(target(network()), 0.2, weak)
    assert seen.planted == SAMPLES
    assert seen.found < 8


def test_a_model_whose_gradient_is_zero_hides_what_was_planted():
    seen = control(target(Quantised(network())), 0.2, Pgd())
    assert seen.planted >= 60
    assert seen.found <= 0.2 * seen.planted


@pytest.mark.parametrize(("mask", "output"), [(Louder, "logits"), (Softmax, "probabilities")])
def test_what_happens_to_the_scores_after_the_last_layer_is_not_passed_over(mask, output):
    aim = target(mask(network()), output=output)
    _, where = readable(aim.model, aim.inputs[:2])
    assert (where == "scores") is (mask is Louder)
    seen = control(aim, 0.2, Pgd())
    assert seen.planted >= 60
    assert seen.found >= seen.planted - 1


def test_a_last_layer_of_another_width_than_the_answer_is_no_read_out():
    class Cut(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = MLP(inputs=30, outputs=6)

        def forward(self, rows):
            return self.body(rows)[:, :4]

    torch.manual_seed(0)
    aim = target(Cut().eval())
    assert readable(aim.model, aim.inputs[:2])[1] == "scores"


def test_nothing_can_be_planted_where_the_answer_does_not_change():
    assert control(target(LabelsOnly(network())), 1e-4, Pgd()) == kernel.Control(64, 0, 0, 0, "scores")


def test_a_single_logit_is_read_before_its_last_layer():
    aim = target(nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 1)), output="single_logit")
    read, where = readable(aim.model, aim.inputs[:2])
    assert where == "features before the last layer"
    rows = aim.model.tensor(aim.inputs[:5])
    torch.testing.assert_close(read(rows), aim.model.module[1](aim.model.module[0](rows)))
    assert not any(part._forward_hooks for part in aim.model.module.modules())


def test_each_planted_point_is_an_example_inside_the_ball_by_the_restated_read_out():
    """Weights and bias are applied here by hand to the network's own hidden layer."""
    net = network()
    aim = target(net)
    positions = np.arange(ROWS)
    read, _ = readable(aim.model, aim.inputs[:2])
    planted = kernel._plant(aim, positions, 0.2, "linf", read)
    points = planted.points.numpy()
    assert np.abs(points - aim.inputs).max() <= 0.2 + 1e-6
    assert points.min() >= 0
    assert points.max() <= 1
    room = (aim.inputs > 0.2) & (aim.inputs < 0.8)
    assert np.abs(points - aim.inputs)[room] == pytest.approx(0.2, abs=1e-6)
    with torch.no_grad():
        for row in range(ROWS):
            hidden = torch.relu(net.first(torch.from_numpy(np.stack([aim.inputs[row], points[row]]))))
            clean, there = (hidden @ planted.weights[row] + planted.bias[row]).tolist()
            assert there == pytest.approx(1, abs=1e-2)
            assert clean <= -1 + 1e-2


def test_the_ridge_regression_is_that_of_the_textbook():
    """(X'X + k I)^-1 X'y over features, in place of the inverse over points."""
    felt = torch.randn(1, 25, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights, bias, best, clear = kernel._fitted(felt)
    assert bool(clear)
    apart = (felt[0] - felt[0].mean(dim=0)).numpy()
    ridge = kernel._RIDGE * np.mean((apart**2).sum(axis=1))
    y = np.eye(25)[int(best)]
    slow = np.linalg.solve(apart.T @ apart + ridge * np.eye(6), apart.T @ y)
    mine = weights[0].numpy()
    assert mine / np.linalg.norm(mine) == pytest.approx(slow / np.linalg.norm(slow), abs=1e-6)
    told = felt[0].numpy() @ mine + float(bias[0])
    assert told[int(best)] == pytest.approx(1, abs=1e-5)
    assert np.delete(told, int(best)).max() == pytest.approx(-1, abs=1e-5)


def test_few_rows_are_used_again_with_other_draws():
    aim = target(network(), rows=3)
    seen = control(aim, 0.2, Pgd())
    assert seen.planted == SAMPLES
    assert seen.found >= 63
    read, _ = readable(aim.model, aim.inputs[:2])
    points = kernel._plant(aim, np.array([0, 1, 2, 0]), 0.2, "linf", read).points
    assert not torch.equal(points[0], points[3])


def test_the_passes_are_counted_with_the_audited_model():
    aim = target(network())
    forward, backward = aim.model.passes.forward, aim.model.passes.backward
    control(aim, 0.2, Pgd())
    assert aim.model.passes.backward > backward
    assert aim.model.passes.forward - forward >= SAMPLES * 25


def test_the_batch_size_does_not_matter():
    whole, small = target(network()), target(network())
    small.model.passes.batch = 7
    assert control(whole, 0.2, Pgd()) == control(small, 0.2, Pgd())


def test_fixed_coordinates_stay():
    aim = target(network())
    aim.space.unit[10:] = 0
    seen = control(aim, 0.4, Pgd())
    assert seen.planted >= 60
    assert seen.found >= 0.95 * seen.planted
    read, _ = readable(aim.model, aim.inputs[:2])
    points = kernel._plant(aim, np.arange(ROWS), 0.4, "linf", read).points.numpy()
    assert np.array_equal(points[:, 10:], aim.inputs[:, 10:])
    assert (points[:, :10] != aim.inputs[:, :10]).any()


def test_an_example_that_a_fresh_pass_does_not_show_was_not_planted():
    aim = target(network())
    read, _ = readable(aim.model, aim.inputs[:2])
    positions = np.arange(8)
    planted = kernel._plant(aim, positions, 0.1, "linf", read)
    assert kernel._there(kernel._altered(aim, positions, planted, read), planted).all()
    for bias in (-1.0, 1.0):  # the point is not singled out; the row itself is
        flat = replace(planted, weights=planted.weights * 0, bias=planted.bias * 0 + bias)
        assert not kernel._there(kernel._altered(aim, positions, flat, read), flat).any()
