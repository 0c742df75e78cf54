"""The worst slices: a planted one is found first, in the user's words; clean data raise no alarm."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import beta, binom

from audit.checks.fairness.slices import slices
from audit.dataset import Dataset, Feature, Sensitive
from audit.errors import ConfigError, NotApplicable, NotEvaluable
from audit.policy import Limit, Verdict, judge_measures
from audit.record import plain
from audit.stats import METHODS, bonferroni, interval_at


def population(n, seed, *, numbers=3, favourable=1):
    """Age in years, a one-hot region and `numbers` more features; labels that nothing explains."""
    random = np.random.default_rng(seed)
    age, region = random.integers(18, 76, n), random.integers(0, 4, n)
    inputs = np.column_stack([age, np.eye(4)[region], random.normal(size=(n, numbers))]).astype(np.float32)
    features = (
        Feature(name="age", columns=(0,)),
        Feature(name="region", kind="categorical", columns=(1, 2, 3, 4), categories=("N", "E", "S", "W")),
        *(Feature(name=f"x{k}", columns=(5 + k,)) for k in range(numbers)),
    )
    sex = Sensitive(name="sex", groups=("F", "M", "unknown"), codes=random.integers(0, 3, n))
    data = Dataset(
        inputs=inputs, labels=random.integers(0, 2, n), modality="tabular", classes=("no", "yes"),
        favourable=favourable, features=features, sensitive={"sex": sex},
    )  # fmt: skip
    return data, random


def answers(data, wrong):
    predicted = np.where(wrong, 1 - data.labels, data.labels)
    return SimpleNamespace(predicted=predicted, correct=~wrong, finite=np.ones(len(wrong), bool))


def run(data, predictions, **given):
    return slices.measure(data, predictions, 0, **slices.settings(given))


def named(evidence, name):
    return [item for item in evidence.measures if item.name == name]


def standing_out(evidence):
    return [row[0] for table in evidence.tables for row in table.rows if row[-1] == "yes"]


@pytest.fixture(scope="module")
def planted():
    data, random = population(6000, 1)
    young_in_south = (data.inputs[:, 0] < 25) & (data.inputs[:, 3] == 1)
    wrong = (random.random(6000) < 0.1) | (young_in_south & (random.random(6000) < 0.8))
    return data, wrong, run(data, answers(data, wrong))


def test_the_planted_slice_is_first_and_named_in_the_users_words(planted):
    data, wrong, evidence = planted
    first = named(evidence, "error_rate_difference")[0]
    edge = dict(first.group)["age"]
    assert first.group == {"age": edge, "region": "S"}
    assert edge.startswith("below 2")
    limit = float(edge.removeprefix("below "))
    assert 23 <= limit <= 27
    inside = (data.inputs[:, 0] < limit) & (data.inputs[:, 3] == 1)
    assert first.statistics == {
        "x1": (inside & wrong).sum(), "n1": inside.sum(),
        "x0": (~inside & wrong).sum(), "n0": (~inside).sum(),
        "searched": first.statistics["searched"],
    }  # fmt: skip
    assert first.value == pytest.approx(wrong[inside].mean() - wrong[~inside].mean(), abs=1e-12)
    assert first.low > 0.4
    assert standing_out(evidence) == [f"age: {edge} and region: S"]
    assert f"age: {edge} and region: S" in evidence.figures[0].title


def test_a_slice_only_bad_because_of_the_planted_one_is_not_shown(planted):
    _, _, evidence = planted
    assert all(item.value < 0.15 for item in named(evidence, "error_rate_difference")[1:])


def test_the_number_searched_and_the_shuffles_are_printed(planted):
    _, _, evidence = planted
    family = named(evidence, "error_rate_difference")[0].statistics["searched"]
    assert family > 2000
    assert f"widened for all {family:,} comparisons" in evidence.caveats[0]
    assert f"{family // 2:,} slices of 6 features with at least 30 rows" in evidence.caveats[0]
    assert "0 of 99 random shuffles" in evidence.caveats[1]
    assert named(evidence, "shuffles_as_bad")[0].value == 0
    assert evidence.tables[0].rows[0][1] == named(evidence, "error_rate_difference")[0].n


def test_the_interval_is_that_of_all_slices_searched(planted):
    """The hybrid of two Clopper-Pearson intervals, with scipy's beta as the oracle."""
    _, _, evidence = planted
    item = named(evidence, "error_rate_difference")[0]
    x1, n1, x0, n0, many = (item.statistics[k] for k in ("x1", "n1", "x0", "n0", "searched"))
    tail = 0.025 / many
    l1, u0 = beta.ppf(tail, x1, n1 - x1 + 1), beta.ppf(1 - tail, x0 + 1, n0 - x0)
    assert item.low == pytest.approx(item.value - np.hypot(x1 / n1 - l1, u0 - x0 / n0), abs=1e-9)


