"""Likeness of explanations: against scipy and against sets, row by row."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from audit.trust.similarity import rank_correlation, sign_change, top_overlap, without_negligible


def test_rank_correlation_is_spearmans():
    random = np.random.default_rng(0)
    one, other = random.normal(size=(2, 50, 6))
    one[:, 3] = one[:, 4]
    found = rank_correlation(one, other)
    slow = [spearmanr(a, b).statistic for a, b in zip(*map(without_negligible, (one, other)), strict=True)]
    assert found == pytest.approx(slow)


def test_top_overlap_is_the_jaccard_index_of_sets():
    random = np.random.default_rng(1)
    one, other = random.normal(size=(2, 50, 7))
    found = top_overlap(one, other, 3)
    for a, b, overlap in zip(one, other, found, strict=True):
        first, second = (set(sorted(range(7), key=lambda i: -abs(row[i]))[:3]) for row in (a, b))
        assert overlap == pytest.approx(len(first & second) / len(first | second))


def test_what_carries_next_to_nothing_has_no_rank():
    one = np.array([[5.0, 1e-6, -2e-6, 3e-7]])
    other = np.array([[4.0, -1e-6, 9e-7, 0.0]])
    assert rank_correlation(one, other) == pytest.approx([1.0])
    assert top_overlap(one, other, 2) == pytest.approx([1.0])
    assert rank_correlation(one, -other)[0] < 0


def test_half_of_the_features_is_the_most_that_can_lead():
    one, other = np.array([[4.0, 3.0, 2.0, 1.0]]), np.array([[1.0, 2.0, 3.0, 4.0]])
    assert top_overlap(one, other, 4) == pytest.approx([0.0])
    assert top_overlap(one[:, :1], other[:, :1], 3) == pytest.approx([1.0])


@pytest.mark.parametrize("bad", [[0.0, 0.0, 0.0], [np.nan, 1.0, 2.0], [np.inf, 1.0, 2.0]])
def test_no_ranking_is_not_a_number(bad):
    good = np.array([[1.0, 2.0, 3.0]])
    for pair in ((np.array([bad]), good), (good, np.array([bad]))):
        assert np.isnan(rank_correlation(*pair)).all()
        assert np.isnan(top_overlap(*pair, 2)).all()


def test_equal_values_are_no_ranking_and_one_feature_is_none():
    assert np.isnan(rank_correlation(np.ones((1, 3)), np.array([[1.0, 2.0, 3.0]]))).all()
    assert np.isnan(rank_correlation(np.ones((2, 1)), np.ones((2, 1)))).all()


@given(st.lists(st.floats(-10, 10), min_size=3, max_size=8), st.integers(1, 8))
def test_an_explanation_is_like_itself_or_has_no_ranking(values, k):
    row = np.array([values])
    assert rank_correlation(row, row)[0] == pytest.approx(1) or np.isnan(rank_correlation(row, row)[0])
    assert top_overlap(row, row, k)[0] == pytest.approx(1) or np.isnan(top_overlap(row, row, k)[0])


def test_change_of_signs_is_the_share_of_all_attribution_that_changed():
    one = np.array([[1.0, -2.0, 3.0]] * 16 + [[0.1, 0.0, 0.0]] * 4)
    other = np.array([[3.0, 2.0, 1.0]] * 16 + [[-0.3, 0.0, 0.0]] * 4)
    found = sign_change(one, other)
    assert found.mean() == pytest.approx((16 * 2 + 4 * 0.2) / (16 * (2 + 2 + 2) + 4 * 0.2))


def test_one_row_of_large_attributions_is_not_all_attribution():
    """Its sign changes and no other does: it has an eighth of the weight and not all of it."""
    one = np.array([[1e6, 0.0]] + [[1.0, 2.0]] * 15)
    assert sign_change(one, one * np.where(one > 1e5, -1, 1)).mean() == pytest.approx(1 / 8)


def test_a_value_close_to_0_may_have_either_sign():
    """Nine rows with something to attribute, one without."""
    one = np.array([[5.0, 0.0]] * 9 + [[0.01, 0.0]])
    other = np.array([[5.0, 0.0]] * 9 + [[-0.01, 0.0]])
    assert 0 < sign_change(one, other).mean() < 0.001
    assert sign_change(one, -other).mean() > 0.999


def test_random_signs_change_half_of_the_time_and_odd_rows_are_left_out():
    one, other = np.random.default_rng(0).normal(size=(2, 4000, 5))
    one[0, 0] = np.nan
    found = sign_change(one, other)
    assert np.isnan(found[0])
    assert found[1:].mean() == pytest.approx(0.5, abs=0.02)
    assert np.isnan(sign_change(np.zeros((3, 2)), np.zeros((3, 2)))).all()


def test_a_value_that_becomes_0_has_lost_its_sign_and_not_changed_it():
    found = sign_change(np.array([[2.0, 0.0, -1.0]] * 3), np.array([[2.0, 1.0, 0.0]] * 3))
    assert found == pytest.approx(np.zeros(3))
