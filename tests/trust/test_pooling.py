"""Weighted means with the error of a ratio."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.stats import interval_at, mean
from audit.trust.pooling import pooled

ROWS = st.lists(st.tuples(st.floats(-5, 5), st.floats(0, 100)), min_size=2, max_size=30)


@given(rows=ROWS)
def test_the_mean_is_weighted_and_the_spread_is_that_of_a_ratio(rows):
    values, sizes = np.array(rows).T
    found = pooled(values, sizes)
    if sizes.sum() < 1e-6:
        return
    ratio = sum(v * s for v, s in rows) / sum(s for _, s in rows)
    assert found.mean() == pytest.approx(ratio, abs=1e-9)
    residuals = [s * v - ratio * s for v, s in rows]
    by_hand = np.sqrt(sum(r**2 for r in residuals) / (len(rows) - 1)) / (sizes.sum() / len(rows))
    assert found.std(ddof=1) == pytest.approx(by_hand, rel=1e-6, abs=1e-6)


def test_equal_sizes_change_nothing_and_none_weigh_the_same():
    values = np.array([1.0, 2.0, 4.0])
    assert pooled(values, np.full(3, 7.0)) == pytest.approx(values)
    assert pooled(values, np.zeros(3)) is values
    assert len(pooled(np.zeros(0), np.zeros(0))) == 0


def test_columns_are_weighted_each_by_itself():
    values = np.arange(6.0).reshape(3, 2)
    sizes = np.array([1.0, 2.0, 5.0])
    for column in range(2):
        assert pooled(values, sizes)[:, column] == pytest.approx(pooled(values[:, column], sizes))


def test_the_interval_covers_the_ratio_of_the_population():
    """1,000 samples of 40 rows whose value depends on their size: the ratio lies inside in about 95 %."""
    random = np.random.default_rng(0)
    sizes = random.gamma(1, size=100_000)
    values = np.tanh(sizes) + random.normal(size=100_000)
    truth = (values * sizes).sum() / sizes.sum()
    inside = 0
    for _ in range(1000):
        rows = random.integers(100_000, size=40)
        low, high = interval_at(mean("x", pooled(values[rows], sizes[rows]).tolist()), 0.95)
        inside += low <= truth <= high
    assert 900 < inside < 980
