"""Rates and differences against fairlearn where it is defined, and our own answer where it invents one."""

import json
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest
from fairlearn.metrics import (
    MetricFrame,
    count,
    demographic_parity_difference,
    equal_opportunity_difference,
    equalized_odds_difference,
    false_negative_rate,
    false_positive_rate,
    selection_rate,
    true_negative_rate,
    true_positive_rate,
)  # fmt: skip
from sklearn.metrics import accuracy_score

from audit.checks.fairness.groups import groups
from audit.dataset import Dataset, Sensitive
from audit.errors import ConfigError, NotApplicable, NotEvaluable
from audit.evidence import Table
from audit.fairness.cells import Cells, read_cells
from audit.fairness.controls import Strata, stratified
from audit.fairness.derive import METRICS, derive
from audit.policy import Limit, Verdict, judge_measures
from audit.stats import interval_at


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
    predicted = np.asarray(predicted, np.int64)
    finite = np.ones(len(predicted), bool)
    return groups.measure(data, SimpleNamespace(predicted=predicted, finite=finite, device="cpu"), **filled)


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


def test_a_rate_of_four_people_is_shown_and_no_limit_is_judged_on_it():
    """60 rows of b are enough; 4 of them deserved the favourable outcome, and none of those received it."""
    labels = [1, 0] * 30 + [1] * 4 + [0] * 56
    predicted = [1, 0] * 30 + [0] * 4 + [1, 0] * 28
    evidence = run(dataset(labels, g=["a"] * 60 + ["b"] * 60), predicted)
    rate = value(evidence, "true_positive_rate", g="b")
    assert rate.value == 0.0
    for name in ("true_positive_rate", "true_positive_rate_ratio", "true_positive_rate_difference"):
        asked = Limit(check="c", measure=name, at_least=-0.2, group={"g": "b"})
        (judgement,) = judge_measures(evidence.measures, [asked], 0.95)
        assert judgement.verdict is Verdict.NOT_EVALUABLE
        assert "is 0 of 4 rows, fewer than the floor of 10" in judgement.reason
    largest = value(evidence, "equal_opportunity_difference", where={"feature": "g"})
    assert (largest.value, largest.left_out) == (None, "b (4 rows)")
    assert any("true positive rate of b (4 rows) has a denominator below" in c for c in evidence.caveats)
    (table,) = [t for t in evidence.tables if t.name == "comparisons"]
    counted = dict(zip(table.columns, table.rows[0], strict=True))
    # Too few: ratio and difference of the true positive rate. Undefined: equal opportunity and equalized
    # odds with one group left, and, as nobody in a is wronged, ratios to its false positives.
    assert (counted["of too few rows"], counted["undefined"]) == (2, 4)


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
    tables = [
        table for table in run(dataset(labels, sex=sex, race=race), predicted).tables if "cells" in table.name
    ]
    assert len(tables) == 3
    for table in tables:
        assert sum(sum(row[-4:]) for row in table.rows) == len(labels)


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


SIX = {
    "count": count, "selection_rate": selection_rate, "true_positive_rate": true_positive_rate,
    "false_positive_rate": false_positive_rate, "false_negative_rate": false_negative_rate,
    "true_negative_rate": true_negative_rate,
}  # fmt: skip


def test_seven_by_seven_groups_and_six_metrics_equal_fairlearn_wherever_it_is_defined():
    random = np.random.default_rng(11)
    n = 6000
    first, second = (random.choice(list("abcdefg"), n) for _ in range(2))
    labels = (random.random(n) < 0.4).astype(int)
    labels[(first == "a") & (second == "a")] = 0
    labels[(first == "b") & (second == "c")] = 1
    predicted = (random.random(n) < 0.2 + 0.5 * labels).astype(int)
    evidence = run(dataset(labels, one=first, two=second), predicted, metrics=list(SIX)[1:])
    frame = MetricFrame(
        metrics=SIX, y_true=labels, y_pred=predicted, sensitive_features={"one": first, "two": second}
    )
    found = {(m.name, *m.group.values()): m for m in evidence.measures if len(m.group) == 2}
    same, undefined = 0, []
    for (a, b), row in frame.by_group.iterrows():
        assert found["selection_rate", a, b].n == row["count"]
        same += 1
        for name in list(SIX)[1:]:
            ours = found[name, a, b].value
            if ours is None:
                undefined.append((name, a, b, row[name]))
            else:
                assert ours == pytest.approx(row[name], abs=1e-12)
                same += 1
    assert same + len(undefined) == 49 * 6
    assert undefined == [  # fairlearn 0.15 invents 0 for all of these
        ("true_positive_rate", "a", "a", 0.0),
        ("false_negative_rate", "a", "a", 0.0),
        ("false_positive_rate", "b", "c", 0.0),
        ("true_negative_rate", "b", "c", 0.0),
    ]


