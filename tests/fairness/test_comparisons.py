import numpy as np
import pytest

from audit.fairness.cells import Cells
from audit.fairness.comparisons import COMPARED, LARGEST, comparisons, error_ratios, largest, named, pairs
from audit.policy import Limit, Verdict, judge_measures
from audit.stats import bonferroni, koopman_exact, newcombe, odds, odds_difference

EVERY = (
    *(f"{rate}_{kind}" for rate in COMPARED for kind in ("ratio", "difference")),
    "treatment_equality_difference",
)


def cells(*rows, groups=None, floor=10):
    """Rows of (tn, fp, fn, tp)."""
    groups = groups or tuple({"g": name} for name in "abcdefg"[: len(rows)])
    return Cells("g", groups, np.array(rows).reshape(-1, 2, 2), floor)


THREE = cells((30, 10, 20, 40), (50, 10, 30, 10), (5, 15, 10, 120))


# The best of three groups was picked by the data: two comparisons stand for all three pairs.
PAID = bonferroni(0.95, 2)


def by_name(measures, name):
    return {tuple(m.group.values()): m for m in measures if m.name == name}


def test_values_and_intervals_are_those_of_the_counts():
    found = comparisons(THREE, "best", EVERY)
    a = by_name(found, "true_positive_rate_difference")["a",]
    assert a.value == pytest.approx(40 / 60 - 120 / 130)
    assert (a.value, a.low, a.high) == newcombe({"x1": 40, "n1": 60, "x0": 120, "n0": 130}, PAID)
    b = by_name(found, "positive_predictive_value_ratio")["b",]
    assert (b.value, b.low, b.high) == koopman_exact({"x1": 10, "n1": 20, "x0": 120, "n0": 135}, PAID)
    assert by_name(found, "treatment_equality_difference")["b",].value == pytest.approx(30 / 10 - 10 / 15)
    assert {m.settings["reference"] for m in found} == {"c"}
    assert len(found) == 2 * len(EVERY)


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("best", {("a", "c"), ("b", "c")}),
        ("a", {("b", "a"), ("c", "a")}),
        (["b"], {("a", "b"), ("c", "b")}),
        ("all", {("a", "c"), ("b", "c"), ("b", "a")}),
        ("nobody", {("a", "c"), ("b", "c")}),
    ],
)
def test_the_reference(reference, expected):
    found = pairs(THREE, reference)
    assert {(THREE.label(p.group), THREE.label(p.base)) for p in found} == expected
    assert len(found) == len(expected)


def test_the_largest_group_may_be_the_reference():
    item = cells((50, 50, 0, 0), (0, 20, 0, 0))
    assert [(p.group, p.base) for p in pairs(item, "largest")] == [(1, 0)]
    assert [(p.group, p.base) for p in pairs(item, "best")] == [(0, 1)]


def test_all_pairs_of_seven_groups_are_each_made_once():
    item = cells(*[(10 + g, 20, 5, 30 - g) for g in range(7)])
    found = pairs(item, "all")
    assert len({frozenset((p.group, p.base)) for p in found}) == len(found) == 21
    ratios = comparisons(item, "all", ("selection_rate_ratio",))
    assert all(m.value <= 1 for m in ratios)


def test_a_list_of_names_finds_its_intersection():
    groups = tuple({"sex": s, "race": r} for s in ("F", "M") for r in ("A", "B"))
    item = cells(*[(10, 10, 10, 10)] * 4, groups=groups)
    assert named(item, ["M", "A"]) == [2]
    assert named(item, "M, A") == [2]
    assert named(item, "M") == []


def test_a_reference_below_the_floor_compares_nothing_and_says_why():
    found = comparisons(cells((1, 1, 0, 1), (9, 9, 9, 9), (9, 9, 9, 9)), "a", ("selection_rate_ratio",))
    assert [m.value for m in found] == [None] * 3
    assert found[-1].reason == "the reference group a has 3 rows, fewer than 10"


