from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
from runs import CALIBRATED, MEASURED, answered, finding_of, people

from audit.attack.result import AtEpsilon, AttackResult
from audit.checks.reliability.calibration import calibration
from audit.checks.robustness.curve import _groups, _measures
from audit.outcomes import answers, attacked
from audit.pairing import FEWEST, Pair, difference
from audit.stats import METHODS

ROWS = 900


@pytest.fixture(scope="module")
def two():
    """The same rows and two models that share most mistakes."""
    random = np.random.default_rng(3)
    data = people(ROWS, seed=3)
    right = random.random(ROWS) < 0.8
    other = np.where(random.random(ROWS) < 0.2, random.random(ROWS) < 0.7, right)
    return data, answered(data, right, seed=1), answered(data, other, seed=2)


def pairs(check, settings, two):
    """Measures of both models beside each other, and the pair that compares them."""
    data, base, new = two
    old, later = (finding_of(check, settings, data, one, None) for one in (base, new))
    pair = Pair(answers(data, base), answers(data, new), later.settings)
    same = {(m.name, str(m.group), str(m.settings)): m for m in old.measures}
    both = [
        (same[key], m) for m in later.measures if (key := (m.name, str(m.group), str(m.settings))) in same
    ]
    return both, pair


def members(data, group):
    kept = np.ones(len(data), dtype=bool)
    for name, value in group.items():
        if name == "class":
            kept &= data.labels == data.classes.index(value)
        else:
            feature = data.sensitive[name]
            kept &= feature.codes == feature.groups.index(value)
    return kept


def test_accuracy_of_each_group_is_counted_row_by_row(two):
    data, base, new = two
    both, pair = pairs(MEASURED["performance.accuracy"][0], {}, two)
    seen = 0
    for old, later in both:
        if later.name != "accuracy":
            continue
        method, statistics = difference("performance.accuracy", old, later, pair)
        rows = members(data, later.group)
        counts = [
            int((rows & (base.correct == a) & (new.correct == b)).sum())
            for a, b in ((True, True), (True, False), (False, True), (False, False))
        ]
        assert method == "paired_proportions"
        assert list(statistics.values()) == counts
        assert METHODS[method](statistics, 0.95)[0] == pytest.approx(later.value - old.value)
        seen += 1
    assert seen == 8


def test_balanced_accuracy_is_the_mean_of_both_recalls(two):
    both, pair = pairs(MEASURED["performance.accuracy"][0], {}, two)
    old, later = next(item for item in both if item[0].name == "balanced_accuracy")
    method, statistics = difference("performance.accuracy", old, later, pair)
    assert METHODS[method](statistics, 0.95)[0] == pytest.approx(later.value - old.value)


def rate_of(name, labels, decided):
    """Each rate from its definition, row by row."""
    chosen, wanted = decided == 1, labels == 1
    right = {
        "selection_rate": (chosen, np.ones(len(labels), dtype=bool)),
        "true_positive_rate": (chosen & wanted, wanted),
        "false_positive_rate": (chosen & ~wanted, ~wanted),
        "positive_predictive_value": (chosen & wanted, chosen),
    }[name]
    return right[0].sum() / right[1].sum() if right[1].sum() else np.nan


@pytest.mark.parametrize(
    "name",
    [
        "selection_rate_ratio",
        "true_positive_rate_difference",
        "positive_predictive_value",
        "demographic_parity_difference",
        "equalized_odds_difference",
    ],
)
def test_the_draws_are_those_of_a_bootstrap_over_rows(two, name):
    data, base, new = two
    both, pair = pairs(MEASURED["fairness.groups"][0], {"depth": 1}, two)
    old, later = next(item for item in both if item[1].name == name and item[1].value is not None)
    method, statistics = difference("fairness.groups", old, later, pair)
    feature = next(iter(later.group), later.settings.get("feature"))
    codes, names = data.sensitive[feature].codes, data.sensitive[feature].groups
    random = np.random.default_rng(0)

    def number(rows, one):
        labels, decided = data.labels[rows], one.predicted[rows]
        of = {g: codes[rows] == k for k, g in enumerate(names)}
        if name == "positive_predictive_value":
            kept = of[later.group[feature]]
            return rate_of(name, labels[kept], decided[kept])
        rates = {
            "demographic_parity_difference": ["selection_rate"],
            "equalized_odds_difference": ["true_positive_rate", "false_positive_rate"],
        }.get(name, [name.rpartition("_")[0]])
        values = [[rate_of(rate, labels[of[g]], decided[of[g]]) for g in names] for rate in rates]
        if not later.group:
            return max(max(v) - min(v) for v in values)
        mine, other = (values[0][names.index(g)] for g in (later.group[feature], later.settings["reference"]))
        return min(mine / other, other / mine) if name.endswith("ratio") else abs(mine - other)

    everyone = np.arange(ROWS)
    assert method == "paired_bootstrap"
    assert statistics["value"] == pytest.approx(number(everyone, new) - number(everyone, base))
    drawn = []
    for _ in range(600):
        rows = random.integers(0, ROWS, ROWS)
        drawn.append(number(rows, new) - number(rows, base))
    assert statistics["spread"] == pytest.approx(np.nanstd(drawn), rel=0.15)


