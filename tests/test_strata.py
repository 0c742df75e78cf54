import numpy as np
import pytest

from audit.stats import METHODS, measure
from audit.strata import mantel_haenszel_difference, mantel_haenszel_ratio


def strata(*rows):
    return {key: [row[i] for row in rows] for i, key in enumerate(("x1", "n1", "x0", "n0"))}


def test_one_stratum_is_the_plain_ratio_with_katz_interval():
    value, low, high = mantel_haenszel_ratio(strata((30, 100, 50, 120)), 0.95)
    spread = (1 / 30 - 1 / 100 + 1 / 50 - 1 / 120) ** 0.5
    ratio = 0.3 / (50 / 120)
    assert (value, low, high) == pytest.approx(
        (ratio, ratio * np.exp(-1.959964 * spread), ratio * np.exp(1.959964 * spread)), rel=1e-6
    )


def test_one_stratum_is_the_plain_difference():
    value, low, high = mantel_haenszel_difference(strata((30, 100, 50, 120)), 0.95)
    assert value == pytest.approx(0.3 - 50 / 120)
    assert low < value < high


def test_simpsons_paradox_is_undone():
    """Berkeley in small: each department admits women more often, the pool admits them less often."""
    counts = strata((80, 100, 300, 400), (60, 400, 10, 100))
    pooled = (140 / 500) / (310 / 500)
    value, low, _ = mantel_haenszel_ratio(counts, 0.95)
    assert pooled < 0.5
    assert value > 1
    assert mantel_haenszel_difference(counts, 0.95)[0] > 0
    assert low > 0.9


def test_the_ratio_is_the_formula_summed_slowly():
    rows = [(5, 20, 9, 30), (7, 9, 20, 40), (1, 50, 2, 25)]
    top = sum(x1 * n0 / (n1 + n0) for x1, n1, x0, n0 in rows)
    bottom = sum(x0 * n1 / (n1 + n0) for x1, n1, x0, n0 in rows)
    assert mantel_haenszel_ratio(strata(*rows), 0.9)[0] == pytest.approx(top / bottom)


def test_a_stratum_without_one_of_the_groups_compares_nothing():
    full = strata((30, 100, 50, 120))
    extra = strata((30, 100, 50, 120), (0, 0, 7, 9), (3, 5, 0, 0))
    for method in (mantel_haenszel_ratio, mantel_haenszel_difference):
        assert method(extra, 0.95) == pytest.approx(method(full, 0.95))


@pytest.mark.parametrize("name", ["mantel_haenszel_ratio", "mantel_haenszel_difference"])
def test_nothing_to_compare_is_undefined(name):
    item = measure("x", name, strata((0, 0, 7, 9)))
    assert item.value is None
    assert METHODS[name](strata(), 0.95) == (None, None, None)


@pytest.mark.parametrize("method", [mantel_haenszel_ratio, mantel_haenszel_difference])
def test_the_intervals_hold_the_truth_as_often_as_they_say(method):
    random = np.random.default_rng(4)
    base = np.array([0.2, 0.4, 0.6])
    n1, n0 = np.array([60, 40, 50]), np.array([80, 90, 30])
    held, truth = 0, 0.8 if method is mantel_haenszel_ratio else 0.1
    group = base * truth if method is mantel_haenszel_ratio else base + truth
    for _ in range(600):
        x1, x0 = random.binomial(n1, group), random.binomial(n0, base)
        _, low, high = method({"x1": x1, "n1": n1, "x0": x0, "n0": n0}, 0.95)
        held += low <= truth <= high
    assert 0.925 < held / 600 < 0.975


def test_a_stratum_of_two_people_proves_nothing():
    counts = strata((1, 1, 1, 1))
    value, low, high = mantel_haenszel_ratio(counts, 0.95)
    assert value == 1.0
    assert low < 0.5
    assert high > 2
    value, low, high = mantel_haenszel_difference(counts, 0.95)
    assert value == 0.0
    assert low < -0.5 < 0.5 < high


def test_nobody_of_thousands_has_an_interval_that_can_fail():
    value, low, high = mantel_haenszel_ratio(strata((0, 5000, 2500, 5000)), 0.95)
    assert (value, low) == (0.0, 0.0)
    assert 0 < high < 0.01


def test_a_reference_picked_by_the_data_widens_the_interval():
    counts = strata((30, 100, 50, 120))
    for method in (mantel_haenszel_ratio, mantel_haenszel_difference):
        alone, paid = method(counts, 0.95), method({**counts, "picked_from": 7}, 0.95)
        assert paid[1] < alone[1]
        assert paid[2] > alone[2]
        assert paid == method(counts, 1 - 0.05 / 7)
