"""Every interval against an independent restatement, a library or a published number."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import binom, binomtest, chi2, ttest_1samp, ttest_ind_from_stats

from audit import stats
from audit.evidence import Measure

COUNTS = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
LEVELS = st.sampled_from([0.8, 0.9, 0.95, 0.99, 0.999])


@given(COUNTS, LEVELS)
def test_wilson_equals_scipy(counts, level):
    x, n = counts
    oracle = binomtest(x, n).proportion_ci(level, method="wilson")
    assert stats.wilson({"x": x, "n": n}, level) == pytest.approx((x / n, oracle.low, oracle.high), abs=1e-12)


@given(COUNTS, LEVELS)
def test_clopper_pearson_equals_scipy(counts, level):
    x, n = counts
    oracle = binomtest(x, n).proportion_ci(level, method="exact")
    found = stats.clopper_pearson({"x": x, "n": n}, level)
    assert found == pytest.approx((x / n, oracle.low, oracle.high), abs=1e-9)


def test_newcombe_reproduces_the_published_example():
    """Newcombe (1998), table II, method 10: 56/70 - 48/80."""
    found = stats.newcombe({"x1": 56, "n1": 70, "x0": 48, "n0": 80}, 0.95)
    assert found == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


def test_newcombe_of_two_perfect_groups_is_not_a_point():
    """Newcombe (1998), table II, example (h): 10/10 - 0/10."""
    found = stats.newcombe({"x1": 10, "n1": 10, "x0": 0, "n0": 10}, 0.95)
    assert found == pytest.approx((1.0, 0.6075, 1.0), abs=5e-5)


def test_koopman_reproduces_the_published_example():
    """Koopman (1984): 36/40 against 16/80 gives 4.5 (2.94, 7.15)."""
    found = stats.koopman({"x1": 36, "n1": 40, "x0": 16, "n0": 80}, 0.95)
    assert found == pytest.approx((4.5, 2.94, 7.15), abs=6e-3)


def restated_koopman(x1, n1, x0, n0, level):
    """The interval by brute force: maximise the likelihood numerically at each ratio, then find the roots."""

    def chi_square(phi):
        def minus_log_likelihood(p1):
            p0 = p1 / phi
            return -sum(
                x * math.log(p) + (n - x) * math.log1p(-p) for x, n, p in ((x1, n1, p1), (x0, n0, p0))
            )

        top = min(1.0, phi)
        fit = minimize_scalar(
            minus_log_likelihood, bounds=(1e-12, top - 1e-12), method="bounded", options={"xatol": 1e-13}
        )
        p1 = fit.x
        p0 = p1 / phi
        return (x1 - n1 * p1) ** 2 / (n1 * p1 * (1 - p1)) + (x0 - n0 * p0) ** 2 / (n0 * p0 * (1 - p0))

    limit = chi2.ppf(level, 1)
    ratio = (x1 / n1) / (x0 / n0)
    low = brentq(lambda phi: chi_square(phi) - limit, ratio * 1e-3, ratio)
    high = brentq(lambda phi: chi_square(phi) - limit, ratio, ratio * 1e3)
    return low, high


@pytest.mark.parametrize("cells", [(30, 100, 50, 120), (5, 40, 300, 900), (90, 100, 80, 100), (3, 12, 7, 20)])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.999])
def test_koopman_equals_brute_force(cells, level):
    x1, n1, x0, n0 = cells
    _, low, high = stats.koopman({"x1": x1, "n1": n1, "x0": x0, "n0": n0}, level)
    assert (low, high) == pytest.approx(restated_koopman(x1, n1, x0, n0, level), rel=1e-4)


@given(COUNTS, COUNTS, LEVELS)
def test_koopman_holds_its_estimate_and_is_finite(first, second, level):
    (x1, n1), (x0, n0) = first, second
    value, low, high = stats.koopman({"x1": x1, "n1": n1, "x0": x0, "n0": n0}, level)
    if x0 == 0:
        assert (value, low, high) == stats.UNDEFINED
        return
    assert 0 <= low <= value * (1 + 1e-9) + 1e-9
    assert value * (1 - 1e-9) - 1e-9 <= high < math.inf


@given(COUNTS, COUNTS)
def test_exact_limits_only_widen_the_ratio_and_more_so_at_higher_levels(first, second):
    counts = dict(zip(("x1", "n1", "x0", "n0"), (*first, *second), strict=True))
    within = None
    for level in (0.5, 0.8, 0.95, 0.99, 0.9995, 0.999995):
        value, low, high = stats.koopman_exact(counts, level)
        plain = stats.koopman(counts, level)
        if plain[0] is None:
            assert (value, low, high) == stats.UNDEFINED
            return
        assert value == plain[0]
        assert low <= plain[1] <= plain[2] <= high < math.inf
        assert low <= value * (1 + 1e-9)
        assert value * (1 - 1e-9) <= high
        assert within is None or (low <= within[0] and within[1] <= high)
        within = low, high


@pytest.mark.parametrize("cells", [(2, 412, 2, 17), (3, 12, 7, 20), (90, 92, 100, 103)])
@pytest.mark.parametrize("level", [0.95, 0.999])
def test_the_wider_ends_are_those_of_exact_limits_added_as_logarithms(cells, level):
    x1, n1, x0, n0 = cells
    one, zero = (binomtest(x, n).proportion_ci(level, method="exact") for x, n in ((x1, n1), (x0, n0)))
    p1, p0 = x1 / n1, x0 / n0
    below = (math.log(p1 / one.low) ** 2 + math.log(zero.high / p0) ** 2) ** 0.5
    above = (math.log(one.high / p1) ** 2 + math.log(p0 / zero.low) ** 2) ** 0.5
    ratio = p1 / p0
    _, low, high = stats.koopman(dict(zip(("x1", "n1", "x0", "n0"), cells, strict=True)), level)
    expected = ratio, min(low, ratio / math.exp(below)), max(high, ratio * math.exp(above))
    found = stats.koopman_exact({"x1": x1, "n1": n1, "x0": x0, "n0": n0}, level)
    assert found == pytest.approx(expected, rel=1e-7)


def test_exact_limits_widen_nothing_where_rows_are_many():
    counts = {"x1": 40_000, "n1": 100_000, "x0": 50_000, "n0": 100_000}
    for level in (0.95, 0.9999):
        assert stats.koopman_exact(counts, level) == pytest.approx(stats.koopman(counts, level), rel=3e-4)


@pytest.mark.parametrize(
    ("n1", "n0", "rate", "ratio"), [(412, 17, 0.01, 1.0), (100, 32, 0.03, 1.0), (32, 100, 0.97, 1.0)]
)
def test_the_chance_of_a_wrong_side_is_at_most_half_the_error_where_events_are_few(n1, n0, rate, ratio):
    """Summed over every table, at the level of one of 13 comparisons with the best of 14 groups."""
    tail = 0.05 / 13 / 7 / 2
    missed = {"koopman": 0.0, "koopman_exact": 0.0}
    for x1, x0 in itertools.product(range(n1 + 1), range(1, n0 + 1)):
        chance = binom.pmf(x1, n1, rate * ratio) * binom.pmf(x0, n0, rate)
        if chance > 1e-8:
            for name in missed:
                counts = {"x1": x1, "n1": n1, "x0": x0, "n0": n0}
                missed[name] += chance * (stats.METHODS[name](counts, 1 - 2 * tail)[2] < ratio)
    assert missed["koopman"] > 3 * tail
    assert missed["koopman_exact"] <= tail


def test_two_selected_of_two_is_a_wide_interval():
    _, low, high = stats.wilson({"x": 2, "n": 2}, 0.95)
    assert low < 0.35
    assert high == 1.0


@pytest.mark.parametrize("method", ["wilson", "clopper_pearson"])
def test_no_rows_is_undefined(method):
    assert stats.METHODS[method]({"x": 0, "n": 0}, 0.95) == stats.UNDEFINED


def test_student_t_equals_scipy():
    values = [0.2, 0.4, 0.9, 1.4, -0.3]
    oracle = ttest_1samp(values, 0).confidence_interval(0.9)
    item = stats.mean("x", values, level=0.9)
    assert (item.low, item.high) == pytest.approx((oracle.low, oracle.high))
    assert item.value == pytest.approx(np.mean(values))


def test_one_value_has_a_mean_and_no_interval():
    item = stats.mean("x", [3.0])
    assert (item.value, item.low, item.high) == (3.0, None, None)


def test_largest_difference_by_hand():
    """Three groups .5, .3, .1: the largest pair is the first and the last."""
    statistics = {"x": [50, 30, 10], "n": [100, 100, 100]}
    value, low, high = stats.largest_difference(statistics, 0.95)
    pair = stats.newcombe({"x1": 50, "n1": 100, "x0": 10, "n0": 100}, 1 - 0.05 / 3)
    assert (value, low, high) == pytest.approx(pair)


def test_one_group_has_no_difference():
    assert stats.largest_difference({"x": [3], "n": [9]}, 0.95) == stats.UNDEFINED


def test_equal_groups_are_not_told_apart():
    """The percentile bootstrap of max - min excludes 0 for 14 equal groups; this one must not."""
    random = np.random.default_rng(3)
    n = [412, 226, 87, 321, 24, 115, 385, 164, 32, 295, 17, 98, 205, 190]
    missed = sum(
        stats.largest_difference({"x": list(random.binomial(n, 0.4755)), "n": n}, 0.95)[1] > 0
        for _ in range(200)
    )
    assert missed <= 0.05 * 200


def test_larger_of_two_takes_the_larger():
    parts = {"first": {"x": [50, 40], "n": [100, 100]}, "second": {"x": [80, 20], "n": [100, 100]}}
    assert stats.larger_of_two(parts, 0.95)[0] == pytest.approx(0.6)


def test_interval_at_another_level_is_derived_from_the_counts():
    item = stats.proportion("accuracy", 80, 100)
    assert stats.interval_at(item, 0.99) == pytest.approx(stats.wilson({"x": 80, "n": 100}, 0.99)[1:])


def test_a_strangers_interval_is_widened_on_the_normal_scale():
    item = Measure(name="x", value=1.0, low=0.804, high=1.196, level=0.95, method="theirs")
    low, high = stats.interval_at(item, 0.99)
    assert high - 1 == pytest.approx(0.196 * 2.5758 / 1.95996, rel=1e-4)
    assert 1 - low == pytest.approx(high - 1)


@pytest.mark.parametrize(("x", "n", "limit"), [(41, 50, 0.8), (45, 50, 0.8), (30, 100, 0.33)])
def test_rows_needed_settles_and_fewer_do_not(x, n, limit):
    item = stats.proportion("p", x, n)
    needed = stats.rows_needed(item, limit, 0.95)
    p = x / n
    for rows, settled in ((int(needed * 1.02), True), (int(needed * 0.97), False)):
        _, low, high = stats.wilson({"x": p * rows, "n": rows}, 0.95)
        assert (low >= limit or high <= limit) is settled


def test_no_number_of_rows_settles_a_value_on_its_limit():
    assert stats.rows_needed(stats.proportion("p", 80, 100), 0.8, 0.95) is None


def test_an_undefined_measure_says_why_and_a_defined_one_says_nothing():
    assert stats.proportion("p", 0, 0).reason == "0 of 0 rows: the denominator is 0"
    assert stats.proportion("p", 0, 9).reason == ""


def test_a_tiny_table_gets_the_exact_interval():
    """Wilson may cover less than it says below some ten rows."""
    assert stats.proportion("p", 2, 2).method == "clopper_pearson"
    assert stats.proportion("p", 2, 2).low == pytest.approx(0.025**0.5)
    assert stats.proportion("p", 5, 10).method == "wilson"


@given(
    st.tuples(st.integers(2, 500), st.floats(-9, 9), st.floats(0.01, 9)),
    st.tuples(st.integers(2, 500), st.floats(-9, 9), st.floats(0.01, 9)),
    st.sampled_from([0.8, 0.95, 0.999]),
)
def test_welch_tells_two_means_apart_exactly_where_scipy_does(first, second, level):
    """Its limit is the difference at which the p-value of scipy's test is what the level leaves."""
    (n1, mean1, sd1), (n0, mean0, sd0) = first, second
    statistics = {"n1": n1, "mean1": mean1, "sd1": sd1, "n0": n0, "mean0": mean0, "sd0": sd0}
    value, low, high = stats.welch(statistics, level)
    assert value == pytest.approx(mean1 - mean0)
    for limit in (low, high):
        told = ttest_ind_from_stats(mean1 - limit, sd1, n1, mean0, sd0, n0, equal_var=False)
        assert told.pvalue == pytest.approx(1 - level, rel=1e-6)


