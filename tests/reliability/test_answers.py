"""What a model says of labelled rows, against scikit-learn and worked out by hand."""

import math

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss

from audit.reliability.answers import answers, log_odds


def some(rows=200, classes=4, seed=0):
    random = np.random.default_rng(seed)
    return random.normal(0, 2, (rows, classes)), random.integers(0, classes, rows)


def test_losses_are_those_of_scikit_learn():
    scores, labels = some()
    found = answers(scores, labels, np.arange(len(labels)))
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    assert found.loss.mean() == pytest.approx(log_loss(labels, shares), abs=1e-12)
    half = brier_score_loss(labels, shares, labels=range(4), scale_by_half=True)
    assert found.brier.mean() == pytest.approx(half, abs=1e-12)
    assert np.array_equal(found.right, scores.argmax(axis=1) == labels)
    assert found.confidence == pytest.approx(shares.max(axis=1), abs=1e-12)


def test_one_row_by_hand():
    found = answers(np.log([[0.2, 0.5, 0.3]]), np.array([2]), np.array([7]))
    assert found.predicted.tolist() == [1]
    assert found.confidence[0] == pytest.approx(0.5)
    assert found.rank[0] == pytest.approx(0.0, abs=1e-12)
    assert found.loss[0] == pytest.approx(-math.log(0.3))
    assert found.brier[0] == pytest.approx((0.2**2 + 0.5**2 + 0.7**2) / 2)


def test_rows_without_finite_scores_are_left_out_and_counted():
    scores = np.array([[1.0, 2.0], [np.nan, 0.0], [np.inf, 0.0], [0.0, 3.0]])
    found = answers(scores, np.array([1, 0, 0, 0]), np.array([4, 5, 6, 9]))
    assert (len(found), found.lost) == (2, 2)
    assert found.rows.tolist() == [4, 9]
    assert found.of(np.array([False, True])).rows.tolist() == [9]


def test_the_rank_orders_rows_whose_probabilities_have_become_one():
    scores = np.array([[0.0, 800.0], [0.0, 900.0], [0.0, 60.0]])
    assert np.argsort(log_odds(scores)).tolist() == [2, 0, 1]
