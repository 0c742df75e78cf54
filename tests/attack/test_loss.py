"""Losses by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from audit.attack.loss import (
    LOSSES,
    TARGETED,
    cross_entropy,
    dlr,
    likeliest_wrong,
    loss_defined,
    margin,
    objective,
    wrong,
)
from audit.errors import NotApplicable

SCORES = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 5.0]])
LABELS = torch.tensor([0, 1])


def test_margin_is_above_0_exactly_where_the_row_is_wrong():
    assert margin(SCORES, LABELS).tolist() == [-1, 2]
    assert wrong(SCORES, LABELS).tolist() == [False, True]


def test_margin_of_two_classes():
    assert margin(torch.tensor([[0.0, 4.0]]), torch.tensor([1])).tolist() == [-4]


def test_cross_entropy_by_hand():
    expected = -math.log(math.exp(2) / (math.exp(2) + math.e + 1))
    assert math.isclose(cross_entropy(SCORES, LABELS)[0].item(), expected, rel_tol=1e-6)


def test_margin_keeps_its_gradient_where_cross_entropy_loses_it():
    gradients = {}
    for name in ("cross_entropy", "margin"):
        loss = LOSSES[name]
        scores = (torch.tensor([[3.0, 0.0]]) * 100).requires_grad_()
        loss(scores, torch.tensor([0])).sum().backward()
        gradients[name] = scores.grad.abs().sum().item()
    assert gradients == {"cross_entropy": 0, "margin": 2}


def test_a_score_that_is_not_a_number_is_not_a_success():
    scores = torch.tensor([[0.0, torch.nan], [torch.nan, 0.0], [0.0, torch.inf]])
    assert wrong(scores, torch.tensor([0, 1, 0])).tolist() == [False, False, False]


def test_dlr_by_hand():
    torch.testing.assert_close(dlr(SCORES, LABELS), torch.tensor([-0.5, 0.4]))


def test_targeted_losses_by_hand():
    scores, label, aim = torch.tensor([[4.0, 3.0, 1.0, 0.0]]), torch.tensor([0]), torch.tensor([2])
    assert TARGETED["margin"](scores, label, aim).tolist() == [-3]
    assert TARGETED["dlr"](scores, label, aim).item() == pytest.approx(-3 / (4 - (1 + 0) / 2))
    probability = math.e / (math.exp(4) + math.exp(3) + math.e + 1)
    assert TARGETED["cross_entropy"](scores, label, aim).item() == pytest.approx(math.log(probability))


@settings(deadline=None, max_examples=60)
@given(
    scores=hnp.arrays(np.float32, (4, 5), elements=st.integers(-50, 50).map(lambda v: v / 4)),
    labels=hnp.arrays(np.int64, 4, elements=st.integers(0, 4)),
    shift=st.integers(1, 4),
)
def test_dlr_agrees_with_sorting_each_row(scores, labels, shift):
    targets = (labels + shift) % 5
    plain = dlr(torch.from_numpy(scores), torch.from_numpy(labels)).tolist()
    aimed = TARGETED["dlr"](*(torch.from_numpy(part) for part in (scores, labels, targets))).tolist()
    for row, label, target, one, other in zip(scores, labels, targets, plain, aimed, strict=True):
        first, second, third, fourth, _ = sorted(row.tolist(), reverse=True)
        rival = second if row[label] == first else first
        if first > third:
            assert one == pytest.approx((rival - row[label]) / (first - third), rel=1e-5)
            assert other == pytest.approx(
                (row[target] - row[label]) / (first - (third + fourth) / 2), rel=1e-5, abs=1e-6
            )
        assert math.isfinite(one)
        assert math.isfinite(other)


def test_dlr_is_the_same_for_logits_log_probabilities_and_logits_times_100():
    scores = torch.tensor([[2.0, 1.0, 0.0, -3.0]])
    label, aim = torch.tensor([0]), torch.tensor([3])
    for same in (scores.log_softmax(1), scores * 100):
        torch.testing.assert_close(dlr(same, label), dlr(scores, label))
        aimed = objective("dlr", label, aim)
        torch.testing.assert_close(aimed(same), aimed(scores))


def test_raising_a_targeted_loss_raises_the_targets_score_over_the_true_one():
    for name in TARGETED:
        scores = torch.tensor([[4.0, 3.0, 1.0, 0.0]], requires_grad=True)
        objective(name, torch.tensor([0]), torch.tensor([2]))(scores).sum().backward()
        assert scores.grad[0, 2] > 0
        assert scores.grad[0, 0] < 0


def test_dlr_is_refused_where_it_is_not_defined():
    assert [loss_defined("dlr", classes) for classes in (2, 3)] == [False, True]
    assert [loss_defined("dlr", classes, targeted=True) for classes in (3, 4)] == [False, True]
    assert all(
        loss_defined(loss, 2, targeted=aimed) for loss in ("cross_entropy", "margin") for aimed in (0, 1)
    )
    with pytest.raises(NotApplicable, match="'dlr' is defined for 3 classes or more and the model has 2"):
        dlr(SCORES[:, :2], torch.tensor([0, 1]))
    with pytest.raises(NotApplicable, match="targeted loss 'dlr' is defined for 4 classes or more"):
        objective("dlr", LABELS, torch.tensor([1, 0]))(SCORES)


def test_the_likeliest_wrong_classes():
    assert likeliest_wrong(SCORES, LABELS, 1).tolist() == [[1], [2]]
    assert likeliest_wrong(SCORES, LABELS, 9).tolist() == [[1, 2], [2, 0]]


@pytest.mark.parametrize("lead", [5.0, 20.0, 60.0])
def test_the_gradient_of_a_single_logit_outlives_the_rounding_of_its_probability(lead):
    """Above a lead of 17 single precision rounds the probability to 1, and 1 - p with it to 0."""
    logit = torch.tensor([lead, -lead], requires_grad=True)
    scores = torch.stack([torch.zeros(2), logit], dim=1)
    (slope,) = torch.autograd.grad(cross_entropy(scores, torch.tensor([1, 0])).sum(), logit)
    small = math.exp(-lead) / (1 + math.exp(-lead))
    np.testing.assert_allclose(slope.numpy(), [-small, small], rtol=1e-4)
