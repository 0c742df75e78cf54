"""Risk and coverage, restated row by row; the order of ties; coverage of the bootstrap."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.reliability.risk import aurc, coverage_at, estimate, excess_aurc, risk_cells
from audit.stats import interval_at, measure


def slow_aurc(right):
    """Rows from the most confident down."""
    wrong = ~np.asarray(right, bool)
    return float(np.mean([wrong[:k].mean() for k in range(1, len(wrong) + 1)]))


def downwards(cells):
    return np.array(cells["negatives"][::-1]), np.array(cells["positives"][::-1])


def statistics(rank, right, metric, draws=300, **more):
    return {**risk_cells(rank, right, 256), "metric": metric, "draws": draws, "seed": 1, **more}


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_aurc_is_the_mean_risk_over_all_coverages(right):
    flags = np.array(right)
    rank = -np.arange(len(flags), dtype=float)
    cells = downwards(risk_cells(rank, flags, 256))
    assert float(aurc(*cells)) == pytest.approx(slow_aurc(flags), abs=1e-12)
    best = slow_aurc(np.sort(flags)[::-1])
    assert float(excess_aurc(*cells)) == pytest.approx(slow_aurc(flags) - best, abs=1e-12)


def test_ties_stand_in_random_order():
    flags = (True, False, False, True)
    every = [slow_aurc(order) for order in itertools.permutations(flags)]
    cells = downwards(risk_cells(np.zeros(4), np.array(flags), 256))
    assert float(aurc(*cells)) == pytest.approx(np.mean(every), abs=1e-12)


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.sampled_from([0.0, 0.1, 0.3, 0.6]))
def test_coverage_at_a_risk_is_the_largest_that_keeps_it(right, risk):
    flags = np.array(right)
    count = len(flags)
    cells = downwards(risk_cells(-np.arange(count, dtype=float), flags, 256))
    ends = [k for k in range(1, count + 1) if k == count or flags[k - 1] != flags[k]]
    slow = max([k / count for k in ends if (~flags[:k]).sum() <= risk * k + 1e-12], default=0.0)
    assert float(coverage_at(*cells, risk)) == pytest.approx(slow)


def population(count, seed, knows=True):
    random = np.random.default_rng(seed)
    rank = random.normal(1.5, 1.5, count)
    chance = 1 / (1 + np.exp(-rank)) if knows else np.full(count, 0.8)
    return rank, random.random(count) < chance


@pytest.mark.parametrize("metric", ["aurc", "excess"])
def test_intervals_hold_the_truth(metric):
    rank, right = population(400_000, 7)
    wrong = ~right[np.argsort(-rank)]
    truth = float((np.cumsum(wrong) / np.arange(1, len(wrong) + 1)).mean())
    if metric == "excess":
        last = np.sort(wrong)
        truth -= float((np.cumsum(last) / np.arange(1, len(wrong) + 1)).mean())
    held = sum(
        low <= truth <= high
        for _, low, high in (
            estimate(statistics(*population(400, seed), metric), 0.95) for seed in range(150)
        )
    )
    assert held >= 134


def test_confidence_that_knows_nothing_is_told_from_one_that_knows():
    knowing = measure("a", "risk_coverage", statistics(*population(1500, 3), "aurc"))
    blind_rank, right = population(1500, 3)
    blind_rank = np.random.default_rng(0).permutation(blind_rank)
    blind = measure("a", "risk_coverage", statistics(blind_rank, right, "aurc"))
    assert knowing.high < blind.low
    assert blind.low < 1 - right.mean() < blind.high


def test_no_rows_no_error_and_all_errors():
    none = np.zeros(0)
    assert estimate(statistics(none, none.astype(bool), "aurc"), 0.95) == (None, None, None)
    rank = np.arange(50.0)
    value, low, high = estimate(statistics(rank, np.ones(50, bool), "aurc"), 0.95)
    assert (value, low) == (0, 0)
    assert high == pytest.approx(1 - 0.025 ** (1 / 50))
    few = estimate(statistics(rank, np.ones(50, bool), "coverage", risk=0.05), 0.95)
    many = estimate(statistics(np.arange(500.0), np.ones(500, bool), "coverage", risk=0.05), 0.95)
    assert few == (1, 0, 1)
    assert many == (1, 1, 1)
    value, low, high = estimate(statistics(rank, np.zeros(50, bool), "aurc"), 0.95)
    assert (value, high) == (1, 1)
    assert low < 1


def test_levels_nest():
    item = measure("a", "risk_coverage", statistics(*population(200, 1), "aurc"))
    low, high = interval_at(item, 0.999)
    assert low <= item.low < item.value < item.high <= high