def test_welch_of_too_few_rows_or_no_spread():
    one = {"n1": 1, "mean1": 3.0, "sd1": 0.0, "n0": 9, "mean0": 1.0, "sd0": 1.0}
    assert stats.welch(one, 0.95) == (2, None, None)
    assert stats.welch({**one, "n1": 0}, 0.95) == stats.UNDEFINED
    assert stats.welch({**one, "n1": 5, "sd0": 0.0}, 0.95) == (2, 2, 2)


def test_the_root_of_a_mean_has_the_roots_of_its_limits():
    squares = {"n": 4, "mean": 9.0, "sd": 2.0}
    _, low, high = stats.student_t(squares, 0.95)
    assert stats.root_student_t(squares, 0.95) == (3, math.sqrt(low), math.sqrt(high))
    assert stats.root_student_t({"n": 2, "mean": 4.0, "sd": 90.0}, 0.95)[1] == 0
    assert stats.root_student_t({"n": 1, "mean": 4.0, "sd": 0.0}, 0.95) == (2, None, None)
    assert stats.root_student_t({"n": 0, "mean": 0.0, "sd": 0.0}, 0.95) == stats.UNDEFINED


@pytest.mark.parametrize(("n1", "n0"), [(40, 150), (10, 10), (9, 5), (1, 1)])
def test_nobody_against_everybody_is_a_wide_ratio(n1, n0):
    """0 of 40 against 150 of 150: the upper end is .0876, as 0/40 against 149/150 gives .088."""
    value, low, high = stats.koopman({"x1": 0, "n1": n1, "x0": n0, "n0": n0}, 0.95)
    assert (value, low) == (0.0, 0.0)
    assert high > 1.5 / (n1 + 2)
    if (n1, n0) == (40, 150):
        assert high == pytest.approx(0.0876, abs=5e-4)