def test_a_limit_is_judged_with_the_search_in_mind():
    """At any level that a policy asks for, the interval still pays for all that was searched."""
    data, random = population(800, 3)
    evidence = run(data, answers(data, random.random(800) < 0.2))
    worst = named(evidence, "error_rate_difference")[0]
    alone = {key: worst.statistics[key] for key in ("x1", "n1", "x0", "n0")} | {"searched": 1}
    assert interval_at(worst, 0.95)[0] < 0
    assert interval_at(type(worst)(**{**vars(worst), "statistics": alone}), 0.95)[0] > 0
    limit = Limit(check="fairness.slices", measure="error_rate_difference", at_most=0.0, group="each")
    judged = judge_measures(evidence.measures, [limit], 0.95)
    assert judged
    assert all(item.verdict is not Verdict.FAIL for item in judged)


def test_a_small_slice_of_a_rare_error_does_not_alarm_more_than_its_share():
    """Among 1,000 slices each may alarm in 1 of 20,000 cases; Newcombe over Wilson limits alarms far more."""
    many, n, rest = 1000, 30, {"x0": 60, "n0": 3000}

    def alarms(method, level, **more):
        found = [METHODS[method]({"x1": x, "n1": n, **rest, **more}, level) for x in range(n + 1)]
        return binom.pmf([x for x, (_, low, _) in enumerate(found) if low > 0], n, 60 / 3000).sum()

    assert 0 < alarms("difference_of_many", 0.95, searched=many) <= 0.05 / many
    assert alarms("newcombe", bonferroni(0.95, many)) > 0.05 / many


def test_clean_data_raise_no_false_alarm():
    """200 data sets in which errors and decisions depend on nothing: at most 5 % name a slice."""
    alarms = 0
    for seed in range(200):
        data, random = population(600, 1000 + seed, numbers=2)
        evidence = run(data, answers(data, random.random(600) < 0.2), floor=20, bins=6, shuffles=19, shown=3)
        alarms += bool(standing_out(evidence))
    assert alarms <= 10


def test_a_slice_that_is_never_selected_is_found():
    data, random = population(4000, 5)
    inside = (data.inputs[:, 1] == 1) & (data.sensitive["sex"].codes == 0)
    predicted = np.where(inside, 0, random.integers(0, 2, 4000))
    given = answers(data, predicted != data.labels)
    first = named(run(data, given), "selection_rate_difference")[0]
    assert first.group == {"region": "N", "sex": "F"}
    assert first.value == pytest.approx(-predicted[~inside].mean(), abs=1e-12)
    assert first.high < 0
    assert named(run(data, given, features=["x0", "age"]), "selection_rate_difference")[0].high > 0


def test_without_a_favourable_outcome_only_errors_are_searched():
    data, random = population(600, 6, favourable=None)
    evidence = run(data, answers(data, random.random(600) < 0.2))
    assert {item.name for item in evidence.measures} == {"error_rate_difference", "shuffles_as_bad"}
    assert len(evidence.tables) == 1


def test_decisions_without_outcomes_are_searched_by_selection_alone():
    data, random = population(2000, 12)
    known = {key: value for key, value in vars(data).items() if key != "labels"}
    decided = np.where(data.inputs[:, 1] == 1, 0, random.integers(0, 2, 2000))
    evidence = run(Dataset(**known), SimpleNamespace(predicted=decided, finite=np.ones(2000, bool)))
    assert {item.name for item in evidence.measures} == {"selection_rate_difference", "shuffles_as_bad"}
    first = named(evidence, "selection_rate_difference")[0]
    assert first.group == {"region": "N"}
    assert f"for all {first.statistics['searched']:,} comparisons" in evidence.caveats[0]


def without_scores(data, rows):
    """A right and favourable decision for everyone, if NaN were one: the largest of NaNs falls on class 1."""
    favoured = Dataset(**{**vars(data), "labels": np.ones(len(data), np.int64)})
    finite = ~rows
    given = SimpleNamespace(predicted=favoured.labels, correct=finite.copy(), finite=finite)
    return favoured, given


