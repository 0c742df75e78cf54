"""Weighted means: no row speaks for all, and their error is that of leaving rows out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.stats import interval_at, mean
from audit.trust.pooling import pooled, shares

SIZES = st.lists(st.just(0.0) | st.floats(1e-3, 1e4), min_size=2, max_size=40).filter(any)


@given(sizes=SIZES, seed=st.integers(0, 9))
def test_the_mean_is_weighted_and_the_spread_is_that_of_leaving_rows_out(sizes, seed):
    values, weights = np.random.default_rng(seed).uniform(-5, 5, len(sizes)), shares(np.array(sizes))
    found = pooled(values, np.array(sizes))
    assert found.mean() == pytest.approx(sum(v * w for v, w in zip(values, weights, strict=True)), abs=1e-9)
    rows = range(len(sizes))
    without = []
    for left in rows:
        kept = [row for row in rows if row != left]
        without.append(sum(values[i] * weights[i] for i in kept) / sum(weights[i] for i in kept))
    middle = sum(without) / len(rows)
    by_hand = np.sqrt((len(rows) - 1) / len(rows) * sum((one - middle) ** 2 for one in without))
    assert found.std(ddof=1) / np.sqrt(len(rows)) == pytest.approx(by_hand, rel=1e-6, abs=1e-9)


@given(sizes=SIZES)
def test_shares_are_sizes_and_no_row_has_more_than_it_may(sizes):
    found, most = shares(np.array(sizes)), min(0.5, max(2 / len(sizes), 1 / 8))
    assert found.sum() == pytest.approx(1)
    assert found.min() >= 0
    assert found.max() <= most + 1e-6
    free = found < most * (1 - 1e-6)
    scale = found[free].sum() / max(np.array(sizes)[free].sum(), 1e-300)
    if np.array(sizes)[free].any():
        assert found[free] == pytest.approx(np.array(sizes)[free] * scale, abs=1e-9)
    order = np.argsort(sizes, kind="stable")
    assert (np.diff(found[order]) >= -1e-9).all()


def test_shares_by_hand():
    assert shares(np.array([1.0, 1.0, 2.0, 4.0])) == pytest.approx([1 / 8, 1 / 8, 1 / 4, 1 / 2])
    assert shares(np.array([9.0, 0.0])) == pytest.approx([0.5, 0.5])
    assert shares(np.array([1.0, 1.0, 1.0, 97.0])) == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1 / 2])
    heavy = np.ones(17)
    heavy[3] = 1e9
    assert shares(heavy) == pytest.approx(np.where(heavy > 1, 1 / 8, 7 / 8 / 16))
    assert shares(np.array([1e9, 1e9, *([0.0] * 14)])) == pytest.approx([1 / 8, 1 / 8, *([3 / 4 / 14] * 14)])


def test_equal_sizes_change_nothing_and_none_weigh_the_same():
    values = np.array([1.0, 2.0, 4.0])
    assert pooled(values, np.full(3, 7.0)) == pytest.approx(values)
    assert pooled(values, np.zeros(3)) is values
    assert pooled(values[:1], np.ones(1)) == pytest.approx([1.0])
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


HEAVY = {
    "even": lambda random, n: random.uniform(0.9, 1.1, n),
    "skewed": lambda random, n: random.lognormal(0, 2, n),
    "one row": lambda random, n: np.where(np.arange(n) < 1, 1e4, random.uniform(0.5, 1, n)),
    "two rows": lambda random, n: np.where(np.arange(n) < 2, 1e3, random.uniform(0.5, 1, n)),
}


@pytest.mark.parametrize("rows", [8, 32])
@pytest.mark.parametrize("kind", HEAVY)
def test_noise_is_not_shown_to_be_above_0_however_the_sizes_are(kind, rows):
    """Nominally 2.5 % of samples of noise; a plain ratio gives 49 % where one row carries all."""
    random = np.random.default_rng(1)
    shown = 0
    for _ in range(2000):
        values = random.normal(size=rows)
        low, _ = interval_at(mean("x", pooled(values, HEAVY[kind](random, rows)).tolist()), 0.95)
        shown += low > 0
    assert shown / 2000 < 0.05
