"""False positives at a true positive rate: by sorting rows, and an interval that holds the truth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.reliability.detection import estimate
from audit.scores import compact, count_scores, equal_mass_bins


def cells(known, foreign):
    labels = np.repeat([1, 0], [len(known), len(foreign)])
    places = equal_mass_bins(np.concatenate([known, foreign]).astype(float), 1024)
    return compact(count_scores(np.zeros_like(labels), labels, places, 1, 1024)[0])


def slow(known, foreign, rate):
    """The highest threshold, among the known scores, that lets the rate of them pass."""
    known, foreign = np.asarray(known, float), np.asarray(foreign, float)
    for threshold in sorted(known, reverse=True):
        if (known >= threshold).mean() >= rate - 1e-12:
            return (foreign >= threshold).mean()
    raise AssertionError


scores = st.lists(st.integers(0, 12), min_size=1, max_size=30)


@given(scores, scores, st.sampled_from([0.5, 0.8, 0.95]))
def test_the_value_is_that_of_sorted_rows(known, foreign, rate):
    value, low, high = estimate({**cells(known, foreign), "rate": rate}, 0.95)
    assert value == pytest.approx(slow(known, foreign, rate))
    assert 0 <= low <= value <= high <= 1


@pytest.mark.parametrize("shift", [0.0, 1.0, 3.0])
def test_the_interval_holds_the_truth_although_the_threshold_is_estimated(shift):
    from scipy.stats import norm

    truth = norm.sf(norm.ppf(0.05) + shift)
    held = 0
    for seed in range(300):
        random = np.random.default_rng(seed)
        known, foreign = random.normal(size=120), random.normal(-shift, 1, 150)
        _, low, high = estimate({**cells(known, foreign), "rate": 0.95}, 0.95)
        held += low <= truth <= high
    assert held >= 285


def test_too_few_known_rows_leave_everything_open():
    _, _, high = estimate({**cells([5, 6, 7], [0, 1]), "rate": 0.95}, 0.95)
    assert high == 1


def test_one_side_without_rows_gives_no_number():
    assert estimate({"negatives": [], "positives": [3], "rate": 0.95}, 0.95) == (None, None, None)
    assert estimate({"negatives": [2], "positives": [0], "rate": 0.95}, 0.95) == (None, None, None)
