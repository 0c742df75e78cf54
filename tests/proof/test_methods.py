"""Two code paths, one number: what the verifier derives is what was measured, for every method there is."""

import math

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from audit.proof.methods import NAMES, can_derive, derive, interval_at, method, same, tolerance
from audit.reliability.bins import score_cells
from audit.replicates import quantiles
from audit.stats import METHODS, proportion
from audit.stats import interval_at as interval_there

LEVELS = st.sampled_from([0.8, 0.9, 0.95, 0.99, 1 - 0.05 / 37, 0.99999])


def counts(most=400):
    return st.integers(1, most).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def two(most=400):
    pairs = st.tuples(counts(most), counts(most), st.integers(1, 6))
    return pairs.map(
        lambda t: {"x1": t[0][0], "n1": t[0][1], "x0": t[1][0], "n0": t[1][1], "picked_from": t[2]}
    )


def many(least=1):
    return st.lists(counts(200), min_size=least, max_size=5).map(
        lambda groups: {"x": [x for x, _ in groups], "n": [n for _, n in groups]}
    )


def bins(least=1):
    cell = st.tuples(st.integers(0, 30), st.integers(0, 30)).filter(any)
    return st.lists(cell, min_size=least, max_size=12).map(
        lambda cells: {"negatives": [a for a, _ in cells], "positives": [b for _, b in cells]}
    )


def scored():
    return bins().flatmap(
        lambda cells: st.lists(
            st.floats(0, 1), min_size=len(cells["negatives"]), max_size=len(cells["negatives"])
        ).map(lambda scores: {**cells, "scores": scores})
    )


def kept(seed):
    drawn = np.random.default_rng(seed).normal(0.3, 0.1 * (seed % 4), 50 * (1 + seed % 60))
    return quantiles(0.3, drawn)


def mean():
    numbers = st.floats(-5, 5), st.floats(0, 3)
    return st.tuples(st.integers(0, 300), *numbers).map(lambda t: {"n": t[0], "mean": t[1], "sd": t[2]})


def strata():
    one = st.tuples(counts(60), counts(60))
    return st.lists(one, max_size=4).map(
        lambda rows: {
            "x1": [a[0] for a, _ in rows], "n1": [a[1] for a, _ in rows],
            "x0": [b[0] for _, b in rows], "n0": [b[1] for _, b in rows],
        }
    )  # fmt: skip


def paired():
    keys = ("both", "base_only", "new_only", "neither")
    return st.tuples(*[st.integers(0, 200)] * 4).map(lambda t: dict(zip(keys, t, strict=True)))


def drawn(metric, groups):
    return st.lists(groups, min_size=1, max_size=3).map(
        lambda given: {"metric": metric, "groups": given, "draws": 200, "seed": 3}
    )


# Nearer to 0, what measures loses the digits of a skewness that no data have.
SKEW = st.sampled_from([-3.0, -0.7, -1e-3, 0.0, 2e-3, 0.4, 1.9])


def brier():
    one = st.tuples(st.integers(0, 200), st.floats(0, 1), st.floats(0, 0.5), SKEW)
    return one.map(lambda t: dict(zip(("n", "mean", "sd", "skew"), t, strict=True)))


