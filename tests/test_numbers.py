"""A printed number finds the row of its evidence, or none: never another one's."""

import math

from hypothesis import given
from hypothesis import strategies as st

from audit.evidence import Measure
from audit.numbers import Ways, groups_of, key_of, proofs_of, ways_of_row
from audit.record import Finding
from audit.stats import proportion

MEASURES = (
    proportion("selection_rate", 30, 120, group={"sex": "Female"}),
    proportion("selection_rate", 50, 100, group={"sex": "Male"}),
    proportion("selection_rate", 10, 40, group={"sex": "Female", "race": "Black"}),
    Measure(name="impact_ratio", value=1, group={"sex": "Male"}),
    proportion("accuracy", 17, 23),
    Measure(name="undefined", value=None, reason="nobody"),
)
FINDING = Finding(check="f.g", version="1", title="G", status="measured", measures=MEASURES)
PROOFS = proofs_of(FINDING.measures, "finding-f-g", 100)
WAYS = Ways(PROOFS)


def test_rows_stand_in_the_order_of_the_record_and_what_was_judged_first() -> None:
    assert [proof.anchor for proof in PROOFS] == [f"n{i}-finding-f-g" for i in range(1, 7)]
    first = [key_of(MEASURES[4].name, MEASURES[4]), key_of(MEASURES[1].name, MEASURES[1])]
    few = proofs_of(FINDING.measures, "finding-f-g", 3, first)
    assert [proof.anchor for proof in few] == ["n5-finding-f-g", "n2-finding-f-g", "n1-finding-f-g"]
    assert {proof.anchor for proof in proofs_of(FINDING.measures, "", 9)} == {""}
    assert Ways(proofs_of(FINDING.measures, "", 9)).by_key == {}


def test_a_row_says_of_whom_from_which_counts_and_by_which_method() -> None:
    first, last = PROOFS[0], PROOFS[-1]
    assert (first.where, first.counts, first.method) == (
        "sex Female", "30 of 120", "Wilson score interval, 95 %",
    )  # fmt: skip
    assert (last.remark, last.method) == ("nobody", "")


def test_equal_numbers_are_told_apart_by_the_groups_beside_them() -> None:
    """0.25 is the rate of women and of black women: the texts of the row decide."""
    columns = ("sex", "race", "people", "chosen", "selection rate")
    found = ways_of_row(WAYS, columns, ["Female", "Black", 40, 10, 0.25])
    assert found == ["", "", "n3-finding-f-g", "n3-finding-f-g", "n3-finding-f-g"]
    assert ways_of_row(WAYS, columns[:1] + columns[2:], ["Female", 120, 30, 0.25]) == [
        "", "n1-finding-f-g", "n1-finding-f-g", "n1-finding-f-g",
    ]  # fmt: skip
    assert WAYS.to(17 / 23) == "n5-finding-f-g"


def test_where_no_row_is_sure_a_number_leads_nowhere() -> None:
    assert WAYS.to(0.25) == ""
    assert WAYS.to(0.25, ["Male"]) == ""
    assert WAYS.to(1, ["Male"], "note") == ""
    assert WAYS.to(1, ["Male"], "impact ratio") == "n4-finding-f-g"
    assert WAYS.to(23) == "", "a count without a group may count anything"
    for value in (None, True, "0.25", math.nan, math.inf, -math.inf, 10**400, 0.25001):
        assert WAYS.to(value, ["Female"]) == ""


@given(st.one_of(st.integers(), st.floats(), st.text(), st.none()), st.lists(st.text(max_size=3), max_size=3))
def test_whatever_is_printed_a_way_leads_to_a_row(value: object, texts: list[str]) -> None:
    assert WAYS.to(value, texts) in {"", *(proof.anchor for proof in PROOFS)}


def test_groups_are_listed_once_each_on_one_line_and_not_beyond_their_number() -> None:
    assert groups_of(MEASURES, 9) == ["sex: Female", "sex: Male", "race: Black"]
    assert groups_of(MEASURES, 2) == ["sex: Female", "sex: Male"]
    spread = [proportion("a", 1, 2, group={"a_b": "two\nlines " + "x" * 99})]
    assert groups_of(spread, 9) == ["a b: " + ("two lines " + "x" * 99)[:60]]
    assert groups_of([], 9) == []
