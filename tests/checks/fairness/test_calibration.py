"""Scores by group against scikit-learn on the rows, and planted miscalibration that must be found."""

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from audit.checks.fairness.calibration import calibration
from audit.dataset import Dataset, Sensitive
from audit.errors import ConfigError, NotApplicable
from audit.record import plain


def dataset(labels, favourable=1, **sensitive):
    features = {}
    for name, values in sensitive.items():
        levels = sorted(set(values), key=lambda v: (v == "unknown", v))
        codes = np.array([levels.index(v) for v in values], np.int64)
        features[name] = Sensitive(name=name, groups=tuple(levels), codes=codes)
    labels = np.asarray(labels, np.int64)
    return Dataset(
        inputs=np.zeros((len(labels), 1), np.float32), labels=labels, modality="tabular",
        classes=("no", "yes"), favourable=favourable, sensitive=features,
    )  # fmt: skip


def answers(odds):
    odds = np.asarray(odds, np.float32)
    scores = np.stack([np.zeros_like(odds), odds], axis=1)
    return SimpleNamespace(
        scores=scores, finite=np.isfinite(scores).all(axis=1), predicted=scores.argmax(axis=1)
    )


def unlabelled(data):
    return Dataset(**{name: value for name, value in vars(data).items() if name != "labels"})


def run(data, odds, **settings):
    return calibration.measure(data, answers(odds), 5, **calibration.settings({"draws": 300, **settings}))


def only(evidence, name, group=None, **where):
    (found,) = [
        m for m in evidence.measures
        if m.name == name and dict(m.group) == (group or {}) and where.items() <= m.settings.items()
    ]  # fmt: skip
    return found


def population(rows=4000, overstated=0.0, seed=0):
    """Scores that are calibrated for A; for B they promise `overstated` log-odds too many."""
    random = np.random.default_rng(seed)
    group = random.choice(["A", "B"], rows, p=[0.6, 0.4])
    odds = random.normal(0, 1.5, rows)
    labels = (random.random(rows) < 1 / (1 + np.exp(-odds))).astype(int)
    return labels, odds + overstated * (group == "B"), group


def test_every_group_has_the_numbers_of_its_rows():
    labels, odds, group = population()
    evidence = run(dataset(labels, g=group), odds)
    for name in ("A", "B"):
        mine, score = labels[group == name], 1 / (1 + np.exp(-odds[group == name]))
        found = only(evidence, "auc", {"g": name})
        assert found.value == pytest.approx(roc_auc_score(mine, score), abs=1e-4)
        assert found.low < found.value < found.high
        brier = only(evidence, "brier", {"g": name})
        assert brier.value == pytest.approx(brier_score_loss(mine, score), abs=1e-6)
    assert only(evidence, "auc").value == pytest.approx(roc_auc_score(labels, odds), abs=1e-4)


def test_ece_is_that_of_equal_mass_bins_worked_out_on_the_rows():
    labels, odds, group = population()
    evidence = run(dataset(labels, g=group), odds)
    score = 1 / (1 + np.exp(-odds))
    order = np.argsort(odds)
    gaps = [abs(labels[part].mean() - score[part].mean()) for part in np.array_split(order, 10)]
    assert only(evidence, "ece").value == pytest.approx(np.mean(gaps), abs=1e-6)


def test_an_overstated_group_is_found():
    labels, odds, group = population(overstated=1.5)
    evidence = run(dataset(labels, g=group), odds)
    assert only(evidence, "ece_difference", feature="g").low > 0.05
    assert only(evidence, "ece", {"g": "B"}).low > only(evidence, "ece", {"g": "A"}).high
    rates = [m for m in evidence.measures if m.name == "observed_rate" and m.group == {"g": "B"}]
    assert sum(m.high < m.settings["mean_score"] for m in rates) >= 6


def test_equal_groups_are_not_flagged():
    labels, odds, group = population(seed=3)
    evidence = run(dataset(labels, g=group), odds)
    for metric in ("auc", "ks", "brier", "ece"):
        assert only(evidence, f"{metric}_difference", feature="g").low == 0.0
    rates = [m for m in evidence.measures if m.name == "observed_rate" and m.group]
    assert sum(not m.low <= m.settings["mean_score"] <= m.high for m in rates) <= 3


def by_both(seed=4, rows=8000):
    """Scores overstate women of A and men of B by 1.5 log-odds, the others not at all."""
    random = np.random.default_rng(seed)
    group, sex = random.choice(["A", "B"], rows), random.choice(["F", "M"], rows)
    odds = random.normal(0, 1.5, rows)
    labels = (random.random(rows) < 1 / (1 + np.exp(-odds))).astype(int)
    return labels, odds + 1.5 * ((group == "A") == (sex == "F")), group, sex


