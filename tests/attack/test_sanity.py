"""The rules of the verdict: each threshold restated, and the verdict by the worst of the checks."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.attack import sanity
from audit.attack.result import AtEpsilon, AttackResult
from audit.attack.sanity import CAUTION, DO_NOT_RELY, RULES, TRUST, Looked


def entry(epsilon, fooled, rejected=None):
    none = np.zeros(len(fooled), dtype=bool)
    return AtEpsilon(
        epsilon=epsilon,
        fooled=np.array(fooled, dtype=bool),
        zero=none,
        nan=none,
        late=0,
        rejected=rejected or {},
        kept=np.zeros(0, np.int64),
        examples=np.zeros((0, 1), np.float32),
    )


def attack(fooled, rows=100, rejected=None, first=0):
    """An attack on `rows` rows that fools `fooled` of them, from row `first` on."""
    hit = [first <= row < first + fooled for row in range(rows)]
    return AttackResult(
        method="pgd",
        rows=np.arange(rows),
        correct=np.ones(rows, dtype=bool),
        at=(entry(0.1, hit, rejected),),
        walked=True,
    )


def with_result(result):
    return Looked(name="x", result=result, counted="", rule="")


@pytest.mark.parametrize(
    ("name", "rows", "of", "result"),
    [
        (sanity.ZERO, 1, 100, "held"),
        (sanity.ZERO, 2, 100, "failed"),
        (sanity.ZERO, 10, 100, "failed"),
        (sanity.ZERO, 11, 100, "serious"),
        (sanity.FINITE, 11, 100, "serious"),
        (sanity.DIFFERENCE, 10, 100, "held"),
        (sanity.DIFFERENCE, 50, 100, "failed"),
        (sanity.DIFFERENCE, 51, 100, "serious"),
        (sanity.REPEATABLE, 0, 100, "held"),
        (sanity.REPEATABLE, 1, 100, "failed"),
        (sanity.REPEATABLE, 100, 100, "failed"),
        (sanity.IDENTITY, 1, 100, "serious"),
        (sanity.INSIDE, 1, 1000, "serious"),
        (sanity.MARGIN, 1, 20, "held"),
        (sanity.MARGIN, 2, 20, "failed"),
        (sanity.MARGIN, 3, 20, "serious"),
        (sanity.MARGIN, -30, 100, "held"),
        (sanity.LATE, 100, 100, "failed"),
        (sanity.STEPS, 5, 100, "held"),
        (sanity.STEPS, 20, 100, "failed"),
        (sanity.STEPS, 21, 100, "serious"),
    ],
)
def test_a_count_is_held_against_its_rule(name, rows, of, result):
    found = sanity.look(name, rows, of, "counted")
    assert found.result == result
    assert found.counted == "counted"


def test_the_rule_is_printed_as_it_is_applied():
    assert RULES[sanity.ZERO].text == (
        "rows whose gradient is zero: fails above 1 row or 1 % of them, seriously above 1 row or 10 % of them"
    )
    assert RULES[sanity.LATE].text.endswith("fails above 1 row or 10 % of them")
    assert RULES[sanity.IDENTITY].text == "rows that changed their class: seriously wrong above 0"


@given(st.sampled_from(sorted(RULES)), st.integers(0, 500), st.integers(1, 500))
def test_more_rows_against_the_attack_never_make_it_better(name, rows, of):
    order = ("held", "failed", "serious")
    here, more = (order.index(sanity.look(name, count, of, "").result) for count in (rows, rows + 1))
    assert more >= here
    rule = RULES[name]
    if rule.serious is not None and rows > max(1, rule.serious * of):
        assert here == 2


@pytest.mark.parametrize("found", list(product(("held", "failed", "serious", "nothing to test"), repeat=2)))
def test_the_worst_check_decides(found):
    grade = sanity.grade([with_result(result) for result in found])
    assert grade == (DO_NOT_RELY if "serious" in found else CAUTION if "failed" in found else TRUST)
    assert sanity.GRADES[grade] in sanity.VERDICT_RULE


def test_another_attack_is_compared_on_the_same_rows():
    found = sanity.against(sanity.MARGIN, attack(40), attack(45, first=2), 0.1)
    assert found.result == "failed"
    assert found.counted == "45 of 100 rows fooled, 40 by the attack; 7 by the other alone"
    assert sanity.against(sanity.MARGIN, attack(40), attack(42), 0.1).result == "held"
    assert sanity.against(sanity.MARGIN, attack(40), attack(51), 0.1).result == "serious"


def test_what_a_fresh_pass_took_away_is_no_lead_of_another_attack():
    lost = attack(40, rejected={"outside epsilon": 50, "not misclassified in a fresh pass": 9})
    assert sanity.against(sanity.NOISE, lost, attack(51), 0.1).result == "held"
    assert sanity.rejected(lost.at, outside=False) == 9
    assert sanity.rejected(lost.at, outside=True) == 50


@pytest.mark.parametrize(
    ("fooled", "result"),
    [
        ((1, 5, 9), "held"),
        ((5, 5, 5), "held"),
        ((9, 8, 9), "held"),
        ((9, 4, 9), "failed"),
        ((30, 40, 10), "serious"),
    ],
)
def test_a_curve_that_falls_is_seen_against_its_highest_point(fooled, result):
    curve = list(zip((0.1, 0.2, 0.3), fooled, strict=True))
    found = sanity.monotone(curve, 100)
    assert found.result == result
    assert f"{fooled[1]} at 0.2" in found.counted


@pytest.mark.parametrize(
    ("found", "planted", "result"),
    [
        (64, 64, "held"),
        (63, 64, "held"),
        (62, 64, "failed"),
        (57, 64, "serious"),
        (0, 31, "failed"),
        (32, 32, "held"),
    ],
)
def test_all_but_one_of_64_must_be_found(found, planted, result):
    said = sanity.control(found, planted, 64, 2)
    assert said.result == result
    assert ("could be planted" in said.counted) is (planted < 32)


def test_too_few_rows_are_no_ground_for_trust():
    assert sanity.enough(19).result == "failed"
    assert sanity.enough(20).result == "held"


def test_a_random_model_explains_what_presumes_one_answer_and_nothing_else():
    both = [sanity.look(name, 90, 100, "") for name in (sanity.VERIFIED, sanity.ZERO)]
    assert [item.result for item in sanity.random_model(both)] == ["failed", "serious"]


def test_what_was_not_tested_neither_holds_nor_fails():
    item = sanity.untested(sanity.JUMP, "no labels alone")
    assert (item.result, item.counted) == ("nothing to test", "no labels alone")
    assert item.rule == RULES[sanity.JUMP].text


def test_a_curve_that_falls_step_by_step_is_held_against_its_highest_point():
    """Each step loses two rows of a hundred, which alone would hold; together it is ten."""
    curve = [(0.1 * step, 80 - 2 * step) for step in range(1, 7)]
    assert sanity.monotone(curve, 100).result == "failed"
    assert sanity.monotone(curve[:2], 100).result == "held"
