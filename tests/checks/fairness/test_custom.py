"""Metrics that users bring, against fairlearn and scikit-learn, and fairlearn's remedy as information."""

import json
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from fairlearn.metrics import MetricFrame, demographic_parity_difference
from sklearn.metrics import f1_score, roc_auc_score

from audit.checks.fairness.custom import custom
from audit.dataset import Dataset, Sensitive
from audit.errors import ConfigError, NotApplicable
from audit.policy import Limit, Verdict, judge_measures
from audit.record import plain
from audit.stats import METHODS, interval_at


def dataset(labels, favourable=1, classes=("no", "yes"), **sensitive):
    features = {}
    for name, values in sensitive.items():
        levels = sorted(set(values), key=lambda v: (v == "unknown", v))
        codes = np.array([levels.index(v) for v in values], np.int64)
        features[name] = Sensitive(name=name, groups=tuple(levels), codes=codes)
    labels = np.asarray(labels, np.int64)
    return Dataset(
        inputs=np.zeros((len(labels), 1), np.float32), labels=labels, modality="tabular",
        classes=classes, favourable=favourable, sensitive=features,
    )  # fmt: skip


def answers(score):
    score = np.asarray(score, np.float32)
    probabilities = np.stack([1 - score, score], axis=1)
    finite = np.isfinite(score)
    return SimpleNamespace(
        probabilities=probabilities, predicted=probabilities.argmax(axis=1).astype(np.int64), finite=finite
    )


def unlabelled(data):
    return Dataset(**{name: value for name, value in vars(data).items() if name != "labels"})


def run(data, score, **settings):
    return custom.measure(data, answers(score), 5, **custom.settings({"draws": 50, **settings}))


def only(evidence, name, group=None):
    (found,) = [m for m in evidence.measures if m.name == name and dict(m.group) == (group or {})]
    return found


def population(rows=800, skill=(1.0, 1.0), seed=0):
    random = np.random.default_rng(seed)
    group = random.choice(["A", "B"], rows)
    labels = random.integers(0, 2, rows)
    lift = np.where(group == "A", *skill)
    score = 1 / (1 + np.exp(-(random.normal(size=rows) + lift * (2 * labels - 1))))
    return labels, score, group


def test_the_values_are_those_of_fairlearn():
    labels, score, group = population()
    evidence = run(dataset(labels, g=group), score, metric="f1_score")
    frame = MetricFrame(
        metrics=f1_score, y_true=labels, y_pred=(score > 0.5).astype(int), sensitive_features=group
    )
    assert only(evidence, "custom").value == pytest.approx(frame.overall, abs=1e-12)
    for name in ("A", "B"):
        found = only(evidence, "custom", {"g": name})
        assert found.value == pytest.approx(frame.by_group[name], abs=1e-12)
        assert found.low < found.value < found.high
        assert found.settings == {"metric": "f1_score"}
    assert only(evidence, "custom_difference").value == pytest.approx(frame.difference(), abs=1e-12)


def test_the_spread_is_that_of_the_binomial():
    labels, score, group = population(1000)
    found = only(run(dataset(labels, g=group), score, metric="accuracy_score", draws=200), "custom")
    assert found.statistics["groups"][0]["spread"] == pytest.approx(
        np.sqrt(found.value * (1 - found.value) / 1000), rel=0.2
    )


def test_the_counts_the_seed_and_the_metric_give_every_number_again():
    """Restated from the table alone: counts of one group, drawn as a multinomial, and f1 from its cells."""
    labels, score, group = population(500)
    evidence = run(dataset(labels, g=group), score, metric="f1_score", draws=400)
    (table,) = evidence.tables
    assert table.name == "decisions: g"
    assert sum(row[-1] for row in table.rows) == 500
    cells = {(row[1], row[2]): row[3] for row in table.rows if row[0] == "A"}
    keys = sorted(cells)
    assert keys == [("0", "0"), ("0", "1"), ("1", "0"), ("1", "1")]
    counts = np.array([cells[key] for key in keys])
    n = counts.sum()

    def f1(tn, fp, fn, tp):
        return 2 * tp / (2 * tp + fp + fn)

    drawn = [f1(*c) for c in np.random.default_rng(5).multinomial(n, counts / n, size=400)]
    found = only(evidence, "custom", {"g": "A"})
    assert found.value == pytest.approx(f1(*counts), abs=1e-12)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=1e-12)


def test_draws_from_counts_are_distributed_as_rows_drawn_with_replacement():
    labels, score, group = population(300)
    given = (score > 0.5).astype(int)
    random = np.random.default_rng(9)
    by_rows = [f1_score(labels[p], given[p]) for p in (random.integers(0, 300, 300) for _ in range(600))]
    kept = only(run(dataset(labels, g=group), score, metric="f1_score", draws=600), "custom")
    kept = kept.statistics["groups"][0]
    assert kept["spread"] == pytest.approx(np.std(by_rows), rel=0.12)
    tail = kept["tails"].index(0.025)
    ends = np.quantile(by_rows, [0.025, 0.975])
    # The standard error of such a quantile of 600 draws is about a ninth of the spread.
    assert [kept["lows"][tail], kept["highs"][tail]] == pytest.approx(list(ends), abs=0.4 * kept["spread"])