def test_an_intersection_that_neither_feature_shows_is_found():
    labels, odds, group, sex = by_both()
    evidence = run(dataset(labels, g=group, sex=sex), odds)
    for feature in ("g", "sex"):
        assert only(evidence, "ece_difference", feature=feature).low == 0.0
    gap = only(evidence, "ece_difference", feature="g x sex")
    assert gap.low > 0.1
    score = 1 / (1 + np.exp(-odds))
    for name in "AB":
        for other in "FM":
            mine = (group == name) & (sex == other)
            found = only(evidence, "auc", {"g": name, "sex": other})
            assert found.n == mine.sum()
            assert found.value == pytest.approx(roc_auc_score(labels[mine], score[mine]), abs=2e-4)
    assert len([m for m in evidence.measures if m.name == "auc"]) == 1 + 2 + 2 + 4


def test_intersections_have_a_table_and_no_figures_or_rates_of_their_own():
    labels, odds, group, sex = by_both(rows=2000)
    evidence = run(dataset(labels, g=group, sex=sex), odds)
    assert [figure.name for figure in evidence.figures] == ["calibration by g", "calibration by sex"]
    assert not any(m.name == "observed_rate" and len(m.group) > 1 for m in evidence.measures)
    table = next(table for table in evidence.tables if table.name == "calibration: g x sex")
    assert list(table.columns[:2]) == ["g", "sex"]
    mine = (group == "B") & (sex == "M")
    kept = [row for row in table.rows if tuple(row[:2]) == ("B", "M")]
    assert sum(row[-2] for row in kept) == mine.sum()
    assert sum(row[-1] for row in kept) == labels[mine].sum()
    alone = run(dataset(labels, g=group, sex=sex), odds, depth=1)
    assert all(len(m.group) <= 1 for m in alone.measures)
    assert len(alone.tables) == 2


def test_intersections_below_the_floor_or_partly_unknown_are_shown_and_not_compared():
    labels, odds, group, sex = by_both(rows=1500)
    rare, sex = np.flatnonzero((group == "B") & (sex == "M"))[8:], sex.astype(object)
    sex[rare] = np.where(np.arange(len(rare)) % 2, "F", "unknown")
    evidence = run(dataset(labels, g=group, sex=sex), odds)
    small = only(evidence, "brier", {"g": "B", "sex": "M"})
    assert small.value is None
    assert "fewer than the floor of 10" in small.reason
    assert only(evidence, "brier", {"g": "B", "sex": "unknown"}).value is not None
    gap = only(evidence, "brier_difference", feature="g x sex")
    assert len(gap.statistics["groups"]) == 3
    assert any(c.startswith("By g x sex, B, M has too few rows") for c in evidence.caveats)
    told = f"By g x sex, {(sex == 'unknown').sum()} rows have no known group"
    assert any(c.startswith(told) for c in evidence.caveats)


def three_classes(favourable, rows=3000):
    """Scores of class b promise B 1.5 log-odds too many; those of a and c are calibrated among themselves."""
    random = np.random.default_rng(8)
    scores = random.normal(size=(rows, 3))
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    labels = (random.random(rows)[:, None] > shares.cumsum(axis=1)).sum(axis=1)
    group = random.choice(["A", "B"], rows)
    scores[:, 1] += 1.5 * (group == "B")
    two = dataset(labels, favourable, g=group)
    data = Dataset(**{**vars(two), "classes": ("a", "b", "c")})
    given = SimpleNamespace(scores=scores, finite=np.ones(rows, bool), predicted=scores.argmax(axis=1))
    return data, given, group


def test_without_a_favourable_outcome_each_of_several_classes_is_set_against_the_rest():
    data, given, group = three_classes(None)
    evidence = calibration.measure(data, given, 5, **calibration.settings({"draws": 200}))
    shares = np.exp(given.scores) / np.exp(given.scores).sum(axis=1, keepdims=True)
    for place, name in enumerate("abc"):
        found = only(evidence, "auc", {"g": "B"}, **{"class": name})
        mine = group == "B"
        expected = roc_auc_score(data.labels[mine] == place, shares[mine, place])
        assert found.value == pytest.approx(expected, abs=2e-4)
        assert only(evidence, "ece_difference", feature="g", **{"class": name}).low > 0.02
    worst = max("abc", key=lambda c: only(evidence, "ece_difference", feature="g", **{"class": c}).value)
    assert worst == "b"
    (figure,) = evidence.figures
    assert figure.kind == "bars"
    assert "differs most for class b" in figure.title
    assert [label[0] for label in figure.data["labels"]] == ["a", "b", "c"]
    (table,) = evidence.tables
    assert list(table.columns[:3]) == ["g", "class", "bin"]
    assert sum(row[-1] for row in table.rows) == len(data)
    assert any("a, b, c" in caveat for caveat in evidence.caveats)


