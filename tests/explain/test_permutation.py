"""Permutation importance against scikit-learn, a slow loop, and the coverage of its interval."""

import numpy as np
import pytest
import torch
from sklearn.inspection import permutation_importance
from torch import nn

from audit.explain.permutation import Losses, permuted_losses
from audit.model import Model
from audit.stats import mean

CPU = torch.device("cpu")


def network(weights):
    net = nn.Linear(len(weights), 2)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[0.0] * len(weights), weights]))
        net.bias.zero_()
    return Model(module=net.eval(), device=CPU)


def planted(rows=300, seed=0):
    inputs = np.random.default_rng(seed).normal(size=(rows, 3)).astype(np.float32)
    return torch.tensor(inputs), torch.tensor((inputs[:, 0] + 0.3 * inputs[:, 1] > 0).astype(np.int64))


class Estimator:
    """The same linear rule, as scikit-learn calls it."""

    def fit(self, rows, labels):
        return self

    def score(self, rows, labels):
        return float(((rows @ np.array([3.0, 0.9, 0.0]) > 0) == labels).mean())


def test_the_drop_of_accuracy_is_that_of_scikit_learn():
    inputs, labels = planted()
    found = permuted_losses(network([3.0, 0.9, 0.0]), inputs, labels, torch.arange(3), 3, 40, 0)
    theirs = permutation_importance(
        Estimator(), inputs.numpy(), labels.numpy(), n_repeats=40, random_state=0
    ).importances_mean
    assert found.increase()[0] == pytest.approx(theirs, abs=0.012)
    assert found.increase()[0, 2] == 0


def test_a_one_hot_group_moves_as_a_whole_and_the_batch_does_not_matter():
    random = np.random.default_rng(0)
    inputs = torch.tensor(
        np.concatenate([np.eye(3)[random.integers(0, 3, 20)], random.normal(size=(20, 1))], axis=1),
        dtype=torch.float32,
    )
    labels = torch.tensor(random.integers(0, 2, 20))
    model = network([1.0, -2.0, 0.5, 1.5])
    owner = torch.tensor([0, 0, 0, 1])
    found = permuted_losses(model, inputs, labels, owner, 2, 3, 7)
    model.passes.batch = 3
    again = permuted_losses(model, inputs, labels, owner, 2, 3, 7)
    assert again.permuted == pytest.approx(found.permuted, abs=1e-6)
    slow = inputs.clone()
    slow[:, :3] = inputs[torch.tensor(found.donors[1]), :3]
    with torch.no_grad():
        scores = model.module(slow)
    loss = nn.functional.cross_entropy(scores, labels, reduction="none")
    assert found.permuted[1, 0, 1] == pytest.approx(loss.numpy(), abs=1e-6)
    assert found.permuted[0, 0, 1] == pytest.approx((scores.argmax(1) != labels).double().numpy())


def test_the_influence_of_the_rows_adds_up_and_holds_the_chance_of_the_givers():
    inputs, labels = planted(50)
    found = permuted_losses(network([3.0, 0.9, 0.0]), inputs, labels, torch.arange(3), 3, 5, 0)
    assert found.influence().mean(axis=2) == pytest.approx(found.increase())
    assert not np.allclose(found.influence()[1, 0], found.permuted[1, 0].mean(axis=0) - found.clean[1])


def test_the_interval_covers_the_increase_of_the_population():
    model = network([3.0, 0.9, 0.0])
    inputs, labels = planted(6000, seed=99)
    truth = permuted_losses(model, inputs, labels, torch.arange(3), 3, 3, 0).increase()[1, 0]
    held = 0
    for seed in range(120):
        inputs, labels = planted(80, seed)
        found = permuted_losses(model, inputs, labels, torch.arange(3), 3, 5, seed)
        item = mean("x", found.influence()[1, 0].tolist())
        held += item.low <= truth <= item.high
    assert held >= 106


def test_influence_is_what_a_row_adds_as_judge_and_as_donor():
    random = np.random.default_rng(5)
    donors = np.stack([random.permutation(7) for _ in range(3)])
    losses = Losses(random.random((2, 7)), random.random((2, 4, 3, 7)), donors)
    found = losses.influence()
    for kind in range(2):
        for feature in range(4):
            change = losses.permuted[kind, feature] - losses.clean[kind]
            for row in range(7):
                judged = sum(change[k, row] for k in range(3)) / 3
                gave = sum(change[k, donors[k].tolist().index(row)] for k in range(3)) / 3
                assert found[kind, feature, row] == pytest.approx(judged + gave - change.mean())
