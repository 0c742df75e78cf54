"""Who is in the data: counted by hand."""

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_1samp

from audit import stats
from audit.checks.fairness.representation import representation
from audit.dataset import Dataset, Sensitive
from audit.errors import ConfigError, NotApplicable


def dataset(values, labels=None, favourable=1):
    levels = sorted(set(values), key=lambda v: (v == "unknown", v))
    codes = np.array([levels.index(v) for v in values], np.int64)
    labels = np.asarray([0] * len(values) if labels is None else labels, np.int64)
    return Dataset(
        inputs=np.zeros((len(values), 1), np.float32), labels=labels, modality="tabular",
        classes=("no", "yes"), favourable=favourable,
        sensitive={"sex": Sensitive(name="sex", groups=tuple(levels), codes=codes)},
    )  # fmt: skip


def unlabelled(data):
    return Dataset(**{name: value for name, value in vars(data).items() if name != "labels"})


def run(data, **settings):
    return representation.measure(data, **representation.settings(settings))


def only(evidence, name, group=None):
    (found,) = [m for m in evidence.measures if m.name == name and dict(m.group) == (group or {})]
    return found


PEOPLE = ["Female"] * 30 + ["Male"] * 60 + ["unknown"] * 10
HALVES = {"sex": {"Female": 0.5, "Male": 0.5}}


def test_shares_are_of_the_rows_whose_group_is_known():
    evidence = run(dataset(PEOPLE), population=HALVES)
    share = only(evidence, "share", {"sex": "Female"})
    oracle = binomtest(30, 90).proportion_ci(0.95, method="wilson")
    assert (share.value, share.low, share.high) == pytest.approx((1 / 3, oracle.low, oracle.high))
    gap = only(evidence, "share_difference", {"sex": "Female"})
    expected = (1 / 3 - 0.5, oracle.low - 0.5, oracle.high - 0.5)
    assert (gap.value, gap.low, gap.high) == pytest.approx(expected)
    assert gap.high < 0
    assert only(evidence, "unknown_share").value == 0.1
    assert stats.METHODS[gap.method](gap.statistics, 0.95) == (gap.value, gap.low, gap.high)


def test_equal_shares_are_not_flagged():
    gap = only(
        run(dataset(["Female"] * 48 + ["Male"] * 52), population=HALVES), "share_difference", {"sex": "Male"}
    )
    assert gap.low < 0 < gap.high


def test_base_rates_are_of_the_labels():
    evidence = run(dataset(PEOPLE, [1] * 6 + [0] * 24 + [1] * 30 + [0] * 30 + [1] * 10))
    rates = {m.group["sex"]: m.value for m in evidence.measures if m.name == "base_rate"}
    assert rates == {"Female": 0.2, "Male": 0.5, "unknown": 1.0}
    assert [row[:2] + row[3:] for row in evidence.tables[0].rows] == [
        ["Female", 30, 24, 6], ["Male", 60, 30, 30], ["unknown", 10, 0, 10]
    ]  # fmt: skip


def test_a_group_of_the_population_without_a_row_is_counted_and_named():
    stated = {"sex": {"Female": 0.4, "Male": 0.4, "Diverse": 0.2}}
    evidence = run(dataset(["Female"] * 50 + ["Male"] * 50), population=stated)
    gap = only(evidence, "share_difference", {"sex": "Diverse"})
    assert gap.value == -0.2
    assert gap.high < 0
    assert any("Diverse belong to the stated population and have no row" in c for c in evidence.caveats)


def test_nothing_stated_compares_with_nothing_and_says_so():
    evidence = run(dataset(PEOPLE))
    assert not [m for m in evidence.measures if m.name == "share_difference"]
    assert any("no population is stated" in caveat for caveat in evidence.caveats)


def test_only_unknown_rows_have_no_shares():
    evidence = run(dataset(["unknown"] * 5), population=HALVES)
    share = only(evidence, "share", {"sex": "Female"})
    assert share.value is None
    assert "0 of 5" in share.reason
    assert only(evidence, "share_difference", {"sex": "Male"}).value is None


def test_a_group_that_the_population_leaves_out_is_named():
    evidence = run(dataset(PEOPLE), population={"sex": {"Female": 0.5}})
    assert any("no share for Male" in caveat for caveat in evidence.caveats)
    assert not [m for m in evidence.measures if m.name == "share_difference" and m.group == {"sex": "Male"}]


@pytest.mark.parametrize(
    ("population", "words"),
    [
        ({"sexx": {"Female": 0.5}}, "'sexx' is not a sensitive feature of the data; the nearest is 'sex'"),
        ({"sex": {"Female": 50}}, "'Female' = 50 is wrong; a share lies in"),
        ({"sex": {"Female": 0.6, "Male": 0.6}}, "add up to 1.2"),
    ],
)
def test_a_wrong_population_is_one_sentence(population, words):
    with pytest.raises(ConfigError, match=words):
        run(dataset(PEOPLE), population=population)


