"""The rule: every way to each conclusion, taken on the ends of intervals."""

from itertools import product

import pytest

from audit.evidence import Measure
from audit.trust.rule import GRADES, RULE, Trial, card, no_explanation


def number(low, high, value=None):
    middle = (low + high) / 2 if value is None else value
    return Measure(name="x", value=middle, low=low, high=high, level=0.95)


NONE = Measure(name="x", value=None, reason="0 of 4 rows")
ABOVE, ACROSS, BELOW = number(0.6, 0.9), number(-0.2, 0.95), number(-0.9, -0.6)


def trials(
    mean=ABOVE, blur=ABOVE, control=ABOVE, random=BELOW, seeds=ABOVE, signs=BELOW, nearby=ABOVE, strange=BELOW
):
    return [
        Trial(name="random, mean", measure=mean, weight="faithful", bound=0, needed=True),
        Trial(name="random, blur", measure=blur, weight="faithful", bound=0, needed=True),
        Trial(name="control", measure=control, weight="weakens", bound=0, needed=True),
        Trial(name="weights", measure=random, weight="decides", bound=0.7, above=False, needed=True),
        Trial(name="seeds", measure=seeds, weight="decides", bound=0.5, needed=True),
        Trial(name="signs", measure=signs, weight="decides", bound=0.25, above=False, needed=True),
        Trial(name="nearby", measure=nearby, weight="weakens", bound=0.5),
        Trial(name="strange", measure=strange, weight="decides", bound=0.1, above=False),
        Trial(name="told", measure=BELOW, weight="told"),
    ]


def test_everything_shown_is_supported():
    found = card("lime", trials(), (3, 4))
    assert (found.conclusion, found.passes) == ("supported", (3, 4))
    assert len(found.tests) == 9


@pytest.mark.parametrize(("mean", "blur"), list(product((ABOVE, ACROSS, BELOW, NONE, None), repeat=2)))
def test_neither_fill_is_not_supported_and_one_is_weak(mean, blur):
    expected = {2: "supported", 1: "weak", 0: "not supported"}[(mean is ABOVE) + (blur is ABOVE)]
    assert card("lime", trials(mean=mean, blur=blur)).conclusion == expected


@pytest.mark.parametrize("change", [
    {"random": number(0.7, 0.9)}, {"seeds": number(0.1, 0.5)}, {"signs": number(0.25, 0.6)},
    {"strange": number(0.1, 0.3)},
])  # fmt: skip
def test_what_decides_makes_it_not_supported_once_it_is_shown(change):
    found = card("lime", trials(**change))
    assert found.conclusion == "not supported"
    assert len(found.why) == 1
    (name,) = change
    assert found.why[0].startswith({"random": "weights"}.get(name, name))


@pytest.mark.parametrize("change", [
    {"random": ACROSS}, {"random": NONE}, {"random": None}, {"seeds": ACROSS}, {"seeds": None},
    {"signs": ACROSS}, {"signs": None},
    {"control": ACROSS}, {"control": BELOW}, {"nearby": BELOW},
])  # fmt: skip
def test_what_is_not_shown_is_weak(change):
    assert card("lime", trials(**change)).conclusion == "weak"


@pytest.mark.parametrize(
    "change", [{"nearby": ACROSS}, {"nearby": None}, {"strange": ACROSS}, {"strange": None}]
)
def test_a_warning_that_was_not_shown_changes_nothing(change):
    assert card("lime", trials(**change)).conclusion == "supported"


def test_without_curves_there_is_no_support():
    assert (
        card("lime", [test for test in trials() if test.weight != "faithful"]).conclusion == "not supported"
    )


@pytest.mark.parametrize(("item", "above", "outcome"), [
    (number(0.1, 0.2), True, "held"), (number(0, 0.2), True, "undecided"),
    (number(-0.2, 0), True, "failed"), (number(-0.2, -0.1), False, "held"),
    (number(-0.2, 0), False, "undecided"), (number(0, 1), False, "failed"),
    (NONE, True, "not tested"), (None, True, "not tested"),
    (Measure(name="x", value=0.3), True, "undecided"),
])  # fmt: skip
def test_outcomes_are_told_by_the_ends_alone(item, above, outcome):
    assert Trial(name="t", measure=item, weight="weakens", bound=0, above=above).outcome == outcome


def test_reasons_name_the_number_its_interval_and_what_was_asked():
    (why,) = card("lime", trials(control=number(-0.1, 0.3))).why
    assert why == "control: 0.10 (-0.10 to 0.30), asked above 0"
    (why,) = card("lime", trials(random=None)).why
    assert why.startswith("weights: not tested")
    (why,) = card("lime", trials(seeds=Measure(name="x", value=0.4))).why
    assert "no interval" in why


def test_grades_and_words():
    assert no_explanation("lime", "why").conclusion == "no explanation"
    assert GRADES == {"supported": 1, "weak": 0.5, "not supported": 0}
    assert all(number in RULE for number in ("0.7", "0.5", "0.25", "0.1"))