def test_every_interval_follows_from_the_record_alone_at_any_level():
    """Through JSON and back, without the metric: the same interval, and wider ones at higher levels."""
    labels, score, group = population(400)
    for on, metric in (("decision", "f1_score"), ("score", "roc_auc_score")):
        evidence = run(dataset(labels, g=group), score, metric=metric, on=on, draws=200)
        for item in evidence.measures:
            kept = json.loads(json.dumps(plain(item)))
            again = METHODS[kept["method"]](kept["statistics"], kept["level"])
            assert again == (item.value, item.low, item.high)
            ends = [interval_at(item, level) for level in (0.8, 0.95, 0.999, 0.99999)]
            assert ends[1] == (item.low, item.high)
            assert all(a[0] >= b[0] and a[1] <= b[1] for a, b in pairwise(ends))


def test_many_classes_do_not_print_nearly_every_row():
    random = np.random.default_rng(0)
    labels = random.integers(0, 200, 5000)
    data = dataset(labels, favourable=None, classes=tuple(f"c{k}" for k in range(200)), g=["A"] * 5000)
    given = SimpleNamespace(predicted=random.integers(0, 200, 5000), finite=np.ones(5000, bool))
    evidence = custom.measure(data, given, 5, **custom.settings({"metric": "accuracy_score", "draws": 50}))
    assert not evidence.tables


def test_draws_in_which_the_metric_is_undefined_are_counted():
    """Two of C's 12 are selected: about one draw in nine selects nobody, and has no precision."""
    labels, score, group = population(400)
    labels, group = np.append(labels, [0, 1] * 6), np.append(group, ["C"] * 12)
    score = np.append(score, [0.9, 0.9] + [0.1] * 10)
    evidence = run(dataset(labels, g=group), score, metric="precision_score", draws=400)
    kept = only(evidence, "custom", {"g": "C"}).statistics["groups"][0]
    assert kept["draws"] + kept["undefined"] == 400
    assert kept["undefined"] == pytest.approx(400 * (10 / 12) ** 12, abs=25)
    told = (
        f"g = C: the metric is undefined in {kept['undefined']} of 400 draws; the interval is of the others."
    )
    assert told in evidence.caveats


def test_a_group_that_is_served_worse_is_found_and_equal_ones_are_not():
    for skill, expected in (((1.5, 0.0), True), ((1.0, 1.0), False)):
        labels, score, group = population(skill=skill)
        gap = only(run(dataset(labels, g=group), score, metric="f1_score"), "custom_difference")
        assert (gap.low > 0) is expected


def test_a_score_metric_is_given_the_score():
    labels, score, group = population()
    evidence = run(dataset(labels, g=group), score, metric="roc_auc_score", on="score")
    expected = roc_auc_score(labels[group == "A"], score[group == "A"].astype(np.float32))
    assert only(evidence, "custom", {"g": "A"}).value == pytest.approx(expected, abs=1e-12)


def test_arguments_and_a_function_of_ones_own_module():
    labels, score, group = population(200)
    data = dataset(labels, g=group)
    found = only(run(data, score, metric="f1_score", arguments={"average": "macro"}), "custom")
    assert found.value == pytest.approx(f1_score(labels, score > 0.5, average="macro"))
    own = only(run(data, score, metric="fairlearn.metrics:selection_rate"), "custom")
    assert own.value == pytest.approx((score > 0.5).mean())


def test_an_undefined_metric_is_not_a_number():
    """scikit-learn answers 0.0 for the precision of a group in which nobody is selected."""
    labels, score, group = population(400)
    labels, group = np.append(labels, [0] * 20), np.append(group, ["C"] * 20)
    score = np.append(score, [0.1] * 20)
    evidence = run(dataset(labels, g=group), score, metric="precision_score")
    found = only(evidence, "custom", {"g": "C"})
    assert found.value is None
    assert "undefined for these 20 rows" in found.reason
    assert only(evidence, "custom_difference").value < 0.4


def test_a_small_group_has_no_number_and_one_without_spread_no_interval():
    labels, score, group = population(400)
    labels = np.append(labels, [1, 1] + [1] * 12)
    score, group = np.append(score, [0.9] * 14), np.append(group, ["S"] * 2 + ["T"] * 12)
    evidence = run(dataset(labels, g=group), score, metric="accuracy_score")
    assert "2 rows are fewer than the floor of 10" in only(evidence, "custom", {"g": "S"}).reason
    flat = only(evidence, "custom", {"g": "T"})
    assert (flat.value, flat.low, flat.high) == (1.0, None, None)
    assert any("g = T: the draws do not vary" in caveat for caveat in evidence.caveats)
    assert "g = T: 1 in 12 rows" in only(evidence, "custom_difference").reason