def test_rows_without_a_finite_score_count_as_wrong_and_not_selected_and_are_said():
    """The model gives NaN to the whole of region E: that is the slice it fails, by either rate."""
    data, _ = population(2000, 13)
    lost = data.inputs[:, 2] == 1
    evidence = run(*without_scores(data, lost))
    for name, sign in (("error_rate_difference", 1), ("selection_rate_difference", -1)):
        first = named(evidence, name)[0]
        assert first.group == {"region": "E"}
        assert first.value == sign
    assert evidence.caveats[0] == (
        f"{lost.sum()} of 2000 rows got a score that is not a finite number; they count as wrong and as not "
        "selected."
    )
    clean = run(data, answers(data, np.arange(2000) % 5 == 0))
    assert not any("finite" in caveat for caveat in clean.caveats)


def test_with_three_classes_the_favourable_one_is_selected_and_any_other_label_is_an_error():
    """Class c is favourable; in region W the model takes a for b, which is an error and no selection."""
    data, random = population(3000, 14)
    labels = random.integers(0, 3, 3000)
    three = Dataset(**{**vars(data), "classes": ("a", "b", "c"), "labels": labels, "favourable": 2})
    inside = data.inputs[:, 4] == 1
    predicted = np.where(inside & (labels == 0), 1, labels)
    given = SimpleNamespace(predicted=predicted, correct=predicted == labels, finite=np.ones(3000, bool))
    evidence = run(three, given)
    first = named(evidence, "error_rate_difference")[0]
    assert first.group == {"region": "W"}
    assert first.value == (labels[inside] == 0).mean()
    assert standing_out(evidence) == ["region: W"]
    selected = named(evidence, "selection_rate_difference")[0].statistics
    assert selected["x1"] + selected["x0"] == (labels == 2).sum()
    assert len(evidence.figures) == 2


def test_depth_one_looks_at_single_features():
    data, random = population(600, 7)
    evidence = run(data, answers(data, random.random(600) < 0.2), depth=1)
    assert all(len(item.group) == 1 for item in named(evidence, "error_rate_difference"))


def test_too_many_parts_to_combine_are_searched_one_by_one_and_said_so():
    n, width = 300, 130
    random = np.random.default_rng(8)
    data = Dataset(
        inputs=random.normal(size=(n, width)).astype(np.float32), labels=random.integers(0, 2, n),
        modality="tabular", classes=("a", "b"),
        features=tuple(Feature(name=f"x{k}", columns=(k,)) for k in range(width)),
    )  # fmt: skip
    evidence = run(data, answers(data, random.random(n) < 0.2))
    assert any("Only single features were searched" in caveat for caveat in evidence.caveats)
    assert all(len(item.group) == 1 for item in named(evidence, "error_rate_difference"))


def test_a_model_without_errors_has_no_worst_slice_by_error():
    data, _ = population(600, 9)
    evidence = run(data, answers(data, np.zeros(600, bool)))
    assert not named(evidence, "error_rate_difference")
    assert any("By error rate, no slice is worse" in caveat for caveat in evidence.caveats)


def test_a_row_of_no_category_is_a_part_of_its_own():
    data, _ = population(600, 10)
    inputs = data.inputs.copy()
    inputs[:200, 1:5] = 0
    bare = Dataset(**{**vars(data), "inputs": inputs})
    wrong = np.arange(600) < 200
    first = named(run(bare, answers(bare, wrong)), "error_rate_difference")[0]
    assert first.group == {"region": "another value"}
    assert first.value == 1.0


def test_the_record_holds_counts_of_slices_and_no_rows(planted):
    _, _, evidence = planted
    text = json.dumps(plain({"measures": evidence.measures, "tables": evidence.tables}))
    assert len(text) < 20_000


def test_what_it_cannot_do_is_said():
    data, random = population(600, 11)
    wrong = answers(data, random.random(600) < 0.2)
    with pytest.raises(NotApplicable, match="no feature 'agee'; the nearest is 'age'"):
        run(data, wrong, features=["agee"])
    with pytest.raises(NotEvaluable, match="no slice of the 600 rows has 400 rows"):
        run(data, wrong, floor=400)
    with pytest.raises(NotApplicable, match="describes no feature"):
        run(Dataset(**{**vars(data), "features": (), "sensitive": {}}), wrong)
    with pytest.raises(ConfigError, match="depth"):
        slices.settings({"depth": 3})
