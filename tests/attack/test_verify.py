"""Planted bad examples do not count, good ones do."""

import numpy as np
import pytest
import torch
from torch import nn

from audit.attack.space import Space
from audit.attack.verify import ACCEPTED, NOT_MISCLASSIFIED, OUTSIDE_BALL, OUTSIDE_RANGE, REASONS, verify
from audit.model import Model


def threshold():
    """Two inputs; class 1 when the first is above .5."""
    network = nn.Linear(2, 2)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
        network.bias.copy_(torch.tensor([0.0, -0.5]))
    return Model(module=network.eval(), device=torch.device("cpu"))


def around(unit=(1.0, 1.0)):
    unit = np.array(unit, np.float32)
    return Space(
        scale="input", unit=unit, low=np.zeros(2, np.float32), high=np.ones(2, np.float32), epsilons=()
    )


def judge(point, row=(0.45, 0.9), epsilon=0.1, norm="linf", unit=(1.0, 1.0)):
    points, rows = (np.array([values], np.float32) for values in (point, row))
    return verify(threshold(), points, rows, np.array([0]), around(unit), norm, epsilon)[0]


@pytest.mark.parametrize(
    ("point", "code"),
    [
        ((0.55, 0.9), ACCEPTED),
        ((0.5501, 0.9), OUTSIDE_BALL),
        ((0.55, 1.0), ACCEPTED),
        ((0.49, 0.9), NOT_MISCLASSIFIED),
        ((np.nan, 0.9), OUTSIDE_BALL),
    ],
)
def test_each_fault_is_found(point, code):
    assert judge(point) == code


def test_a_value_beyond_the_valid_range():
    assert judge((0.55, 1.00001), row=(0.45, 0.95)) == OUTSIDE_RANGE


def test_l2_distance_is_measured_over_all_coordinates():
    assert judge((0.53, 0.94), norm="l2") == ACCEPTED
    assert judge((0.55, 0.95), norm="l2") == OUTSIDE_BALL


def test_l1_distance_adds_up_over_all_coordinates():
    assert judge((0.51, 0.94), norm="l1") == ACCEPTED
    assert judge((0.51, 0.9401), norm="l1") == OUTSIDE_BALL
    assert judge((0.55, 0.95), norm="l1") == OUTSIDE_BALL
    assert judge((0.55, 0.95), norm="l1", unit=(2.0, 1.0)) == ACCEPTED
    assert judge((0.55, 0.95), norm="l1", unit=(2.0, 0.9)) == OUTSIDE_BALL


def test_a_fixed_coordinate_that_moved():
    assert judge((0.55, 0.9), unit=(1.0, 0.0)) == ACCEPTED
    assert judge((0.55, 0.901), unit=(1.0, 0.0)) == OUTSIDE_BALL


def test_units_stretch_the_ball():
    assert judge((0.64, 0.9), unit=(2.0, 1.0)) == ACCEPTED
    assert judge((0.64, 0.9), unit=(0.5, 1.0)) == OUTSIDE_BALL


def test_a_value_the_data_had_outside_the_range_may_stay():
    assert judge((0.55, 1.2), row=(0.45, 1.2)) == ACCEPTED


def test_rounding_of_large_values_is_no_fault():
    row = np.array([[200.3, 0.0]], np.float32)
    step = np.float32(8.1)
    wide = Space(
        scale="input",
        unit=np.ones(2, np.float32),
        low=np.zeros(2, np.float32),
        high=np.full(2, 255, np.float32),
        epsilons=(),
    )
    code = verify(threshold(), row + np.array([[step, 0]], np.float32), row, np.array([0]), wide, "linf", 8.1)
    assert code[0] == ACCEPTED


def test_scores_that_are_not_numbers_fool_nobody():
    broken = Model(module=nn.Linear(2, 2).eval(), device=torch.device("cpu"))
    with torch.no_grad():
        broken.module.weight.fill_(torch.nan)
    rows = np.full((1, 2), 0.5, np.float32)
    assert verify(broken, rows, rows, np.array([1]), around(), "linf", 0.1)[0] == NOT_MISCLASSIFIED


def test_every_code_but_acceptance_has_words():
    assert set(REASONS) == {OUTSIDE_BALL, OUTSIDE_RANGE, NOT_MISCLASSIFIED}


def test_nothing_claimed_costs_nothing():
    model = threshold()
    none = np.empty((0, 2), np.float32)
    assert len(verify(model, none, none, np.empty(0, np.int64), around(), "linf", 0.1)) == 0
    assert model.passes.forward == 0
