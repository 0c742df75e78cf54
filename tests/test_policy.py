import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.evidence import Measure
from audit.policy import Limit, Verdict, judge_measures
from audit.stats import interval_at, measure, proportion


def limit(**fields):
    return Limit(check="c", measure="m", **fields)


def only(measures, asked, level=0.95):
    (judgement,) = judge_measures(measures, [asked], level)
    return judgement


@pytest.mark.parametrize(
    ("x", "asked", "verdict"),
    [
        (95, {"at_least": 0.8}, Verdict.PASS),
        (60, {"at_least": 0.8}, Verdict.FAIL),
        (82, {"at_least": 0.8}, Verdict.INCONCLUSIVE),
        (5, {"at_most": 0.2}, Verdict.PASS),
        (40, {"at_most": 0.2}, Verdict.FAIL),
        (18, {"at_most": 0.2}, Verdict.INCONCLUSIVE),
        (50, {"at_least": 0.3, "at_most": 0.7}, Verdict.PASS),
        (90, {"at_least": 0.3, "at_most": 0.7}, Verdict.FAIL),
        (65, {"at_least": 0.3, "at_most": 0.7}, Verdict.INCONCLUSIVE),
    ],
)
def test_the_bound_decides_not_the_point(x, asked, verdict):
    assert only([proportion("m", x, 100)], limit(**asked)).verdict is verdict


def test_an_inconclusive_one_names_the_rows_that_would_settle_it():
    judgement = only([proportion("m", 82, 100)], limit(at_least=0.8))
    assert judgement.needed_n > 1000
    assert "spans the limit of 0.8" in judgement.reason


def test_undefined_is_not_evaluable_with_its_reason():
    judgement = only([proportion("m", 0, 0)], limit(at_least=0.8))
    assert judgement.verdict is Verdict.NOT_EVALUABLE
    assert judgement.reason == "0 of 0 rows: the denominator is 0"


def test_a_number_without_an_interval_is_not_evaluable():
    assert only([Measure(name="m", value=0.99)], limit(at_least=0.8)).verdict is Verdict.NOT_EVALUABLE


def test_nan_never_passes():
    item = Measure(name="m", value=float("nan"), low=0.9, high=1.0, level=0.95)
    assert only([item], limit(at_least=0.8)).verdict is Verdict.NOT_EVALUABLE


def test_an_unreliable_number_cannot_pass_but_can_fail():
    good = proportion("m", 99, 100, unreliable="gradients are zero")
    bad = proportion("m", 10, 100, unreliable="gradients are zero")
    assert only([good], limit(at_least=0.5)).verdict is Verdict.INCONCLUSIVE
    assert "gradients are zero" in only([good], limit(at_least=0.5)).reason
    assert only([good], limit(at_least=0.5)).needed_n is None
    assert only([bad], limit(at_least=0.5)).verdict is Verdict.FAIL


def test_a_number_of_too_few_rows_is_shown_and_never_judged():
    few = proportion("m", 4, 4, group={"g": "few"}, too_few="4 of 4 rows, fewer than the floor of 10")
    for asked in ({"at_least": 0.1}, {"at_most": 0.1}, {"at_least": 0.9}):
        judgement = only([few], limit(**asked))
        assert judgement.verdict is Verdict.NOT_EVALUABLE
        assert judgement.reason == "4 of 4 rows, fewer than the floor of 10"
        assert (judgement.value, judgement.needed_n) == (1.0, None)


def test_a_number_of_too_few_rows_is_no_comparison():
    few = proportion("m", 4, 4, group={"g": "few"}, too_few="4 rows")
    enough = proportion("m", 90, 100, group={"g": "enough"})
    judgements = judge_measures([few, enough], [limit(at_least=0.5)], 0.95)
    assert [j.comparisons for j in judgements] == [1, 1]
    assert judgements[1].level == pytest.approx(0.95)


@pytest.mark.parametrize("x", [0, 60, 81, 99])
def test_a_judgement_names_what_its_measure_leaves_out(x):
    judgement = only([proportion("m", x, 100, left_out="Other (4 rows)")], limit(at_least=0.8))
    assert judgement.reason.endswith("; left out: Other (4 rows)")


def test_a_limit_on_nothing_is_not_evaluable_and_says_what_there_is():
    judgement = only([proportion("accuracy", 9, 10)], limit(at_least=0.8))
    assert judgement.verdict is Verdict.NOT_EVALUABLE
    assert "it measured accuracy" in judgement.reason


def test_where_selects_by_setting_and_names_what_there_is():
    measures = [proportion("m", 90, 100, settings={"epsilon": e}) for e in (0.1, 0.2)]
    assert only(measures, limit(at_least=0.5, where={"epsilon": 0.2})).settings == {"epsilon": 0.2}
    missing = only(measures, limit(at_least=0.5, where={"epsilon": 0.3}))
    assert missing.verdict is Verdict.NOT_EVALUABLE
    assert "epsilon = 0.1; epsilon = 0.2" in missing.reason


