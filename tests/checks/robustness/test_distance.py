"""Distances worked out by hand: how far the boundary of a linear model lies in each norm."""

import numpy as np
import pytest
import torch
from torch import nn

from audit.checks.robustness.distance import distance
from audit.dataset import Dataset, Sensitive
from audit.model import Model, state_hash
from audit.products.adversaries import adversaries
from audit.products.predictions import predictions

WEIGHTS = np.array([3.0, 4.0])
POINTS = np.random.default_rng(0).uniform(0.2, 0.8, (80, 2)).astype(np.float32)


def linear(bias=-3.5, weights=WEIGHTS):
    """Class 1 where 3 a + 4 b > 3.5."""
    net = nn.Linear(2, 2)
    with torch.no_grad():
        net.weight.copy_(torch.tensor(np.stack([np.zeros(2), weights])))
        net.bias.copy_(torch.tensor([0.0, bias]))
    return Model(module=net.eval(), device=torch.device("cpu"), input_range=(0.0, 1.0))


def rows(wrong=0, **fields):
    labels = (POINTS @ WEIGHTS > 3.5).astype(np.int64)
    labels[:wrong] = 1 - labels[:wrong]
    return Dataset(inputs=POINTS, labels=labels, modality="series", classes=("no", "yes"), **fields)


def measured(data, model=None, **settings):
    model = model or linear()
    shared = adversaries(model, data, predictions(model, data), 0)
    return distance.measure(data, shared, **distance.settings(settings))


def one(evidence, name="adversarial_distance", **group):
    (found,) = [m for m in evidence.measures if m.name == name and dict(m.group) == group]
    return found


@pytest.mark.parametrize(("norm", "dual"), [("l2", 5.0), ("linf", 7.0), ("l1", 4.0)])
def test_the_median_of_a_line_is_the_one_worked_out(norm, dual):
    true = np.median(np.abs(POINTS @ WEIGHTS - 3.5) / dual)
    found = one(measured(rows(), norm=norm, steps=200))
    assert found.value == pytest.approx(true, rel=0.05)
    assert found.value >= np.sort(np.abs(POINTS @ WEIGHTS - 3.5) / dual)[39] * 0.995
    assert found.low < true < found.high


def test_rows_wrong_by_themselves_have_no_distance():
    found = one(measured(rows(wrong=20)))
    assert found.n == 60
    assert min(found.statistics["values"]) > 0


def test_a_row_that_cannot_be_moved_across_counts_with_the_largest_distance_there_is():
    """The model decides on nothing: no change inside the range has an effect."""
    data = Dataset(inputs=POINTS, labels=np.zeros(80, np.int64), modality="series", classes=("no", "yes"))
    evidence = measured(data, linear(bias=-100.0))
    found = one(evidence)
    assert found.value == pytest.approx(np.sqrt(2), rel=0.01)
    assert one(evidence, "attack_success_rate").value == 0
    assert any("no example was found" in text for text in evidence.caveats)


def test_a_model_without_slope_is_no_robust_model():
    data = Dataset(inputs=POINTS, labels=np.zeros(80, np.int64), modality="series", classes=("no", "yes"))
    found = one(measured(data, linear(bias=-1.0, weights=np.zeros(2))))
    assert "no usable gradient" in found.unreliable


def test_nothing_correct_is_undefined():
    found = one(measured(rows(wrong=80)))
    assert found.value is None
    assert "none was attacked" in found.reason


def test_groups_are_told_apart_and_the_model_is_left_as_it_was():
    near = np.abs(POINTS @ WEIGHTS - 3.5) < 0.5
    sensitive = {"site": Sensitive(name="site", groups=("far", "near"), codes=near.astype(np.int64))}
    model = linear()
    before = state_hash(model.module)
    evidence = measured(rows(sensitive=sensitive), model)
    assert one(evidence, site="near").high < one(evidence, site="far").low
    assert state_hash(model.module) == before


class Moody(nn.Module):
    """Decides on the sum of a row; noise in every pass lets no claim near the boundary hold."""

    def forward(self, points):
        other = points.flatten(1).sum(dim=1) - 1 + 0.3 * torch.randn(len(points))
        return torch.stack([other * 0, other], dim=1)


class Misled(nn.Module):
    """Decides on the first number; the gradient that it shows is that of the second."""

    def forward(self, points):
        value, shown = (points[:, 0] > 0.5).float() - 0.5, points[:, 1] * 1e-3
        other = value + shown - shown.detach()
        return torch.stack([other * 0, other], dim=1)


def of(network):
    return Model(module=network.eval(), device=torch.device("cpu"), input_range=(0.0, 1.0))


def test_claims_that_do_not_hold_make_no_robust_model():
    torch.manual_seed(0)
    labels = (POINTS.sum(axis=1) > 1).astype(np.int64)
    data = Dataset(inputs=POINTS, labels=labels, modality="series", classes=("no", "yes"))
    evidence = measured(data, of(Moody()))
    assert "claimed examples did not hold" in one(evidence).unreliable
    assert "claimed examples did not hold" in one(evidence, "attack_success_rate").unreliable


def test_a_search_that_misses_what_the_other_rows_show_to_be_there_is_not_relied_on():
    labels = (POINTS[:, 0] > 0.5).astype(np.int64)
    data = Dataset(inputs=POINTS, labels=labels, modality="series", classes=("no", "yes"))
    found = one(measured(data, of(Misled())))
    assert found.value == pytest.approx(np.sqrt(2), rel=0.5)
    assert "answered otherwise" in found.unreliable
    assert not one(measured(rows())).unreliable


def test_where_every_row_is_answered_alike_a_search_may_find_nothing():
    data = Dataset(inputs=POINTS, labels=np.zeros(80, np.int64), modality="series", classes=("no", "yes"))
    assert not one(measured(data, linear(bias=-100.0))).unreliable
