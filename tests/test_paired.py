import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import binomtest, norm

from audit.paired import (
    mean_of_paired,
    paired_auc,
    paired_bootstrap,
    paired_proportions,
    same_answers,
)
from audit.replicates import quantiles
from audit.stats import METHODS, from_records, interval_at, measure, newcombe, proportion, two_intervals


def table(both, base_only, new_only, neither):
    return {"both": both, "base_only": base_only, "new_only": new_only, "neither": neither}


def tango_by_hand(gained, lost, rows, level):
    """The score interval from its definition: the share of lost rows maximises the likelihood given delta."""
    z = norm.ppf(0.5 + level / 2)

    def score(delta):
        def minus_likelihood(q):
            p, same = q + delta, 1 - 2 * q - delta
            return -sum(
                x * math.log(max(v, 1e-300))
                for x, v in ((gained, p), (lost, q), (rows - gained - lost, same))
            )

        low, high = max(0.0, -delta) + 1e-12, (1 - delta) / 2 - 1e-12
        q = minimize_scalar(
            minus_likelihood, bounds=(low, high), method="bounded", options={"xatol": 1e-14}
        ).x
        return (gained - lost - rows * delta) / math.sqrt(rows * (2 * q + delta * (1 - delta)))

    value = (gained - lost) / rows
    return brentq(lambda d: score(d) - z, -1 + 1e-6, value), brentq(lambda d: score(d) + z, value, 1 - 1e-6)


@pytest.mark.parametrize(("gained", "lost", "rows"), [(12, 30, 400), (43, 9, 80), (7, 7, 50)])
def test_the_interval_is_tangos_or_wider(gained, lost, rows):
    value, low, high = paired_proportions(table(rows - gained - lost, lost, gained, 0), 0.95)
    by_hand = tango_by_hand(gained, lost, rows, 0.95)
    assert value == (gained - lost) / rows
    assert low <= by_hand[0] + 1e-5
    assert high >= by_hand[1] - 1e-5
    assert abs(low - by_hand[0]) + abs(high - by_hand[1]) < 0.03


def test_no_rows_have_no_difference():
    assert paired_proportions(table(0, 0, 0, 0), 0.95) == (None, None, None)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 40), st.integers(0, 40), st.integers(0, 200), st.sampled_from([0.9, 0.95, 0.999, 0.99999])
)
def test_zero_is_left_out_only_where_mcnemars_exact_test_agrees(gained, lost, agree, level):
    if gained + lost + agree == 0:
        return
    value, low, high = paired_proportions(table(agree, lost, gained, 0), level)
    assert -1 <= low <= value <= high <= 1
    if low > 0 or high < 0:
        assert binomtest(gained, gained + lost).pvalue <= (1 - level) * (1 + 1e-9)


def test_mcnemars_exact_test_is_not_lost_where_it_is_clear():
    _, low, high = paired_proportions(table(900, 40, 10, 50), 0.95)
    assert binomtest(10, 50).pvalue < 0.001
    assert high < 0
    assert low < high


def test_the_interval_holds_the_truth_as_often_as_it_says():
    random, held, trials = np.random.default_rng(4), 0, 1500
    shares = (0.8, 0.09, 0.04, 0.07)
    for counts in random.multinomial(150, shares, size=trials):
        _, low, high = paired_proportions(table(*map(int, counts)), 0.95)
        held += low <= shares[2] - shares[1] <= high
    assert held / trials >= 0.95 - 3 * math.sqrt(0.05 * 0.95 / trials)


def test_the_mean_over_strata_has_the_joined_width():
    parts = [table(40, 5, 9, 6), table(70, 8, 2, 20)]
    value, low, high = mean_of_paired({"strata": parts}, 0.95)
    found = [paired_proportions(part, 0.95) for part in parts]
    assert value == pytest.approx(sum(v for v, _, _ in found) / 2)
    assert low == pytest.approx(value - math.hypot(*(v - low for v, low, _ in found)) / 2)
    assert high == pytest.approx(value + math.hypot(*(high - v for v, _, high in found)) / 2)
    assert mean_of_paired({"strata": [*parts, table(0, 0, 0, 0)]}, 0.95) == (None, None, None)


def test_the_width_of_an_auc_difference_is_that_of_both_spreads():
    statistics = {"value": 0.02, "positives": 101, "negatives": 400, "sd_positives": 0.3, "sd_negatives": 0.2}
    value, low, high = paired_auc(statistics, 0.95)
    error = math.sqrt(0.3**2 / 101 + 0.2**2 / 400)
    assert value == 0.02
    assert (high - low) / 2 == pytest.approx(1.9839715 * error, rel=1e-6)
    assert paired_auc({**statistics, "positives": 1}, 0.95) == (None, None, None)


