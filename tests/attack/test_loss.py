"""Losses by hand."""

import math

import torch

from audit.attack.loss import LOSSES, cross_entropy, margin, wrong

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
    for name, loss in LOSSES.items():
        scores = (torch.tensor([[3.0, 0.0]]) * 100).requires_grad_()
        loss(scores, torch.tensor([0])).sum().backward()
        gradients[name] = scores.grad.abs().sum().item()
    assert gradients == {"cross_entropy": 0, "margin": 2}


def test_a_score_that_is_not_a_number_is_not_a_success():
    scores = torch.tensor([[0.0, torch.nan], [torch.nan, 0.0], [0.0, torch.inf]])
    assert wrong(scores, torch.tensor([0, 1, 0])).tolist() == [False, False, False]