@pytest.mark.parametrize(
    ("rows", "name", "reason"),
    [
        (((20, 9, 0, 0), (10, 10, 10, 20)), "true_positive_rate_ratio",
         "the group has no true positive rate: 0 of 0"),
        (((10, 1, 10, 20), (0, 60, 0, 0)), "true_positive_rate_difference",
         "the reference group has no true positive rate: 0 of 0"),
        (((10, 1, 10, 20), (10, 0, 0, 30)), "false_positive_rate_ratio",
         "the false positive rate of the reference group is 0 of 10"),
        (((20, 0, 20, 0), (20, 0, 20, 0)), "selection_rate_ratio",
         "nobody in the reference group was selected"),
        (((20, 5, 3, 9), (5, 0, 4, 90)), "treatment_equality_difference",
         "the reference group has 4 false negatives and 0 false positives"),
        (((20, 0, 0, 9), (5, 2, 4, 90)), "treatment_equality_difference",
         "the group has 0 false negatives and 0 false positives"),
    ],
)  # fmt: skip
def test_what_has_no_denominator_is_undefined_with_its_counts(rows, name, reason):
    (found,) = comparisons(cells(*rows), "best", (name,))
    assert (found.value, found.low, found.high) == (None, None, None)
    assert reason in found.reason


def test_an_undefined_rate_reaches_no_largest_difference():
    """jurity answers a count, aequitas 10, smclarify 0 for such groups; here they take no part."""
    item = cells((20, 20, 0, 0), (20, 10, 10, 10), (20, 10, 12, 8))
    found = {m.name: m for m in largest(item, ("equal_opportunity_difference", "equalized_odds_difference"))}
    assert found["equal_opportunity_difference"].value == pytest.approx(0.1)
    assert found["equal_opportunity_difference"].statistics == {"x": [10, 8], "n": [20, 20]}
    assert found["equalized_odds_difference"].value == pytest.approx(0.5 - 1 / 3)


def test_predictive_parity_is_the_largest_difference_of_predictive_values():
    (found,) = largest(THREE, ("predictive_parity_difference",))
    assert found.value == pytest.approx(120 / 135 - 10 / 20)
    assert found.settings == {"feature": "g"}


def test_every_rate_is_compared_as_a_ratio_and_a_difference_of_its_textbook_values():
    """Rows are (tn, fp, fn, tp): (30, 10, 20, 40) against the most selected (5, 15, 10, 120)."""
    a = {"selection_rate": 50 / 100, "base_rate": 60 / 100, "accuracy": 70 / 100,
         "true_positive_rate": 40 / 60, "false_positive_rate": 10 / 40, "true_negative_rate": 30 / 40,
         "false_negative_rate": 20 / 60, "positive_predictive_value": 40 / 50,
         "negative_predictive_value": 30 / 50, "false_discovery_rate": 10 / 50,
         "false_omission_rate": 20 / 50}  # fmt: skip
    c = {"selection_rate": 135 / 150, "base_rate": 130 / 150, "accuracy": 125 / 150,
         "true_positive_rate": 120 / 130, "false_positive_rate": 15 / 20, "true_negative_rate": 5 / 20,
         "false_negative_rate": 10 / 130, "positive_predictive_value": 120 / 135,
         "negative_predictive_value": 5 / 15, "false_discovery_rate": 15 / 135,
         "false_omission_rate": 10 / 15}  # fmt: skip
    found = comparisons(THREE, "best", EVERY)
    for rate, value in a.items():
        ratio, difference = (by_name(found, f"{rate}_{kind}")["a",] for kind in ("ratio", "difference"))
        assert ratio.value == pytest.approx(value / c[rate])
        assert difference.value == pytest.approx(value - c[rate])
        assert difference.low < difference.value < difference.high
    assert set(COMPARED) == set(a)


def test_the_other_largest_differences():
    found = {m.name: m for m in largest(THREE, tuple(LARGEST))}
    assert found["overall_accuracy_equality_difference"].value == pytest.approx(125 / 150 - 60 / 100)
    assert found["predictive_equality_difference"].value == pytest.approx(15 / 20 - 10 / 60)
    both = found["conditional_use_accuracy_equality_difference"]
    assert both.value == pytest.approx(max(120 / 135 - 10 / 20, 50 / 80 - 5 / 15))


