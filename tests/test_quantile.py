"""Quantiles of counted values, against scipy's order-statistic interval and by simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import quantile_test

from audit.quantile import counted, quantile


def test_values_are_counted_to_three_digits():
    assert counted([0.12345, 0.1234, 2.0, 2.0]) == {"values": [0.123, 2.0], "counts": [2, 2]}


@pytest.mark.parametrize("q", [0.5, 0.1])
def test_the_interval_is_scipys(q):
    values = np.round(np.random.default_rng(3).gamma(2, 1, 150), 2)
    found = quantile({**counted(values), "q": q}, 0.9)
    theirs = quantile_test(np.sort(values), q=0, p=q).confidence_interval(0.9)
    assert found[1:] == pytest.approx((theirs.low, theirs.high))


def test_the_interval_holds_the_median_as_often_as_it_says():
    draw = np.random.default_rng(0)
    held = 0
    for _ in range(600):
        _, low, high = quantile({**counted(draw.exponential(1.0, 60)), "q": 0.5}, 0.9)
        held += low <= np.log(2) <= high
    assert held / 600 > 0.88


@given(st.lists(st.floats(0.001, 1000), min_size=1, max_size=60), st.floats(0.05, 0.95))
def test_the_value_lies_in_its_interval_and_wider_levels_hold_narrower_ones(values, q):
    value, low, high = quantile({**counted(values), "q": q}, 0.8)
    _, wide_low, wide_high = quantile({**counted(values), "q": q}, 0.99)
    assert value in counted(values)["values"]
    if low is not None:
        assert low <= value <= high
    if wide_low is not None:
        assert wide_low <= low <= high <= wide_high


def test_few_rows_have_a_value_and_no_interval_and_no_rows_have_neither():
    assert quantile({**counted([1.0, 2.0, 3.0]), "q": 0.5}, 0.95) == (2.0, None, None)
    assert quantile({"values": [], "counts": [], "q": 0.5}, 0.95) == (None, None, None)
