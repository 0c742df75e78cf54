"""What is explained: the same number for any kind of output."""

import math

import pytest
import torch

from audit.explain.quantity import mean_by_class, quantity

SCORES = torch.tensor([[1.0, 3.0, -2.0], [0.5, 0.0, 4.0]])
CLASSES = torch.tensor([1, 0])


def test_log_odds_are_log_p_over_one_minus_p():
    p = SCORES.softmax(dim=1)[[0, 1], CLASSES]
    assert torch.allclose(quantity(SCORES, CLASSES, "log_odds"), (p / (1 - p)).log(), atol=1e-5)


def test_probability_is_the_softmax_of_the_class():
    assert quantity(SCORES, CLASSES, "probability")[0].item() == pytest.approx(
        math.exp(3) / (math.exp(1) + math.exp(3) + math.exp(-2))
    )


def test_means_are_taken_over_the_background_for_each_rows_class():
    wanted = torch.tensor([2, 0, 2])
    found = mean_by_class(SCORES, wanted, "log_odds")
    slow = [
        sum(quantity(row[None], item[None], "log_odds").item() for row in SCORES) / len(SCORES)
        for item in wanted
    ]
    assert found.tolist() == pytest.approx(slow)


def test_two_classes_have_the_same_log_odds_as_by_the_general_way():
    scores = torch.tensor([[1.5, -2.0], [0.1, 0.7], [3.0, 3.0], [-torch.inf, 0.0]], dtype=torch.float32)
    wider = torch.cat([scores, torch.full((4, 1), -torch.inf)], dim=1)
    for wanted in (0, 1):
        classes = torch.full((4,), wanted)
        assert torch.equal(quantity(scores, classes, "log_odds"), quantity(wider, classes, "log_odds"))