WIDE = st.floats(1e-3, 10)
R_SQUARED = st.tuples(st.integers(0, 100), WIDE, WIDE, WIDE, WIDE, st.floats(-1, 1)).map(
    lambda t: {"n": t[0], "error": t[1], "spread": t[2], "error_sd": t[3], "spread_sd": t[4],
               "covariance": t[5] * t[3] * t[4]}
)  # fmt: skip
VALUES = st.lists(st.tuples(st.integers(-50, 50), st.integers(1, 40)), max_size=12, unique_by=lambda t: t[0])
CASES = {
    "wilson": counts().map(lambda t: {"x": t[0], "n": t[1]}),
    "clopper_pearson": counts().map(lambda t: {"x": t[0], "n": t[1]}),
    "newcombe": two(),
    "difference_of_many": two().map(lambda s: {**s, "searched": 1 + 97 * s["picked_from"]}),
    "koopman": two(),
    "koopman_exact": two(),
    "odds": st.tuples(st.integers(0, 99), st.integers(0, 99)).map(lambda t: {"x": t[0], "y": t[1]}),
    "odds_difference": st.tuples(*[st.integers(0, 99)] * 4).map(
        lambda t: dict(zip(("x1", "y1", "x0", "y0"), t, strict=True))
    ),
    "wilson_against": counts().map(lambda t: {"x": t[0], "n": t[1], "reference": 0.37}),
    "largest_difference": many(),
    "larger_of_two": st.tuples(many(2), many(2)).map(lambda t: {"first": t[0], "second": t[1]}),
    "mean_of_proportions": many(),
    "student_t": mean(),
    "root_student_t": mean().map(lambda s: {**s, "mean": abs(s["mean"])}),
    "welch": st.tuples(mean(), mean()).map(
        lambda t: {f"{key}{g}": t[at][key] for at, g in enumerate("10") for key in t[at]}
    ),
    "r_squared": R_SQUARED,
    "exact": st.floats(-9, 9).map(lambda v: {"value": v}),
    "mantel_haenszel_ratio": strata(),
    "mantel_haenszel_difference": strata(),
    "cramers_v": st.integers(1, 4).flatmap(
        lambda k: st.lists(st.lists(st.integers(0, 60), min_size=k, max_size=k), max_size=4)
    ).map(lambda table: {"table": table}),
    "quantile": st.tuples(VALUES, st.floats(0.05, 0.95)).map(
        lambda t: {"values": sorted(v for v, _ in t[0]), "counts": [c for _, c in t[0]], "q": t[1]}
    ),
    "rate_at_rate": st.tuples(bins(), st.floats(0.05, 0.99)).map(lambda t: {**t[0], "rate": t[1]}),
    "score_bins": st.one_of(
        drawn("auc", bins()), drawn("ks", bins()), drawn("ece", scored()), drawn("brier", brier())
    ),
    "calibration_bins": st.tuples(
        st.sampled_from(["debiased", "classwise"]), st.lists(scored(), max_size=3)
    ).map(
        lambda t: {"metric": t[0], "cells": t[1], "draws": 200, "seed": 5}
    ),
    "risk_coverage": st.tuples(
        bins(), st.sampled_from(["aurc", "excess", "coverage"]), st.floats(0, 0.6)
    ).map(
        lambda t: {**t[0], "metric": t[1], "risk": t[2], "draws": 200, "seed": 11}
    ),
    "bootstrap_quantiles": st.lists(st.integers(0, 99), min_size=1, max_size=3).map(
        lambda seeds: {"groups": [kept(seed) for seed in seeds]}
    ),
    "paired_proportions": paired(),
    "mean_of_paired": st.lists(paired(), max_size=3).map(lambda parts: {"strata": parts}),
    "paired_auc": st.tuples(st.floats(-1, 1), *[st.integers(0, 90)] * 2, *[st.floats(0, 1)] * 2).map(
        lambda t: dict(
            zip(("value", "positives", "negatives", "sd_positives", "sd_negatives"), t, strict=True)
        )
    ),
    "paired_bootstrap": st.integers(0, 99).map(kept),
    "two_intervals": st.tuples(counts(), counts(), st.sampled_from(["", "zero", "one"])).map(
        lambda t: {
            "new": {
                "method": "wilson_against",
                "statistics": {"x": t[0][0], "n": t[0][1], "reference": -0.3},
            },
            "base": {"method": "odds", "statistics": {"x": t[1][0], "y": t[1][1]}},
            "nearness": t[2],
        }
    ),
}  # fmt: skip


def test_every_method_of_a_record_is_known_here():
    """A method that is added to what measures and not to what verifies would go unproved."""
    assert set(METHODS) == NAMES == set(CASES)