def test_a_reference_that_changed_sides_is_as_near_as_it_was(two):
    both, pair = pairs(MEASURED["fairness.groups"][0], {"depth": 1}, two)
    old, later = next(
        item for item in both if item[1].name == "selection_rate_ratio" and item[1].group.get("sex")
    )
    there = difference("fairness.groups", old, later, pair)
    mine, other = later.group["sex"], later.settings["reference"]
    swapped = replace(later, group={"sex": other}, settings={"reference": mine}, value=1 / later.value)
    assert difference("fairness.groups", old, swapped, pair)[1]["value"] == pytest.approx(there[1]["value"])


def test_one_class_against_the_rest_is_found_by_its_name(two):
    data, base, new = two
    data = replace(data, favourable=None)
    both, pair = pairs(MEASURED["fairness.groups"][0], {"depth": 1, "classes": ["no"]}, (data, base, new))
    old, later = next(item for item in both if item[1].name == "true_positive_rate")
    _, statistics = difference("fairness.groups", old, later, pair)
    rows = members(data, later.group) & (data.labels == 0)
    assert statistics["base_only"] == int((rows & (base.predicted == 0) & (new.predicted != 0)).sum())


def auc_by_hand(scores, labels):
    gaps = scores[labels == 1][:, None] - scores[labels == 0][None]
    return ((gaps > 0) + (gaps == 0) / 2).mean()


def test_areas_and_squared_errors_by_hand(two):
    data, base, new = two
    both, pair = pairs(CALIBRATED["fairness.calibration"][0], CALIBRATED["fairness.calibration"][1], two)
    odds = [one.scores[:, 1].astype(float) - one.scores[:, 0] for one in (base, new)]
    seen = set()
    for old, later in both:
        found = difference("fairness.calibration", old, later, pair)
        if later.name not in ("auc", "brier") or later.value is None or found is None:
            continue
        rows = members(data, later.group)
        method, statistics = found
        value, low, high = METHODS[method](statistics, 0.95)
        if later.name == "auc":
            areas = [auc_by_hand(one[rows], data.labels[rows]) for one in odds]
            assert value == pytest.approx(areas[1] - areas[0], abs=1e-6)
        else:
            losses = [(1 / (1 + np.exp(-one[rows])) - data.labels[rows]) ** 2 for one in odds]
            assert value == pytest.approx(losses[1].mean() - losses[0].mean(), abs=1e-6)
        assert low < value < high
        seen.add(later.name)
    assert seen == {"auc", "brier"}


def test_the_width_of_an_area_is_that_of_a_bootstrap_over_rows(two):
    data, base, new = two
    both, pair = pairs(CALIBRATED["fairness.calibration"][0], CALIBRATED["fairness.calibration"][1], two)
    old, later = next(item for item in both if item[1].name == "auc" and not item[1].group)
    _, low, high = METHODS["paired_auc"](difference("fairness.calibration", old, later, pair)[1], 0.95)
    odds = [one.scores[:, 1].astype(float) - one.scores[:, 0] for one in (base, new)]
    random, drawn = np.random.default_rng(1), []
    for _ in range(250):
        rows = random.integers(0, ROWS, ROWS)
        areas = [auc_by_hand(one[rows], data.labels[rows]) for one in odds]
        drawn.append(areas[1] - areas[0])
    assert (high - low) / (2 * 1.96) == pytest.approx(np.std(drawn), rel=0.15)


def binned_error(promised, came_true, edges):
    total = 0.0
    for low, high in pairwise(edges):
        rows = (promised >= low) & (promised < high)
        total += abs(came_true[rows].sum() - promised[rows].sum())
    return total / len(promised)