def test_it_is_not_applicable_without_groups():
    data = Dataset(
        inputs=np.zeros((2, 1), np.float32),
        labels=np.zeros(2, np.int64),
        modality="tabular",
        classes=("a", "b"),
    )
    with pytest.raises(NotApplicable, match="names no sensitive feature"):
        run(data)


def test_without_true_outcomes_there_are_shares_and_no_base_rates():
    evidence = run(unlabelled(dataset(PEOPLE)), population=HALVES)
    assert only(evidence, "share", {"sex": "Male"}).value == 60 / 90
    assert not [m for m in evidence.measures if m.name == "base_rate"]
    assert evidence.tables[0].rows[0] == ["Female", 30, 0.5]
    assert any("no true outcomes" in caveat for caveat in evidence.caveats)


def test_what_is_missing_is_counted_by_group():
    data = dataset(["a", "a", "a", "b", "b"])
    absent = np.array([True, False, False, True, True])
    evidence = run(Dataset(**{**vars(data), "missing": {"income": absent}}))
    found = {m.group["sex"]: m for m in evidence.measures if m.name == "missing_rate"}
    assert {group: (m.statistics["x"], m.n) for group, m in found.items()} == {"a": (1, 3), "b": (2, 2)}
    assert {m.settings["feature"] for m in found.values()} == {"income"}


def with_targets(values, targets, people=None):
    return Dataset(**{
        **vars(unlabelled(dataset(values))), "classes": (), "favourable": None,
        "targets": np.asarray(targets, np.float64),
        "people": None if people is None else np.asarray(people, np.int64),
    })  # fmt: skip


def test_numbers_have_a_mean_for_each_group_instead_of_a_base_rate():
    random = np.random.default_rng(0)
    targets = np.concatenate([random.normal(1e6, 3, 30), random.normal(1e6 + 5, 1, 60), [7.0] * 10])
    evidence = run(with_targets(PEOPLE, targets), population=HALVES)
    for group, rows in (("Female", slice(0, 30)), ("Male", slice(30, 90))):
        item = only(evidence, "mean_target", {"sex": group})
        oracle = ttest_1samp(targets[rows], 0).confidence_interval(0.95)
        assert (item.value, item.low, item.high) == pytest.approx((targets[rows].mean(), *oracle), abs=1e-6)
        assert stats.METHODS[item.method](item.statistics, 0.95) == (item.value, item.low, item.high)
    assert only(evidence, "mean_target", {"sex": "unknown"}).value == 7
    assert only(evidence, "share", {"sex": "Female"}).value == pytest.approx(1 / 3)
    assert not [m for m in evidence.measures if m.name == "base_rate"]
    assert not [text for text in evidence.caveats if "base rates" in text]
    (table,) = evidence.tables
    assert table.columns == ["group", "rows", "stated share of the population", "mean true value"]
    assert [row[:3] for row in table.rows] == [["Female", 30, 0.5], ["Male", 60, 0.5], ["unknown", 10, None]]
    assert table.rows[2][3] == 7


def test_one_row_has_a_mean_and_no_interval_and_a_group_without_rows_neither():
    data = with_targets(["a", "a", "b"], [1.0, 3.0, 5.0])
    evidence = run(data, population={"sex": {"a": 0.5, "b": 0.4, "c": 0.1}})
    assert only(evidence, "mean_target", {"sex": "a"}).value == 2
    alone = only(evidence, "mean_target", {"sex": "b"})
    assert (alone.value, alone.low, alone.high) == (5, None, None)
    assert "c" not in [m.group["sex"] for m in evidence.measures if m.name == "mean_target"]
    assert evidence.tables[0].rows[2] == ["c", 0, 0.1, None]


def test_a_row_that_stands_for_people_counts_as_often():
    values, targets, people = ["a", "a", "b"], [1.0, 4.0, 2.0], [3, 2, 5]
    weighted = run(with_targets(values, targets, people))
    plain = run(with_targets(np.repeat(values, people).tolist(), np.repeat(targets, people)))
    for group in "ab":
        mine, other = (only(item, "mean_target", {"sex": group}) for item in (weighted, plain))
        assert (mine.n, mine.value) == (other.n, pytest.approx(other.value))
        assert (mine.low, mine.high) == pytest.approx((other.low, other.high))
    assert [row[1] for row in weighted.tables[0].rows] == [5, 5]


def test_it_takes_part_in_audits_of_both_tasks():
    assert representation.tasks == {"classification", "regression"}