FEW = cells((40, 40, 3, 1), (40, 30, 20, 20), (40, 30, 25, 30), (2, 2, 0, 0), (30, 9, 30, 9),
            groups=({"g": "a"}, {"g": "b"}, {"g": "c"}, {"g": "d"}, {"g": "unknown"}))  # fmt: skip


@pytest.mark.parametrize("name", ["true_positive_rate_ratio", "false_negative_rate_difference"])
def test_a_denominator_below_the_floor_is_shown_and_not_judged(name):
    """80 rows of group a are enough; the 4 of them with the favourable label are not."""
    found = by_name(comparisons(FEW, "b", EVERY), name)
    assert found["a",].value is not None
    rate = name.rsplit("_", 1)[0].replace("_", " ")
    x = 1 if "true" in name else 3
    assert found["a",].too_few == (
        f"the {rate} of a is {x} of 4 rows, fewer than the floor of 10: shown and not judged"
    )
    assert not found["c",].too_few
    assert not by_name(comparisons(FEW, "b", EVERY), "false_positive_rate_ratio")["a",].too_few
    against = by_name(comparisons(FEW, "a", EVERY), name)
    assert all(m.too_few for m in against.values() if m.value is not None)


def test_few_errors_are_no_ratio_of_errors():
    item = cells((40, 3, 4, 40), (40, 8, 9, 40))
    (found,) = comparisons(item, "b", ("treatment_equality_difference",))
    assert "of a is 4 of 7 rows, fewer than the floor of 10" in found.too_few
    few, enough = error_ratios(item)
    assert (few.value, bool(few.too_few), enough.too_few) == (4 / 3, True, "")


def test_a_largest_difference_leaves_out_what_is_below_the_floor_and_names_it():
    found = {m.name: m for m in largest(FEW, tuple(LARGEST))}
    opportunity = found["equal_opportunity_difference"]
    assert opportunity.statistics == {"x": [20, 30], "n": [40, 55]}
    assert opportunity.left_out == "a (4 rows); d (0 rows); unknown (39 rows)"
    assert found["demographic_parity_difference"].left_out == "d (4 rows); unknown (78 rows)"
    assert "a (4 rows for the true positive rate)" in found["equalized_odds_difference"].left_out
    assert "d (4 rows for the false positive rate)" in found["equalized_odds_difference"].left_out
    (clean,) = largest(THREE, ("demographic_parity_difference",))
    assert clean.left_out == ""


def test_a_verdict_on_a_largest_difference_names_who_was_left_out():
    asked = Limit(check="c", measure="equal_opportunity_difference", at_most=0.9)
    (judgement,) = judge_measures(largest(FEW, tuple(LARGEST)), [asked], 0.95)
    assert judgement.verdict is Verdict.PASS
    assert judgement.reason.endswith("left out: a (4 rows); d (0 rows); unknown (39 rows)")


def test_error_ratios_and_their_intervals():
    found = {m.group["g"]: m for m in error_ratios(cells((9, 4, 8, 9), (9, 0, 0, 9), (9, 0, 3, 9)))}
    assert found["a"].value == 2.0
    assert found["a"].low < 2.0 < found["a"].high
    assert found["b"].value is None
    assert "0 false negatives and 0 false positives" in found["b"].reason
    assert found["c"].value is None


def test_the_interval_of_an_odds_covers_as_often_as_it_says():
    random = np.random.default_rng(3)
    x1, x0 = random.binomial(120, 0.6, 600), random.binomial(150, 0.45, 600)
    ratio, difference = 0.6 / 0.4, 0.6 / 0.4 - 0.45 / 0.55
    held, apart = 0, 0
    for a, b in zip(x1, x0, strict=True):
        _, low, high = odds({"x": a, "y": 120 - a}, 0.9)
        held += low <= ratio <= high
        _, low, high = odds_difference({"x1": a, "y1": 120 - a, "x0": b, "y0": 150 - b}, 0.9)
        apart += low <= difference <= high
    assert 0.86 <= held / 600 <= 0.94
    assert 0.86 <= apart / 600 <= 0.94