def test_a_bootstrap_is_at_least_the_normal_interval_and_its_percentiles():
    drawn = np.random.default_rng(0).normal(0.1, 0.05, 4000)
    kept = quantiles(0.1, drawn)
    value, low, high = paired_bootstrap(kept, 0.95)
    half = 1.959964 * kept["spread"]
    assert value == 0.1
    assert low <= min(0.1 - half, np.quantile(drawn, 0.025)) + 1e-9
    assert high >= max(0.1 + half, np.quantile(drawn, 0.975)) - 1e-9
    assert high - low < 2.3 * half
    assert paired_bootstrap(quantiles(0.125, np.full(64, 0.125)), 0.95) == (0.125, None, None)


@pytest.mark.parametrize(
    ("method", "alike", "apart"),
    [
        ("paired_proportions", table(5, 0, 0, 1), table(5, 1, 1, 1)),
        ("mean_of_paired", {"strata": [table(5, 0, 0, 1)]}, {"strata": [table(5, 1, 0, 1)] * 2}),
        ("student_t", {"n": 5, "mean": 0.0, "sd": 0.0}, {"n": 5, "mean": 0.0, "sd": 0.1}),
        ("paired_auc", {"value": 0.0, "sd_positives": 0.0, "sd_negatives": 0.0},
         {"value": 0.0, "sd_positives": 0.0, "sd_negatives": 0.1}),
        ("two_intervals", {"differ": 0}, {"differ": 3}),
        ("exact", {"value": 0.0}, None),
        ("two_intervals", {"differ": 0}, {}),
    ],
)  # fmt: skip
def test_only_rows_that_differ_tell_two_models_apart(method, alike, apart):
    assert same_answers(method, alike)
    if apart is not None:
        assert not same_answers(method, apart)


def test_two_records_alone_give_newcombes_interval():
    old, new = (
        proportion("accuracy", 80, 100, better="higher"),
        proportion("accuracy", 150, 200, better="higher"),
    )
    statistics = from_records(old, new)[1]
    expected = newcombe({"x1": 150, "n1": 200, "x0": 80, "n0": 100}, 0.99)
    assert two_intervals(statistics, 0.99) == pytest.approx(expected)


def test_a_difference_between_groups_changes_by_how_near_it_is_to_zero():
    sides = [{"x1": count, "n1": 100, "x0": 40, "n0": 100} for count in (10, 75)]
    old, new = (measure("m", "newcombe", side, better="zero") for side in sides)
    value, low, high = two_intervals(from_records(old, new)[1], 0.95)
    assert (old.value, new.value) == (pytest.approx(-0.3), pytest.approx(0.35))
    assert value == pytest.approx(0.05)
    assert low == pytest.approx(0.05 - math.hypot(0.35 - new.low, -old.low - 0.3))
    assert high == pytest.approx(0.05 + math.hypot(new.high - 0.35, 0.3 + old.high))


def test_an_interval_that_holds_one_is_nearest_there():
    old = measure("m", "koopman", {"x1": 40, "n1": 100, "x0": 41, "n0": 100}, better="one")
    new = measure("m", "koopman", {"x1": 40, "n1": 100, "x0": 39, "n0": 100}, better="one")
    value, low, high = two_intervals(from_records(old, new)[1], 0.95)
    assert abs(value) < 0.01
    assert low < -0.2
    assert high > 0.2


@pytest.mark.parametrize("name", ["paired_proportions", "mean_of_paired", "paired_auc", "paired_bootstrap"])
def test_every_method_can_be_derived_again_from_the_record(name):
    statistics = {
        "paired_proportions": table(10, 2, 5, 3),
        "mean_of_paired": {"strata": [table(10, 2, 5, 3)]},
        "paired_auc": {
            "value": 0.1,
            "positives": 9,
            "negatives": 9,
            "sd_positives": 0.1,
            "sd_negatives": 0.1,
        },
        "paired_bootstrap": quantiles(0.1, np.random.default_rng(0).normal(0.1, 0.1, 500)),
    }[name]
    item = measure("m", name, statistics)
    assert name in METHODS
    wide, narrow = interval_at(item, 0.999), interval_at(item, 0.8)
    assert wide[0] < narrow[0] <= narrow[1] < wide[1]
