"""Rates and differences against fairlearn where it is defined, and our own answer where it invents one."""

from types import SimpleNamespace

import numpy as np
import pytest
from fairlearn.metrics import (
    MetricFrame,
    demographic_parity_difference,
    equal_opportunity_difference,
    equalized_odds_difference,
    false_negative_rate,
    false_positive_rate,
    selection_rate,
    true_positive_rate,
)  # fmt: skip
from sklearn.metrics import accuracy_score

from audit.checks.fairness.groups import groups
from audit.dataset import Dataset, Sensitive
from audit.errors import NotApplicable


def dataset(labels, favourable=1, **sensitive):
    labels = np.asarray(labels, np.int64)
    features = {}
    for name, values in sensitive.items():
        levels = sorted(set(values), key=lambda v: (v == "unknown", v))
        codes = np.array([levels.index(v) for v in values], np.int64)
        features[name] = Sensitive(name=name, groups=tuple(levels), codes=codes)
    return Dataset(
        inputs=np.zeros((len(labels), 1), np.float32), labels=labels, modality="tabular",
        classes=("no", "yes"), favourable=favourable, sensitive=features,
    )  # fmt: skip


def run(data, predicted, **settings):
    filled = groups.settings(settings)
    return groups.measure(data, SimpleNamespace(predicted=np.asarray(predicted, np.int64)), **filled)


def value(evidence, name, **want):
    where = want.pop("where", {})
    (found,) = [
        m for m in evidence.measures
        if m.name == name and dict(m.group) == want and where.items() <= m.settings.items()
    ]  # fmt: skip
    return found


@pytest.fixture(scope="module")
def population():
    random = np.random.default_rng(5)
    n = 3000
    sex = random.choice(["Female", "Male"], n)
    race = random.choice(["A", "B", "C"], n, p=[0.6, 0.3, 0.1])
    labels = (random.random(n) < np.where(sex == "Male", 0.5, 0.35)).astype(int)
    predicted = np.where(random.random(n) < 0.8, labels, random.random(n) < 0.3).astype(int)
    return labels, predicted, sex, race


RATES = {
    "selection_rate": selection_rate,
    "accuracy": accuracy_score,
    "true_positive_rate": true_positive_rate,
    "false_positive_rate": false_positive_rate,
    "false_negative_rate": false_negative_rate,
}


def test_every_rate_of_every_group_equals_fairlearn(population):
    labels, predicted, sex, race = population
    evidence = run(dataset(labels, sex=sex, race=race), predicted)
    frame = MetricFrame(
        metrics=RATES, y_true=labels, y_pred=predicted, sensitive_features={"sex": sex, "race": race}
    )
    compared = 0
    for (s, r), row in frame.by_group.iterrows():
        for name in RATES:
            assert value(evidence, name, sex=s, race=r).value == pytest.approx(row[name], abs=1e-12)
            compared += 1
    assert compared == 6 * 5


def test_differences_equal_fairlearn(population):
    labels, predicted, sex, race = population
    evidence = run(dataset(labels, sex=sex, race=race), predicted)
    oracles = {
        "demographic_parity_difference": demographic_parity_difference,
        "equal_opportunity_difference": equal_opportunity_difference,
        "equalized_odds_difference": equalized_odds_difference,
    }
    for name, oracle in oracles.items():
        for feature, column in (("sex", sex), ("race", race)):
            expected = oracle(labels, predicted, sensitive_features=column)
            found = value(evidence, name, where={"feature": feature})
            assert found.value == pytest.approx(expected, abs=1e-12)
            assert found.low <= found.value <= found.high


def test_the_ratio_divides_by_the_most_selected_group():
    """8 of 20 against 15 of 20: .4 / .75."""
    predicted = [1] * 8 + [0] * 12 + [1] * 15 + [0] * 5
    evidence = run(dataset([1, 0] * 20, sex=["F"] * 20 + ["M"] * 20), predicted)
    ratio = value(evidence, "selection_rate_ratio", sex="F")
    assert ratio.value == pytest.approx(0.4 / 0.75)
    assert ratio.settings == {"reference": "M"}
    assert ratio.low < 0.4 / 0.75 < ratio.high


