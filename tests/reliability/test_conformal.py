"""Conformal sets: rules by hand, and the distribution of the coverage over calibration sets."""

import math

import numpy as np
import pytest

from audit.reliability.conformal import (
    aps_scores,
    coverage_range,
    halves,
    lac_scores,
    needed_rank,
    sets,
    threshold,
)


def test_scores_by_hand():
    shares = np.array([[0.1, 0.6, 0.3]])
    assert lac_scores(shares)[0] == pytest.approx([0.9, 0.4, 0.7])
    assert aps_scores(shares, np.array([0.5]))[0] == pytest.approx([0.95, 0.3, 0.75])
    assert aps_scores(shares, np.array([0.0]))[0] == pytest.approx([0.9, 0.0, 0.6])


def test_threshold_by_hand():
    scores = np.array([0.5, 0.1, 0.4, 0.2, 0.3, 0.9, 0.8, 0.7, 0.6])
    assert needed_rank(9, 0.1) == 9
    assert threshold(scores, 0.1) == 0.9
    assert threshold(scores, 0.5) == 0.5
    assert threshold(scores[:8], 0.1) == math.inf
    assert sets(np.array([[0.2, 0.5, 0.9]]), 0.5).tolist() == [[True, True, False]]
    assert sets(np.array([[0.2, 0.5, 0.9]]), math.inf).all()


@pytest.mark.parametrize("method", ["LAC", "APS"])
def test_coverage_over_calibration_sets_is_beta_distributed(method):
    low, high = coverage_range(100, 0.1, 0.9)
    found = []
    for seed in range(400):
        random = np.random.default_rng(seed)
        shares = random.dirichlet([0.5, 0.5, 0.5, 0.5], 2100)
        labels = (random.random((2100, 1)) < shares.cumsum(axis=1)).argmax(axis=1)
        scores = lac_scores(shares) if method == "LAC" else aps_scores(shares, random.random(2100))
        own = scores[np.arange(2100), labels]
        found.append(
            float(sets(scores[100:], threshold(own[:100], 0.1))[np.arange(2000), labels[100:]].mean())
        )
    inside = np.mean([low <= value <= high for value in found])
    assert np.mean(found) == pytest.approx(91 / 101, abs=0.005)
    assert 0.84 <= inside <= 0.95


def test_halves_part_the_rows():
    first, second = halves(11, 3)
    assert sorted([*first, *second]) == list(range(11))
    assert (len(first), len(second)) == (5, 6)
    assert not np.array_equal(first, halves(11, 4)[0])