def test_one_row_proves_no_difference():
    """One positive in a group of many rows: its true positive rate is known to nobody."""
    for x in (0, 1):
        _, low, high = stats.newcombe({"x1": x, "n1": 1, "x0": 500, "n0": 5000}, 0.95)
        assert low < 0 < high


def test_a_small_group_that_lies_below_by_chance_may_lie_above():
    """0 of 50 against 1 of 1,000: the small group may truly be 7 points above, so 7 is the upper end."""
    value, low, high = stats.largest_difference({"x": [0, 1], "n": [50, 1000]}, 0.95)
    pair = stats.newcombe({"x1": 1, "n1": 1000, "x0": 0, "n0": 50}, 0.95)
    assert pair[2] < 0.006
    assert (value, low, high) == (0.001, 0.0, -pair[1])
    assert high > 0.07


@pytest.mark.parametrize(("rates", "sizes", "limit"), [
    ((0.03, 0.0005), (60, 5000), 0.025), ((0.97, 0.999), (50, 1000), 0.02)
])  # fmt: skip
def test_a_true_difference_above_the_limit_seldom_passes(rates, sizes, limit):
    """The upper end of the signed interval alone passed 14 and 21 of 100 such audits."""
    random = np.random.default_rng(1)
    passed = sum(
        stats.largest_difference({"x": random.binomial(sizes, rates).tolist(), "n": sizes}, 0.95)[2] <= limit
        for _ in range(400)
    )
    assert passed <= 0.05 * 400


def test_r_squared_of_three_wild_rows_at_a_high_level_is_wide_and_finite():
    wild = {"n": 3, "error": 1.0, "spread": 1.0, "error_sd": 1.7, "spread_sd": 1.7, "covariance": -2.9}
    value, low, high = stats.METHODS["r_squared"](wild, 1 - 1e-9)
    assert value == 0
    assert -math.inf < low < -1e300
    assert 0.99 < high <= 1