def test_a_group_without_positives_has_no_false_negative_rate_either():
    """fairlearn 0.15 answers 0 for both, so that TPR + FNR = 0."""
    evidence = run(dataset([1, 0] * 20 + [0] * 20, g=["a"] * 40 + ["c"] * 20), [1, 0] * 30)
    for name in ("true_positive_rate", "false_negative_rate", "true_positive_rate_difference"):
        assert value(evidence, name, g="c").value is None


def test_nobody_selected_is_a_difference_of_zero_and_no_ratio():
    """aequitas answers 10, smclarify a huge constant and jurity a count for such a ratio."""
    evidence = run(dataset([1, 0] * 20, g=["a"] * 20 + ["b"] * 20), [0] * 40)
    assert value(evidence, "demographic_parity_difference", where={"feature": "g"}).value == 0.0
    assert value(evidence, "positive_predictive_value", g="a").value is None
    assert value(evidence, "false_discovery_rate", g="a").value is None
    assert any("a; b have no positive predictive value: nobody was" in text for text in evidence.caveats)


def test_everybody_selected_has_no_negative_predictive_value():
    """VerifyWise proposed -1 here."""
    evidence = run(dataset([1, 0] * 20, g=["a"] * 20 + ["b"] * 20), [1] * 40)
    for name in ("negative_predictive_value", "false_omission_rate"):
        found = value(evidence, name, g="a")
        assert found.value is None
        assert "0 of 0 rows" in found.reason


def test_no_undefined_number_is_a_bar_or_a_bound():
    evidence = run(dataset([0] * 40 + [1] * 9, g=["a"] * 20 + ["b"] * 20 + ["c"] * 9), [0] * 40 + [1] * 9)
    assert all((m.low is None) == (m.value is None) for m in evidence.measures)
    assert all((m.value is None) == bool(m.reason) for m in evidence.measures)


def complete(seed=3, classes=("no", "yes"), favourable=1, n=1500):
    """Data with everything in it: two sensitive features with unknown, a control, and small groups."""
    random = np.random.default_rng(seed)
    data = dataset(
        random.integers(0, len(classes), n), favourable=favourable,
        sex=random.choice(["F", "M", "X", "unknown"], n, p=[0.45, 0.45, 0.003, 0.097]),
        race=random.choice(["A", "B", "unknown"], n, p=[0.7, 0.2, 0.1]),
    )  # fmt: skip
    site = Sensitive(name="site", groups=("s", "t", "unknown"), codes=random.integers(0, 3, n))
    data = replace(data, classes=classes, controls={"site": site})
    return data, random.integers(0, len(classes), n)


def strata_of(tables, cells, control):
    """The strata of one grouping and class, from the tables of a record alone."""
    (table,) = [t for t in tables if t["name"] == f"strata: {cells.name} by {control}"]
    features = list(cells.groups[0])
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    rows = [row for row in rows if all(row[k] == v for k, v in cells.settings.items())]
    names = list(dict.fromkeys(row[control] for row in rows))
    selected, total = (np.zeros((len(cells.groups), len(names)), int) for _ in range(2))
    for row in rows:
        place = cells.groups.index({k: row[k] for k in features}), names.index(row[control])
        selected[place], total[place] = row["selected"], row["rows"]
    return Strata(cells, control, tuple({control: name} for name in names), selected, total)


@pytest.mark.parametrize(
    ("classes", "favourable", "reference"),
    [(("no", "yes"), 1, "best"), (("no", "yes"), 1, "all"), (("k", "l", "m"), None, ["M", "A"])],
)
def test_every_number_is_derived_again_from_the_tables_of_the_record_alone(classes, favourable, reference):
    data, predicted = complete(classes=classes, favourable=favourable)
    evidence = run(data, predicted, reference=reference, control=["site"], metrics=METRICS)
    tables = json.loads(json.dumps([asdict(table) for table in evidence.tables]))
    again = []
    for stored in tables:
        if stored["name"].startswith("cells"):
            for cells in read_cells(Table(**stored), floor=10):
                again += derive(cells, reference, METRICS)
                again += stratified(strata_of(tables, cells, "site"), reference, METRICS)
    key = lambda m: (m.name, *m.group.items(), *sorted(m.settings.items()))  # noqa: E731 - one use
    assert len(again) == len(evidence.measures)
    assert len({m.name for m in again}) == len(METRICS)
    for ours, theirs in zip(sorted(again, key=key), sorted(evidence.measures, key=key), strict=True):
        assert asdict(ours) == asdict(theirs)
        if theirs.method and theirs.value is not None:
            assert interval_at(theirs, 0.95) == (theirs.low, theirs.high)