def test_one_of_several_classes_may_be_favourable_or_named():
    data, given, _ = three_classes(1)
    filled = calibration.settings({"draws": 200})
    favoured = calibration.measure(data, given, 5, **filled)
    assert not any("class" in m.settings for m in favoured.measures)
    assert [figure.kind for figure in favoured.figures] == ["curve"]
    named = calibration.measure(data, given, 5, **{**filled, "classes": ("b",)})
    assert only(named, "ece", {"g": "B"}).value == only(favoured, "ece", {"g": "B"}).value
    with pytest.raises(ConfigError, match="names 'bb', which is no class"):
        calibration.measure(data, given, 5, **{**filled, "classes": ("bb",)})


def test_a_group_that_is_ranked_worse_is_found():
    random = np.random.default_rng(1)
    labels = random.integers(0, 2, 3000)
    group = np.repeat(["A", "B"], 1500)
    odds = random.normal(size=3000) + np.where(group == "A", 2.0, 0.3) * labels
    evidence = run(dataset(labels, g=group), odds)
    assert only(evidence, "auc_difference", feature="g").low > 0.2
    assert only(evidence, "ks_difference", feature="g").low > 0.2


def test_a_group_without_positives_has_no_auc_and_is_not_compared():
    labels, odds, group = population(600)
    labels, group = np.append(labels, [0] * 30), np.append(group, ["C"] * 30)
    odds = np.append(odds, np.linspace(-2, 2, 30))
    evidence = run(dataset(labels, g=group), odds)
    found = only(evidence, "auc", {"g": "C"})
    assert found.value is None
    assert "0 rows with the favourable outcome and 30 without" in found.reason
    assert only(evidence, "brier", {"g": "C"}).value is not None
    pair = only(evidence, "auc_difference", feature="g")
    assert len(pair.statistics["groups"]) == 2
    assert pair.left_out == "C (30 rows)"
    assert only(evidence, "brier_difference", feature="g").left_out == ""
    assert any("C has too few rows" in caveat for caveat in evidence.caveats)


def test_one_group_alone_has_no_difference():
    labels, odds, _ = population(200)
    found = only(run(dataset(labels, g=["A"] * 200), odds), "auc_difference", feature="g")
    assert found.value is None
    assert "nothing to compare" in found.reason


def test_unknown_groups_are_shown_and_not_compared():
    labels, odds, group = population(3000)
    group = np.where(np.arange(3000) % 3 == 0, "unknown", group)
    odds = np.where(group == "unknown", -odds, odds)
    evidence = run(dataset(labels, g=group), odds)
    assert only(evidence, "auc", {"g": "unknown"}).value < 0.4
    assert only(evidence, "auc_difference", feature="g").value < 0.1


def test_saturated_scores_keep_their_order():
    """Probabilities of float32 are 1.0 for all of these; the log-odds are not."""
    labels, odds, group = population(1000)
    evidence = run(dataset(labels, g=group), odds + 60)
    assert only(evidence, "auc").value == pytest.approx(roc_auc_score(labels, odds), abs=2e-4)


def test_rows_without_a_finite_score_are_left_out_and_counted():
    labels, odds, group = population(500)
    odds[:7] = np.nan
    evidence = run(dataset(labels, g=group), odds)
    assert only(evidence, "auc").n == 493
    assert any("7 of 500 rows" in caveat for caveat in evidence.caveats)


def test_the_same_seed_gives_the_same_record():
    labels, odds, group = population(500)
    first, second = (plain(run(dataset(labels, g=group), odds)) for _ in range(2))
    assert first == second


def test_the_other_class_may_be_the_favourable_one():
    labels, odds, group = population(500)
    evidence = run(dataset(labels, favourable=0, g=group), odds)
    assert only(evidence, "auc").value == pytest.approx(roc_auc_score(1 - labels, -odds), abs=1e-4)


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


def test_it_is_not_applicable_without_true_outcomes():
    labels, odds, group = population(100)
    with pytest.raises(NotApplicable, match="no true outcomes"):
        run(unlabelled(dataset(labels, g=group)), odds)