def test_a_group_without_positives_has_no_true_positive_rate():
    """fairlearn 0.15 answers TPR 0 and an equal opportunity difference of 1 here."""
    labels = [1, 0] * 20 + [0] * 20
    predicted = [1, 0] * 20 + [0] * 20
    evidence = run(dataset(labels, g=["a"] * 20 + ["b"] * 20 + ["c"] * 20), predicted)
    rate = value(evidence, "true_positive_rate", g="c")
    assert rate.value is None
    assert "0 of 0 rows" in rate.reason
    assert value(evidence, "equal_opportunity_difference", where={"feature": "g"}).value == 0.0
    assert any("c have no true positive rate" in caveat for caveat in evidence.caveats)


def test_a_single_group_has_no_ratio():
    """fairlearn 0.15 answers a demographic parity ratio of 1.0 here."""
    evidence = run(dataset([1, 0] * 20, g=["a"] * 40), [1, 0] * 20)
    ratio = value(evidence, "selection_rate_ratio", g="a")
    assert ratio.value is None
    assert "no second group" in ratio.reason
    difference = value(evidence, "demographic_parity_difference", where={"feature": "g"})
    assert difference.value is None
    assert "fewer than two groups" in difference.reason


def test_a_ratio_to_nobody_is_undefined():
    evidence = run(dataset([1, 0] * 20, g=["a"] * 20 + ["b"] * 20), [0] * 40)
    (ratio,) = [m for m in evidence.measures if m.name == "selection_rate_ratio"]
    assert ratio.value is None
    assert ratio.reason == "nobody in the reference group was selected"


def test_a_tiny_group_is_shown_and_not_compared():
    """One member who is not selected: fairlearn 0.15 answers a ratio of 0.0."""
    evidence = run(dataset([1, 0] * 20 + [1], g=["a"] * 20 + ["b"] * 20 + ["c"]), [1, 0] * 20 + [0])
    assert value(evidence, "selection_rate", g="c").value == 0.0
    ratio = value(evidence, "selection_rate_ratio", g="c")
    assert ratio.value is None
    assert "1 rows are fewer than the floor of 10" in ratio.reason
    assert value(evidence, "demographic_parity_difference", where={"feature": "g"}).value == 0.0


def test_two_members_both_selected_is_a_wide_interval():
    """fairlearn 0.15's bootstrap answers [1, 1] here."""
    evidence = run(dataset([1, 0] * 20 + [1, 1], g=["a"] * 40 + ["b"] * 2), [1, 0] * 20 + [1, 1])
    rate = value(evidence, "selection_rate", g="b")
    assert rate.value == 1.0
    assert rate.low < 0.35


def test_unknown_is_counted_and_shown_and_never_compared():
    values = ["a"] * 20 + ["b"] * 20 + ["unknown"] * 20
    evidence = run(dataset([1, 0] * 30, g=values), [1, 0] * 20 + [1] * 20)
    assert value(evidence, "selection_rate", g="unknown").value == 1.0
    assert {m.group["g"] for m in evidence.measures if m.name == "selection_rate_ratio"} <= {"a", "b"}
    assert value(evidence, "demographic_parity_difference", where={"feature": "g"}).value == 0.0
    assert any("20 of 60 rows have no known group" in caveat for caveat in evidence.caveats)


def test_the_counts_in_the_table_are_all_the_rows(population):
    labels, predicted, sex, race = population
    for table in run(dataset(labels, sex=sex, race=race), predicted).tables:
        assert sum(sum(row[1:]) for row in table.rows) == len(labels)


def test_the_other_outcome_may_be_the_favourable_one():
    evidence = run(dataset([1, 0] * 20, favourable=0, g=["a"] * 20 + ["b"] * 20), [1] * 30 + [0] * 10)
    assert value(evidence, "selection_rate", g="a").value == 0.0
    assert value(evidence, "selection_rate", g="b").value == 0.5


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (dataset([0, 1]), "names no sensitive feature"),
        (dataset([0, 1], favourable=None, g=["a", "b"]), "no outcome is named as favourable"),
    ],
)
def test_it_is_not_applicable_without_groups_or_an_outcome(data, words):
    with pytest.raises(NotApplicable, match=words):
        run(data, [0, 1])