def test_several_classes_are_each_set_against_the_rest_as_fairlearn_would():
    data, predicted = complete(classes=("k", "l", "m"), favourable=None)
    evidence = run(data, predicted, depth=1)
    sex = np.array(data.sensitive["sex"].groups)[data.sensitive["sex"].codes]
    for place, name in enumerate(data.classes):
        frame = MetricFrame(
            metrics=SIX, y_true=data.labels == place, y_pred=predicted == place, sensitive_features=sex
        )
        for group in ("F", "M", "unknown"):
            for metric in list(SIX)[1:]:
                found = value(evidence, metric, sex=group, where={"class": name})
                assert found.value == pytest.approx(frame.by_group.loc[group, metric], abs=1e-12)
        women, men = (frame.by_group.loc[g, "selection_rate"] for g in "FM")
        (ratio,) = [
            m for m in evidence.measures
            if m.name == "selection_rate_ratio" and m.settings["class"] == name
            and m.group.get("sex") in ("F", "M") and m.value is not None
        ]  # fmt: skip
        assert ratio.value == pytest.approx(min(women, men) / max(women, men), abs=1e-12)
    assert any("Each class is set against all others" in text for text in evidence.caveats)
    assert evidence.figures == []


def test_named_classes_alone():
    data, predicted = complete(classes=("k", "l", "m"), favourable=None)
    evidence = run(data, predicted, classes=["l"])
    assert {m.settings["class"] for m in evidence.measures} == {"l"}
    assert any("1 classes are looked at; 2 others" in text for text in evidence.caveats)


def test_only_the_metrics_that_are_named_are_measured():
    evidence = run(*complete(), metrics=["selection_rate_ratio", "accuracy"])
    assert {m.name for m in evidence.measures} == {"selection_rate_ratio", "accuracy"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"metrics": ["selection"]}, "'metrics.0'"),
        ({"reference": ["Nobody", "W"]}, "'reference' = 'Nobody, W' names no group; known are A, B, F"),
        ({"reference": "bset"}, "names no group; the nearest is 'best'"),
        ({"control": ["siet"]}, "the nearest is 'site'"),
        ({"classes": ["yess"]}, "the nearest is 'yes'"),
        ({"depth": 0}, "'depth' = 0 is wrong"),
    ],
)
def test_a_wrong_setting_is_named(settings, words):
    with pytest.raises(ConfigError) as error:
        run(*complete(), **settings)
    assert words in str(error.value)


def test_a_reference_that_one_grouping_lacks_is_replaced_and_said_so():
    evidence = run(*complete(), reference="M", depth=1)
    by_sex = value(evidence, "selection_rate_ratio", sex="F")
    assert by_sex.settings == {"reference": "M"}
    assert any("By race, no group is the reference that was named" in text for text in evidence.caveats)
    assert not any("By sex, no group is the reference" in text for text in evidence.caveats)


def test_the_unknown_are_bounded():
    """16 of 20 against 12 of 20; 4 of 10 unknown selected."""
    values = ["a"] * 20 + ["b"] * 20 + ["unknown"] * 10
    predicted = [1] * 16 + [0] * 4 + [1] * 12 + [0] * 8 + [1] * 4 + [0] * 6
    evidence = run(dataset([1, 0] * 25, g=values), predicted)
    worst = value(evidence, "selection_rate_ratio_worst", where={"feature": "g"})
    assert worst.value == pytest.approx((12 / 26) / (20 / 24))
    best = value(evidence, "demographic_parity_difference_best", where={"feature": "g"})
    assert best.value == 0.0
    assert any("the lowest selection rate ratio lies between 0.554 and 1.000" in t for t in evidence.caveats)


def test_berkeley_turns_round_within_the_departments():
    men = {"A": (512, 313), "B": (353, 207), "C": (120, 205), "D": (138, 279), "E": (53, 138), "F": (22, 351)}
    women = {"A": (89, 19), "B": (17, 8), "C": (202, 391), "D": (131, 244), "E": (94, 299), "F": (24, 317)}
    sex, department, admitted = [], [], []
    for who, table in (("Male", men), ("Female", women)):
        for name, (yes, no) in table.items():
            sex += [who] * (yes + no)
            department += [name] * (yes + no)
            admitted += [1] * yes + [0] * no
    data = dataset(admitted, sex=sex)
    codes = np.array(["ABCDEF".index(name) for name in department])
    held = Sensitive(name="department", groups=tuple("ABCDEF"), codes=codes)
    evidence = run(replace(data, controls={"department": held}), admitted, control=["department"])
    pooled = value(evidence, "selection_rate_difference", sex="Female")
    within = value(evidence, "selection_rate_difference_stratified", sex="Female")
    assert pooled.value < -0.1 < 0 < within.value
    assert within.settings == {"control": "department", "reference": "Male"}
    assert any("turns round within department" in text for text in evidence.caveats)
    assert not any("turns round" in text for text in run(data, admitted).caveats)