def test_a_limit_speaks_of_the_whole_unless_told_otherwise():
    whole = proportion("m", 90, 100)
    female, male = (proportion("m", 80, 100, group={"sex": s}) for s in ("Female", "Male"))
    everything = [whole, female, male]
    assert only(everything, limit(at_least=0.5)).group == {}
    assert len(judge_measures(everything, [limit(at_least=0.5, group="each")], 0.95)) == 2
    assert only(everything, limit(at_least=0.5, group={"sex": "Male"})).group == {"sex": "Male"}
    assert len(judge_measures([female, male], [limit(at_least=0.5)], 0.95)) == 2


def test_the_family_shares_its_level():
    measures = [proportion("m", 90, 100, group={"g": str(i)}) for i in range(5)]
    judgements = judge_measures(measures, [limit(at_least=0.5)], 0.95)
    assert {j.comparisons for j in judgements} == {5}
    assert judgements[0].level == pytest.approx(0.99)
    assert (judgements[0].low, judgements[0].high) == interval_at(measures[0], judgements[0].level)


def test_an_undefined_measure_is_no_comparison():
    measures = [proportion("m", 90, 100, group={"g": "a"}), proportion("m", 0, 0, group={"g": "b"})]
    judgements = judge_measures(measures, [limit(at_least=0.5)], 0.95)
    assert [j.comparisons for j in judgements] == [1, 1]


@given(st.integers(0, 200), st.floats(0, 1))
def test_pass_and_fail_never_both_hold_and_follow_the_interval(x, asked):
    item = proportion("m", x, 200)
    verdict = only([item], limit(at_least=asked)).verdict
    assert (verdict is Verdict.PASS) == (item.low >= asked)
    assert (verdict is Verdict.FAIL) == (item.high < asked)


def test_a_limit_reads_as_a_sentence():
    asked = limit(at_least=0.4, where={"epsilon": 0.03}, group={"sex": "Female"})
    assert str(asked) == "m at least 0.4 where epsilon = 0.03 for sex = Female"


def test_what_is_settled_leaves_the_family():
    """Holm: nineteen clear passes are settled first; the last one then stands alone and is settled too."""
    clear = [proportion("m", 990, 1000, group={"g": str(i)}) for i in range(19)]
    narrow = proportion("m", 830, 1000, group={"g": "narrow"})
    assert interval_at(narrow, 1 - 0.05 / 20)[0] < 0.8 < interval_at(narrow, 0.95)[0]
    judgements = judge_measures([*clear, narrow], [limit(at_least=0.8)], 0.95)
    assert {j.verdict for j in judgements} == {Verdict.PASS}
    assert judgements[-1].level == pytest.approx(0.95)
    assert judgements[0].level == pytest.approx(1 - 0.05 / 20)


def test_the_family_makes_a_wrong_verdict_as_seldom_as_it_says():
    """Twenty values, each just beyond its limit: any PASS among them is wrong."""
    random = np.random.default_rng(8)
    wrong = 0
    for _ in range(300):
        measures = [
            proportion("m", int(random.binomial(400, 0.799)), 400, group={"g": str(i)}) for i in range(20)
        ]
        judgements = judge_measures(measures, [limit(at_least=0.8)], 0.95)
        wrong += any(j.verdict is Verdict.PASS for j in judgements)
    assert wrong / 300 <= 0.05


def moved(low_x, better="higher"):
    statistics = {"both": 500, "base_only": low_x, "new_only": 0, "neither": 0}
    return measure("m", "paired_proportions", statistics, better=better)


@pytest.mark.parametrize(
    ("better", "margin", "lost", "verdict"),
    [
        ("higher", 0.05, 3, Verdict.PASS),
        ("higher", 0.05, 60, Verdict.FAIL),
        ("higher", 0.0, 3, Verdict.INCONCLUSIVE),
        ("lower", 0.05, 60, Verdict.PASS),
        ("neither", 0.5, 0, Verdict.NOT_EVALUABLE),
    ],
)
def test_a_limit_on_change_asks_the_whole_interval_in_the_better_direction(better, margin, lost, verdict):
    asked = limit(no_worse_than="baseline", margin=margin)
    (judged,) = judge_measures([proportion("m", 5, 10)], [asked], 0.95, [moved(lost, better)])
    assert judged.verdict is verdict, judged.reason


def test_a_limit_on_change_without_a_baseline_is_not_evaluable_and_may_be_relaxed():
    asked = limit(no_worse_than="baseline", at_least=0.1)
    level, change = judge_measures([proportion("m", 9, 10)], [asked], 0.95)
    assert (level.verdict, change.verdict) == (Verdict.PASS, Verdict.NOT_EVALUABLE)
    assert change.matched
    assert "--baseline RUN" in change.reason
    (_, nothing) = judge_measures([proportion("m", 9, 10)], [asked], 0.95, [])
    assert (nothing.verdict, nothing.matched) == (Verdict.NOT_EVALUABLE, False)


def test_changes_and_levels_share_one_family():
    asked = limit(no_worse_than="baseline", at_least=0.1)
    judged = judge_measures([proportion("m", 90, 100)], [asked], 0.95, [moved(3)])
    assert {item.comparisons for item in judged} == {2}
