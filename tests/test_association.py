"""Cramer's V against scipy, and its interval where the truth is known."""

import numpy as np
import pytest
from scipy.stats import ncx2
from scipy.stats.contingency import association

from audit import stats
from audit.association import cramers_v


def of(table, level=0.95):
    return cramers_v({"table": table}, level)


def test_a_large_table_has_the_v_of_scipy():
    table = [[3000, 1000, 500], [700, 2000, 2600]]
    value, low, high = of(table)
    assert value == pytest.approx(association(np.array(table), method="cramer"), abs=1e-3)
    assert low < value < high


def test_the_ends_are_where_the_distribution_says():
    table = np.array([[30, 20], [15, 35]])
    expected = np.outer(table.sum(1), table.sum(0)) / 100
    statistic = ((table - expected) ** 2 / expected).sum()
    _, low, high = of(table.tolist())
    assert ncx2.cdf(statistic, 1, low**2 * 100) == pytest.approx(0.975, abs=1e-9)
    assert ncx2.cdf(statistic, 1, high**2 * 100) == pytest.approx(0.025, abs=1e-9)


def test_complete_association_is_1():
    value, low, high = of([[500, 0], [0, 500]])
    assert value == pytest.approx(1, abs=1e-3)
    assert low > 0.9
    assert high == 1.0


def test_independent_columns_are_rarely_shown_to_be_associated():
    random = np.random.default_rng(0)
    lows = []
    for _ in range(300):
        index = random.integers(0, 2, 800) * 6 + random.integers(0, 6, 800)
        lows.append(of(np.bincount(index, minlength=12).reshape(2, 6).tolist())[1])
    assert np.mean(np.array(lows) > 0) <= 0.05


def test_the_interval_covers_a_known_v():
    """P(cell) = .25 +- .075 in a 2 x 2 table: V = .3."""
    random = np.random.default_rng(1)
    held = 0
    for _ in range(300):
        table = random.multinomial(500, [0.325, 0.175, 0.175, 0.325]).reshape(2, 2)
        _, low, high = of(table.tolist())
        held += low <= 0.3 <= high
    assert held >= 0.91 * 300


@pytest.mark.parametrize("table", [[], [[5, 3]], [[5, 3], [0, 0]], [[5, 0], [7, 0]]])
def test_one_row_or_column_has_no_association(table):
    assert of(table) == (None, None, None)


def test_chance_level_association_is_0():
    table = [[25, 25], [25, 25]]
    value, low, high = of(table)
    assert (value, low) == (0.0, 0.0)
    assert ncx2.cdf(1, 1, high**2 * 100) == pytest.approx(0.025, abs=1e-9)


def test_it_is_a_method_of_the_record():
    item = stats.measure("association", "cramers_v", {"table": [[9, 1], [1, 9]]})
    assert (item.value, item.low, item.high) == of([[9, 1], [1, 9]])


def test_a_sparse_table_of_independent_columns_shows_no_association():
    """20 rows in one group, some 60 rare levels: unjoined, one table in twelve looks associated."""
    random = np.random.default_rng(2)
    weights = 1 / np.arange(1, 61)
    found = 0
    for _ in range(200):
        levels = random.choice(60, size=2000, p=weights / weights.sum())
        table = np.stack([np.bincount(levels[:20], minlength=60), np.bincount(levels[20:], minlength=60)])
        found += cramers_v({"table": table.tolist()}, 0.99)[1] > 0
    assert found <= 6
