"""Intervals from kept quantiles of draws, against the draws themselves."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.replicates import TAILS, estimate, over_pairs, quantiles

DRAWN = np.random.default_rng(0).normal(3.0, 0.5, 2000)


def one(value, drawn):
    return {"groups": [quantiles(value, np.asarray(drawn))]}


@pytest.mark.parametrize("tail", [0.25, 0.1, 0.025, 0.0125, 0.005, 0.0025])
def test_at_a_tail_of_the_grid_it_is_the_percentile_interval(tail):
    found = estimate(one(3.0, DRAWN), 1 - 2 * tail)
    assert found == pytest.approx((3.0, np.quantile(DRAWN, tail), np.quantile(DRAWN, 1 - tail)), abs=1e-12)


@given(st.floats(0.0, 0.999999), st.floats(2.0, 4.0))
def test_between_the_tails_it_is_never_narrower_than_the_draws(level, value):
    _, low, high = estimate(one(value, DRAWN), level)
    tail = (1 - level) / 2
    assert low <= min(value, np.quantile(DRAWN, tail)) + 1e-9 or tail * 2000 < 5
    assert high >= max(value, np.quantile(DRAWN, 1 - tail)) - 1e-9 or tail * 2000 < 5
    assert low <= value <= high


@given(st.floats(0.5, 0.999999), st.floats(0.5, 0.999999))
def test_a_higher_level_is_never_narrower(first, second):
    lower, higher = sorted((first, second))
    _, low, high = estimate(one(3.0, DRAWN), lower)
    _, wider_low, wider_high = estimate(one(3.0, DRAWN), higher)
    assert wider_low <= low
    assert wider_high >= high


def test_beyond_what_the_draws_reach_the_normal_interval_is_joined():
    """Of 100 draws five lie beyond a tail of .05; at level .999 only the normal tail is left."""
    drawn = DRAWN[:100]
    kept = quantiles(3.0, drawn)
    assert kept["tails"] == [tail for tail in TAILS if tail >= 0.05]
    _, low, high = estimate({"groups": [kept]}, 0.999)
    assert low == pytest.approx(3.0 - 3.2905267 * drawn.std(), abs=1e-6)
    assert high == pytest.approx(3.0 + 3.2905267 * drawn.std(), abs=1e-6)


def test_draws_that_are_not_finite_are_left_out_and_counted():
    kept = quantiles(3.0, np.append(DRAWN, [np.nan, np.inf]))
    assert (kept["draws"], kept["undefined"]) == (2000, 2)
    assert estimate({"groups": [kept]}, 0.95) == estimate(one(3.0, DRAWN), 0.95)
    assert estimate(one(3.0, [np.nan] * 50), 0.95) == (3.0, None, None)


def test_draws_that_do_not_vary_give_no_interval_and_no_difference():
    flat = quantiles(1.0, np.ones(100))
    assert estimate({"groups": [flat]}, 0.95) == (1.0, None, None)
    assert estimate({"groups": [flat, quantiles(3.0, DRAWN)]}, 0.95) == (None, None, None)


def test_equal_groups_are_seldom_shown_to_differ_and_unequal_ones_are():
    """Four means of 60 values each; the largest difference of the truth is 0, or 1 with the plant."""
    seen = found = held = 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        samples = random.normal(size=(4, 60))
        for plant in (0.0, 1.0):
            kept = []
            for place, sample in enumerate(samples):
                values = sample + plant * (place == 2)
                kept.append(quantiles(values.mean(), random.choice(values, (400, 60)).mean(axis=1)))
            value, low, high = estimate({"groups": kept}, 0.95)
            assert low <= value <= high
            seen += plant == 0 and low > 0
            found += plant == 1 and low > 0
            held += plant == 1 and low <= 1 <= high
    assert seen <= 14
    assert found >= 190
    assert held >= 186


def test_the_pairs_share_the_level_and_each_interval_is_the_hybrid():
    """Three groups with ends at +-1, +-2, +-3 around 0, 4 and 9, worked out by hand."""
    levels = []

    def ends(group, level):
        levels.append(level)
        return group["v"], group["v"] - group["r"], group["v"] + group["r"]

    groups = [{"v": 0.0, "r": 1.0}, {"v": 4.0, "r": 2.0}, {"v": 9.0, "r": 3.0}]
    found = over_pairs(groups, 0.95, ends)
    assert levels == pytest.approx([1 - 0.05 / 3] * 3)
    assert found == pytest.approx((9.0, 9 - 10**0.5, 9 + 10**0.5))
    assert over_pairs(groups[:1], 0.95, ends) == (None, None, None)


def test_reading_an_interval_needs_no_numpy():
    code = "import sys, audit.stats, audit.replicates; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_group_that_is_lower_here_may_truly_be_the_higher_one():
    """0.1 known to .01 against 0 that may be as much as .4: they may lie .39 apart or more."""
    kept = {0.1: (0.1, 0.09, 0.11), 0.0: (0.0, 0.0, 0.4)}
    value, low, high = over_pairs([{"v": 0.1}, {"v": 0.0}], 0.95, lambda group, _: kept[group["v"]])
    assert (value, low) == (0.1, 0.0)
    assert high == pytest.approx((0.01**2 + 0.4**2) ** 0.5 - 0.1)
