"""Errors of a regression as a whole and by group: numbers by hand, scikit-learn, planted faults, coverage."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
from torch import nn

from audit.checks.performance.error import error
from audit.dataset import Dataset, Sensitive
from audit.errors import ConfigError, NotApplicable, NotEvaluable
from audit.measure import fitting
from audit.model import Model
from audit.policy import Limit, Verdict, judge_measures
from audit.stats import interval_at, measure

NAMES = ("mean_error", "mean_absolute_error", "root_mean_squared_error", "r_squared")


class First(nn.Module):
    """The first input is the prediction."""

    def forward(self, rows):
        return rows[:, :1]


def asked(predicted, targets, task="regression", **sensitive):
    groups = {}
    for name, values in sensitive.items():
        levels = sorted(set(values))
        codes = np.array([levels.index(v) for v in values], np.int64)
        groups[name] = Sensitive(name=name, groups=tuple(levels), codes=codes)
    inputs = np.repeat(np.asarray(predicted, np.float32)[:, None], 2, axis=1)
    truth = None if targets is None else np.asarray(targets, np.float64)
    data = Dataset(inputs=inputs, targets=truth, modality="tabular", classes=(), sensitive=groups)
    return Model(module=First().eval(), device=torch.device("cpu"), task=task, output="values"), data


def run(predicted, targets, given=None, **sensitive):
    return error.measure(*asked(predicted, targets, **sensitive), **error.settings(given or {}))


def one(evidence, name, **group):
    (found,) = [m for m in evidence.measures if m.name == name and dict(m.group) == group]
    return found


def test_numbers_by_hand():
    """Truth 10, 20, 30, 40; errors 1, -2, 3, 2: squares 1, 4, 9, 4; distances from 25: 225, 25, 25, 225."""
    evidence = run([11, 18, 33, 42], [10, 20, 30, 40])
    assert [m.name for m in evidence.measures] == list(NAMES)
    assert one(evidence, "mean_error").value == 1
    assert one(evidence, "mean_absolute_error").value == 2
    assert one(evidence, "root_mean_squared_error").value == pytest.approx(4.5**0.5)
    # 1 - 18 / 500
    explained = one(evidence, "r_squared")
    assert explained.value == pytest.approx(0.964)
    kept = explained.statistics
    assert (kept["n"], kept["error"], kept["spread"]) == (4, 4.5, 125)
    # squares off their mean: -3.5, -0.5, 4.5, -0.5; distances off theirs: 100, -100, -100, 100
    assert kept["error_sd"] == pytest.approx((33 / 3) ** 0.5)
    assert kept["spread_sd"] == pytest.approx((40000 / 3) ** 0.5)
    assert kept["covariance"] == pytest.approx((-350 + 50 - 450 - 50) / 3)
    (row,) = evidence.tables[0].rows
    assert list(row[:4]) == [4, 1, 0, 3]


def test_the_interval_of_r_squared_restated():
    """The delta method on log(error / spread), by the influence of each row instead of moments."""
    random = np.random.default_rng(0)
    truth = random.normal(50, 10, 80)
    predicted = (truth + random.normal(0, 4, 80)).astype(np.float32)
    squares = (predicted.astype(np.float64) - truth) ** 2
    away = (truth - truth.mean()) ** 2
    influence = squares / squares.mean() - away / away.mean()
    half = 1.990450 * influence.std(ddof=1) / 80**0.5  # t of 79 degrees at 97.5 %
    ratio = squares.mean() / away.mean()
    found = one(run(predicted, truth), "r_squared")
    assert (found.low, found.high) == pytest.approx(
        (1 - ratio * np.exp(half), 1 - ratio / np.exp(half)), rel=1e-6
    )


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.integers(-50, 50), st.integers(-50, 50)), min_size=2, max_size=30).filter(
        lambda pairs: len({truth for _, truth in pairs}) > 1
    )
)
def test_the_numbers_are_those_of_scikit_learn(pairs):
    predicted, truth = ([float(value) for value in column] for column in zip(*pairs, strict=True))
    evidence = run(predicted, truth)
    assert one(evidence, "mean_absolute_error").value == pytest.approx(mean_absolute_error(truth, predicted))
    assert one(evidence, "root_mean_squared_error").value == pytest.approx(
        root_mean_squared_error(truth, predicted)
    )
    assert one(evidence, "r_squared").value == pytest.approx(r2_score(truth, predicted))
    for item in evidence.measures:
        again = measure(item.name, item.method, item.statistics, unit="")
        assert (again.value, again.low, again.high) == (item.value, item.low, item.high)
        if item.low is not None:
            assert item.low <= item.value <= item.high
            wide = interval_at(item, 0.999)
            assert wide[0] <= item.low
            assert wide[1] >= item.high
    assert all((m.high or 0) <= 1 for m in evidence.measures if m.name == "r_squared")


def test_the_interval_of_r_squared_holds_the_truth_as_often_as_it_says():
    """Truth with variance 9, errors with variance 1, so 1 - 1 / 9 of it is explained."""
    random = np.random.default_rng(1)
    held = 0
    for _ in range(400):
        truth = random.normal(0, 3, 150)
        found = one(run(truth + random.normal(0, 1, 150), truth), "r_squared")
        held += found.low <= 8 / 9 <= found.high
    # 380 expected; below 364 is what 400 draws at 95 % give less than once in a thousand times
    assert 364 <= held <= 396


def test_a_group_has_its_own_numbers_beside_those_of_the_whole():
    random = np.random.default_rng(2)
    group = random.choice(["A", "B"], 400)
    truth = random.normal(100, 15, 400)
    shift = np.where(group == "B", -6, 0)
    evidence = run(truth + random.normal(0, 2, 400) + shift, truth, g=group.tolist())
    limits = [
        Limit(check="performance.error", measure="mean_absolute_error", at_most=3, group="each"),
        Limit(check="performance.error", measure="r_squared", at_least=0.9, group="each"),
    ]
    judged = {(j.measure, j.group["g"]): j.verdict for j in judge_measures(evidence.measures, limits, 0.95)}
    assert judged == {
        ("mean_absolute_error", "A"): Verdict.PASS, ("mean_absolute_error", "B"): Verdict.FAIL,
        ("r_squared", "A"): Verdict.PASS, ("r_squared", "B"): Verdict.FAIL,
    }  # fmt: skip
    whole = one(evidence, "mean_absolute_error")
    assert one(evidence, "mean_absolute_error", g="A").value < whole.value
    assert whole.value < one(evidence, "mean_absolute_error", g="B").value
    (figure,) = evidence.figures
    assert figure.data["labels"] == [f"{g} (n = {(group == g).sum()})" for g in "AB"]
    assert figure.title.startswith("Mean absolute error by g: from 1.")


def test_a_model_no_better_than_the_mean_explains_nothing_and_a_worse_one_less():
    truth = np.arange(20.0)
    assert one(run(np.full(20, 9.5), truth), "r_squared").value == pytest.approx(0)
    assert one(run(truth[::-1], truth), "r_squared").value == pytest.approx(-3)


def test_what_is_undefined_says_why():
    evidence = run([1, 2, 4] * 5, [3] * 15)
    explained = one(evidence, "r_squared")
    assert (explained.value, explained.reason) == (
        None, "the true values of all 15 rows are the same, so there is nothing to explain"
    )  # fmt: skip
    assert one(evidence, "mean_absolute_error").value == pytest.approx(4 / 3)


def test_a_perfect_fit_and_a_small_group_are_shown_and_not_judged():
    evidence = run(np.arange(40), np.arange(40), g=["a"] * 35 + ["b"] * 5)
    limits = [
        Limit(check="performance.error", measure=name, at_least=-9, at_most=9, group=group)
        for name in NAMES
        for group in ({}, "each")
    ]
    judged = judge_measures(evidence.measures, limits, 0.95)
    assert len(judged) == 12
    assert {j.verdict for j in judged} == {Verdict.NOT_EVALUABLE}
    assert one(evidence, "r_squared").value == 1
    assert "5 rows are fewer than the floor of 10" in one(evidence, "r_squared", g="b").too_few
    assert "all 40 rows have the same error" in one(evidence, "mean_error").too_few


def test_a_classifier_is_not_asked():
    model, data = asked([1, 2], [1, 2], task="classification")
    assert "it is made for regression" in fitting(error, model, data)
    assert not fitting(error, *asked([1, 2], [1, 2]))


@pytest.mark.parametrize(
    ("changed", "wrong", "words"),
    [
        ({"given": {"floor": 0}}, ConfigError, "'floor' = 0 is wrong"),
        ({"targets": None}, NotApplicable, "no true values"),
        ({"predicted": [1.0, np.nan]}, NotEvaluable, "1 of 2 rows are not finite"),
        ({"predicted": [], "targets": []}, NotEvaluable, "0 rows"),
    ],
)
def test_what_cannot_be_measured_says_why(changed, wrong, words):
    with pytest.raises(wrong, match=words):
        run(**{"predicted": [1, 2], "targets": [1, 2], **changed})