@pytest.mark.parametrize("name", sorted(CASES))
@settings(max_examples=40, deadline=None)
@given(data=st.data(), level=LEVELS)
def test_both_code_paths_give_one_estimate(name, data, level):
    statistics = data.draw(CASES[name])
    try:
        there = METHODS[name](statistics, level)
    except OverflowError:
        reject()  # what cannot be measured stands in no record
    here = method(name)(statistics, level)
    for one, other in zip(there, here, strict=True):
        assert same(one, other, tolerance(name)), (statistics, there, here)


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99999])
def test_real_score_cells_agree(level):
    random = np.random.default_rng(0)
    scores = random.random(500)
    cells = score_cells(scores, random.random(500) < scores**1.3, 15)
    for metric in ("debiased", "classwise"):
        statistics = {"metric": metric, "cells": [cells], "draws": 1000, "seed": 1}
        there, here = (path("calibration_bins")(statistics, level) for path in (METHODS.get, method))
        assert all(same(one, other) for one, other in zip(there, here, strict=True))


@pytest.mark.parametrize(
    ("name", "statistics", "expected"),
    [
        # Newcombe (1998), Statistics in Medicine 17:857, Table I: 81/263, 15/148, 0/20 and 1/29 at 95 %.
        ("wilson", {"x": 81, "n": 263}, (0.2553, 0.3662)),
        ("wilson", {"x": 15, "n": 148}, (0.0624, 0.1605)),
        ("wilson", {"x": 0, "n": 20}, (0.0, 0.1611)),
        ("wilson", {"x": 1, "n": 29}, (0.0061, 0.1718)),
        ("clopper_pearson", {"x": 81, "n": 263}, (0.2527, 0.3676)),
        ("clopper_pearson", {"x": 1, "n": 29}, (0.0009, 0.1776)),
        # Newcombe (1998), Statistics in Medicine 17:873, Table II, method 10: 56/70 - 48/80.
        ("newcombe", {"x1": 56, "n1": 70, "x0": 48, "n0": 80}, (0.0524, 0.3339)),
    ],
)  # fmt: skip
def test_published_intervals(name, statistics, expected):
    _, low, high = method(name)(statistics, 0.95)
    assert (low, high) == pytest.approx(expected, abs=5.1e-5)


def test_a_measure_without_statistics_is_stretched_and_not_derived():
    item = {"method": "", "statistics": {}, "value": 1.0, "low": 0.0, "high": 3.0, "level": 0.95}
    assert not can_derive(item)
    low, high = interval_at(item, 0.99)
    assert (1 - low) * 2 == pytest.approx(high - 1)
    assert 1 - low == pytest.approx(2.5758293 / 1.9599640)
    assert interval_at({**item, "level": None}, 0.99) == (None, None)


def test_an_unknown_method_is_not_derived():
    assert not can_derive({"method": "guess", "statistics": {"x": 1}})


def test_the_interval_at_another_level_is_that_of_what_judges():
    item = proportion("accuracy", 37, 90)
    assert interval_at(vars(item), 0.999) == pytest.approx(interval_there(item, 0.999))
    assert derive(vars(item), 0.95) == pytest.approx((item.value, item.low, item.high))


@pytest.mark.parametrize(
    ("a", "b", "alike"),
    [(1.0, 1.0 + 1e-10, True), (1.0, 1.0 + 1e-8, False), (None, None, True), (None, 0.0, False),
     (0.0, 1e-13, True), (0.0, 1e-11, False), (math.inf, 1.0, False)],
)  # fmt: skip
def test_rounding_is_forgiven_and_nothing_else(a, b, alike):
    assert same(a, b) == same(b, a) == alike


@pytest.mark.parametrize("name", ["score_bins", "calibration_bins", "risk_coverage"])
def test_more_draws_than_a_machine_can_make_are_refused(name):
    cells = {"negatives": [3, 2], "positives": [1, 4], "scores": [0.2, 0.7]}
    statistics = {
        "metric": {"score_bins": "auc", "calibration_bins": "debiased", "risk_coverage": "aurc"}[name],
        "groups": [cells], "cells": [cells], **cells, "draws": 10**12, "seed": 0,
    }  # fmt: skip
    with pytest.raises(ValueError, match="draws are more than"):
        method(name)(statistics, 0.95)