def test_rows_without_a_known_control_are_said():
    evidence = run(*complete(), control=["site"])
    assert any("rows have no known site; by sex they form strata" in text for text in evidence.caveats)


def test_the_number_of_comparisons_is_printed():
    evidence = run(*complete())
    (table,) = [t for t in evidence.tables if t.name == "comparisons"]
    by_sex = dict(zip(table.columns, table.rows[0], strict=True))
    sizes = by_sex["groups"], by_sex["compared"], by_sex["below the floor"], by_sex["unknown"]
    assert sizes == (4, 2, 1, 1)
    assert by_sex["reference"] in ("F", "M")
    # one pair x (4 rates x 2 + treatment equality), 4 largest differences and 4 bounds; X has 9 undefined
    assert (by_sex["comparisons"], by_sex["undefined"]) == (17, 9)
    assert table.title.startswith(f"{sum(row[-3] for row in table.rows)} comparisons")


def test_decisions_without_outcomes_are_compared_as_decisions_alone():
    data, predicted = complete()
    unlabelled = Dataset(
        inputs=data.inputs, modality="tabular", classes=data.classes, favourable=1, sensitive=data.sensitive
    )
    evidence, full = run(unlabelled, predicted), run(data, predicted)
    names = {m.name for m in evidence.measures}
    assert "selection_rate_ratio" in names
    assert not names & {"accuracy", "base_rate", "true_positive_rate", "equalized_odds_difference"}
    kept = [asdict(m) for m in full.measures if m.name in names]
    assert [asdict(m) for m in evidence.measures] == kept
    assert list(evidence.tables[0].columns) == ["sex", "not selected", "selected"]
    again = [m for table in evidence.tables[:3] for c in read_cells(table, 10) for m in derive(c)]
    assert [asdict(m) for m in again] == kept


def test_scores_that_are_no_numbers_decide_nothing():
    data, predicted = complete()
    finite = np.ones(len(predicted), bool)
    finite[:7] = False
    with pytest.raises(NotEvaluable, match="7 of 1500 rows have scores that are not finite"):
        groups.measure(
            data, SimpleNamespace(predicted=predicted, finite=finite, device="cpu"), **groups.settings({})
        )


def test_a_reference_picked_by_the_data_is_paid_for():
    """Ten equal groups, limit 1: the best of them is best by chance, and no group may FAIL for it."""
    random = np.random.default_rng(6)
    limit = Limit(check="c", measure="selection_rate_ratio", at_least=1.0)
    wrong = 0
    for _ in range(200):
        x = random.binomial(200, 0.4, size=10)
        cells = [(int(n), 200 - int(n)) for n in x]
        predicted = np.concatenate([[1] * a + [0] * b for a, b in cells])
        data = dataset([0, 1] * 1000, g=np.repeat([f"g{i}" for i in range(10)], 200).tolist())
        evidence = run(data, predicted, depth=1, metrics=["selection_rate_ratio"])
        verdicts = judge_measures(evidence.measures, [limit], 0.95)
        wrong += any(j.verdict is Verdict.FAIL for j in verdicts)
    assert wrong <= 0.05 * 200


def test_the_table_is_counted_once_for_all_metrics(monkeypatch):
    from audit.groups import count_table

    passes = []
    monkeypatch.setattr("audit.groups.count_table", lambda *a: passes.append(1) or count_table(*a))
    evidence = run(*complete(), metrics=METRICS)
    assert len({m.name for m in evidence.measures}) == len(METRICS) - 2
    assert len(passes) == 1


def test_groups_are_told_apart_though_their_names_hold_a_comma():
    cells = Cells("a x b", ({"a": "x, y", "b": "z"}, {"a": "x", "b": "y, z"}), np.full((2, 2, 2), 5))
    evidence = run(
        dataset([0, 1] * 20, a=["x, y"] * 20 + ["x"] * 20, b=["z"] * 20 + ["y, z"] * 20), [0, 0, 1, 1] * 10
    )
    (stored,) = [t for t in evidence.tables if t.name == "cells: a x b"]
    (back,) = read_cells(stored, 10)
    assert set(map(str, back.groups)) == set(map(str, cells.groups))
    assert np.array_equal(back.table, cells.table)