def test_a_calibration_error_is_drawn_row_by_row_over_fixed_bins(two):
    data, base, new = two
    check = CALIBRATED["fairness.calibration"]
    both, pair = pairs(check[0], {**check[1], "curve": 5}, two)
    old, later = next(item for item in both if item[1].name == "ece" and not item[1].group)
    method, statistics = difference("fairness.calibration", old, later, pair)
    assert method == "paired_bootstrap"
    assert statistics["value"] == pytest.approx(later.value - old.value)
    promised = [1 / (1 + np.exp(-(one.scores[:, 1].astype(float) - one.scores[:, 0]))) for one in (base, new)]
    random, drawn = np.random.default_rng(2), []
    bins = [np.argsort(np.argsort(one)) * 5 // ROWS for one in promised]
    means = [
        np.array([one[place == k].mean() for k in range(5)])
        for one, place in zip(promised, bins, strict=True)
    ]
    for _ in range(500):
        rows = random.integers(0, ROWS, ROWS)
        errors = [
            sum(
                abs((data.labels[rows] - mean[place[rows]])[place[rows] == k].sum())
                for k in range(5)
            ) / ROWS
            for mean, place in zip(means, bins, strict=True)
        ]  # fmt: skip
        drawn.append(errors[1] - errors[0])
    assert statistics["spread"] == pytest.approx(np.std(drawn), rel=0.15)


def test_confidence_against_accuracy_is_compared_on_the_same_rows(two):
    data, base, new = two
    given = {"draws": 200, "floor": 50}
    found = []
    for one in (base, new):
        evidence = calibration.measure(
            model=None, data=replace(data, modality="series"), predictions=one, seed=0,
            **calibration.settings(given),
        )  # fmt: skip
        found.append(next(m for m in evidence.measures if m.name == "expected_calibration_error"))
    pair = Pair(answers(data, base), answers(data, new), calibration.settings(given))
    method, statistics = difference("reliability.calibration", found[0], found[1], pair)
    assert method == "paired_bootstrap"
    assert statistics["value"] == pytest.approx(found[1].value - found[0].value, abs=1e-4)


def attack(rows, correct, fooled):
    none = np.zeros(len(rows), dtype=bool)
    parts = {
        "zero": none,
        "nan": none,
        "late": 0,
        "rejected": {},
        "kept": rows[:0],
        "examples": np.zeros((0, 1)),
    }
    at = tuple(AtEpsilon(epsilon=e, fooled=np.asarray(f) & correct, **parts) for e, f in fooled.items())
    return AttackResult(method="m", rows=rows, correct=correct, at=at, walked=True)


def test_attacked_rows_are_compared_at_each_radius_and_by_group():
    random, data = np.random.default_rng(5), people(400, seed=5)
    rows = np.sort(random.choice(400, 250, replace=False))
    results = []
    for share in (0.3, 0.5):
        correct = random.random(250) < 0.9
        results.append(attack(rows, correct, {0.1: random.random(250) < share}))
    pair = Pair(*(attacked(data, one) for one in results))
    found = [
        [m for group, kept in _groups(one, data) for m in _measures(one, [], [0.1], group, kept)]
        for one in results
    ]
    methods = set()
    for old, later in zip(*found, strict=True):
        method, statistics = difference("robustness.pgd", old, later, pair)
        methods.add((later.name, method))
        if method == "paired_proportions":
            kept = members(data, later.group)[rows]
            hits = [one.robust(0.1) if later.name == "robust_accuracy" else one.correct for one in results]
            assert statistics["base_only"] == int((kept & hits[0] & ~hits[1]).sum())
        elif method == "paired_bootstrap":
            assert statistics["value"] == pytest.approx(later.value - old.value)
    assert ("robust_accuracy", "paired_proportions") in methods
    assert ("attack_success_rate", "paired_bootstrap") in methods


def test_rows_that_do_not_give_the_recorded_number_are_not_used(two):
    both, pair = pairs(MEASURED["performance.accuracy"][0], {}, two)
    old, later = both[0]
    wrong = replace(old, statistics={**old.statistics, "x": old.statistics["x"] + 1})
    assert difference("performance.accuracy", wrong, later, pair) is None
    both, pair = pairs(MEASURED["fairness.groups"][0], {"depth": 1}, two)
    old, later = next(item for item in both if item[1].name == "selection_rate_difference")
    assert difference("fairness.groups", replace(old, value=old.value + 0.01), later, pair) is None


def test_a_handful_of_rows_is_not_trusted_to_a_bootstrap():
    data = people(400, seed=8)
    right = np.ones(400, dtype=bool)
    right[::5] = False
    few = right.copy()
    few[np.flatnonzero(data.sensitive["sex"].codes == 0)[: FEWEST - 1]] ^= True
    both, pair = pairs(
        MEASURED["fairness.groups"][0], {"depth": 1}, (data, answered(data, right), answered(data, few))
    )
    few_enough = {("two_intervals", FEWEST - 1), ("two_intervals", 0)}
    for name, group in product(("selection_rate_ratio", "positive_predictive_value"), ("f", "m")):
        for old, later in both:
            if later.name == name and later.group == {"sex": group}:
                method, statistics = difference("fairness.groups", old, later, pair)
                differ = statistics.get("differ")
                assert (method, differ) in {*few_enough, ("paired_proportions", None)}


@pytest.mark.parametrize("check", ["interpretability.lime", "performance.accuracy"])
def test_what_no_recipe_knows_is_left_to_the_records(two, check):
    both, pair = pairs(MEASURED["performance.accuracy"][0], {}, two)
    old, later = (replace(item, name="something") for item in both[0])
    assert difference(check, old, later, pair) is None


def test_scores_that_are_not_numbers_are_left_to_the_records(two):
    data, base, _ = two
    scores = base.scores.copy()
    scores[0, 1] = np.inf
    both, pair = pairs(CALIBRATED["fairness.calibration"][0], CALIBRATED["fairness.calibration"][1], two)
    old, later = next(item for item in both if item[1].name == "auc")
    broken = replace(base, scores=scores, finite=np.isfinite(scores).all(axis=1))
    assert difference("fairness.calibration", old, later, replace(pair, new=answers(data, broken))) is None