def test_unknown_is_shown_and_not_compared():
    labels, score, group = population(600)
    group = np.where(np.arange(600) % 4 == 0, "unknown", group)
    score = np.where(group == "unknown", 1 - score, score)
    evidence = run(dataset(labels, g=group), score, metric="accuracy_score")
    assert only(evidence, "custom", {"g": "unknown"}).value < 0.4
    assert only(evidence, "custom_difference").value < 0.2


def test_without_a_favourable_outcome_the_classes_are_given():
    labels, score, group = population(200)
    data = dataset(labels, favourable=None, g=group)
    assert only(run(data, score, metric="accuracy_score"), "custom").value == np.mean(labels == (score > 0.5))
    with pytest.raises(NotApplicable, match="no score of it"):
        run(data, score, metric="roc_auc_score", on="score")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"metric": "f1_scor"}, "has no function 'f1_scor'; the nearest is 'f1_score'"),
        ({"metric": "no_such_module:f"}, "'no_such_module' does not import"),
        ({"metric": "f1_score", "arguments": {"averge": "macro"}}, "failed: .*averge"),
        ({"metric": "confusion_matrix"}, "failed: TypeError"),
    ],
)
def test_a_wrong_metric_is_one_sentence(settings, words):
    labels, score, group = population(100)
    with pytest.raises(ConfigError, match=words) as caught:
        run(dataset(labels, g=group), score, **settings)
    assert "\n" not in str(caught.value)


def test_it_is_not_applicable_without_a_metric_or_groups():
    labels, score, group = population(100)
    with pytest.raises(NotApplicable, match="no metric is named"):
        run(dataset(labels, g=group), score)
    with pytest.raises(NotApplicable, match="names no sensitive feature"):
        run(dataset(labels), score, metric="f1_score")


def test_the_remedy_is_a_table_of_information_with_the_legal_caveat():
    """Scores of B are held down by 1.5 log-odds; thresholds by group take the difference away."""
    labels, score, group = population(4000)
    odds = np.log(score / (1 - score)) - 1.5 * (group == "B")
    score = 1 / (1 + np.exp(-odds))
    evidence = run(dataset(labels, g=group), score, metric="accuracy_score", remedy=True)
    table = evidence.tables[-1]
    assert table.name == "remedy: g"
    assert table.title.startswith("Information, not a finding")
    assert "may be unlawful" in table.note
    rows = {row[0]: list(row[1:]) for row in table.rows}
    before = demographic_parity_difference(labels, score > 0.5, sensitive_features=group)
    assert rows["as it is now"][2] == pytest.approx(before, abs=0.05)
    assert min(rows["as it is now"][2:4]) > 0.2
    assert rows["demographic_parity"][2] < 0.06
    assert rows["equalized_odds"][3] < 0.12
    assert rows["demographic_parity"][1] > 0.7
    assert not any("threshold" in m.name or "remedy" in m.name for m in evidence.measures)
    without = run(dataset(labels, g=group), score, metric="accuracy_score").tables
    assert [item.name for item in without] == ["decisions: g"]


def test_a_remedy_that_cannot_be_computed_says_why():
    labels, score, group = population(200)
    labels = np.where(group == "B", 0, labels)
    rows = run(dataset(labels, g=group), score, metric="accuracy_score", remedy=True).tables[-1].rows
    assert all(row[2] is None and row[-1] for row in rows[1:])


def test_it_is_not_applicable_without_true_outcomes():
    labels, score, group = population(100)
    with pytest.raises(NotApplicable, match="no true outcomes"):
        run(unlabelled(dataset(labels, g=group)), score, metric="f1_score")


def test_a_group_that_is_always_wrong_is_not_dropped_from_the_difference():
    """0 of 50 right has draws that do not vary; the difference of the others must not pass in its place."""
    labels, score, group = population(1000)
    labels, group = np.append(labels, [1] * 50), np.append(group, ["T"] * 50)
    evidence = run(dataset(labels, g=group), np.append(score, [0.1] * 50), metric="accuracy_score")
    found = only(evidence, "custom_difference")
    assert found.value is None
    assert "g = T: 0 in 50 rows" in found.reason
    limit = Limit(check="fairness.custom", measure="custom_difference", at_most=0.2)
    (judged,) = judge_measures([found], [limit], 0.95)
    assert judged.verdict is Verdict.NOT_EVALUABLE


def test_the_difference_names_who_takes_no_part():
    labels, score, group = population(600)
    group = np.append(np.where(np.arange(600) % 4 == 0, "unknown", group), ["S"] * 3)
    data = dataset(np.append(labels, [1, 0, 1]), g=group)
    found = only(run(data, np.append(score, [0.9] * 3), metric="accuracy_score"), "custom_difference")
    assert found.left_out == "S (3 rows); unknown (150 rows)"
