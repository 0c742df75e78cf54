"""Berkeley, 1973 (Bickel, Hammel and O'Connell, 1975): admitted and rejected in six departments."""

import numpy as np
import pytest

from audit.fairness.cells import Cells
from audit.fairness.controls import STRATIFIED, Strata, reversals, side_by_side, strata_table, stratified

MEN = {"A": (512, 313), "B": (353, 207), "C": (120, 205), "D": (138, 279), "E": (53, 138), "F": (22, 351)}
WOMEN = {"A": (89, 19), "B": (17, 8), "C": (202, 391), "D": (131, 244), "E": (94, 299), "F": (24, 317)}


def strata(men, women, floor=10):
    selected = np.array([[x for x, _ in group.values()] for group in (men, women)])
    rows = np.array([[x + y for x, y in group.values()] for group in (men, women)])
    table = np.zeros((2, 2, 2), int)
    table[:, 0, 1], table[:, 0, 0] = selected.sum(axis=1), (rows - selected).sum(axis=1)
    cells = Cells("sex", ({"sex": "Male"}, {"sex": "Female"}), table, floor)
    return Strata(cells, "department", tuple({"department": d} for d in men), selected, rows)


def test_the_berkeley_admissions_turn_round():
    item = strata(MEN, WOMEN)
    difference = {m.name: m for m in stratified(item, "best", STRATIFIED)}[STRATIFIED[1]]
    top = bottom = 0.0
    for (a, b), (c, e) in zip(WOMEN.values(), MEN.values(), strict=True):
        weight = (a + b) * (c + e) / (a + b + c + e)
        top += weight * (a / (a + b) - c / (c + e))
        bottom += weight
    assert difference.value == pytest.approx(top / bottom, abs=1e-12)
    assert difference.value > 0
    (sentence,) = reversals(item, "best")
    assert "Female are selected 0.142 less often than Male" in sentence
    assert "more" in sentence


def test_pooled_and_stratified_stand_side_by_side():
    table = side_by_side(strata(MEN, WOMEN), "best")
    (row,) = table.rows
    assert row[:2] == ["Female", "Male"]
    assert row[2] == pytest.approx((557 / 1835) / (1198 / 2691), abs=1e-12)
    assert row[4] < 0 < row[5]


def test_departments_that_agree_with_the_whole_are_not_flagged():
    fair = dict.fromkeys("ABCD", (30, 70))
    worse = dict.fromkeys("ABCD", (15, 85))
    assert reversals(strata(fair, worse), "best") == []


def test_noise_around_zero_is_not_flagged():
    """The signs differ, and neither difference is established."""
    item = strata({"A": (51, 50), "B": (30, 71)}, {"A": (45, 43), "B": (34, 80)})
    (_, _, pooled_ratio, within_ratio, pooled, within) = side_by_side(item, "best").rows[0]
    assert pooled < 0 < within
    assert pooled_ratio < 1 < within_ratio
    assert reversals(item, "best") == []


def test_a_difference_that_the_whole_hides_is_not_called_a_reversal():
    """90 of 200 each, and within both strata the second group is ahead: no sign turns."""
    item = strata({"A": (80, 20), "B": (10, 90)}, {"A": (45, 5), "B": (45, 105)})
    assert side_by_side(item, "best").rows[0][4] == 0.0
    assert reversals(item, "best") == []


def test_strata_that_hold_one_group_compare_nothing():
    item = strata({"A": (20, 20), "B": (0, 0)}, {"A": (0, 0), "B": (15, 25)})
    for found in stratified(item, "best", STRATIFIED):
        assert found.value is None
        assert found.reason == "no stratum holds rows of both groups"


def test_a_small_group_has_no_stratified_value_either():
    (found,) = [
        m for m in stratified(strata(MEN, dict.fromkeys("ABCDEF", (1, 0))), "best", STRATIFIED[:1])
        if m.group["sex"] == "Female"
    ]  # fmt: skip
    assert found.value is None
    assert "6 rows are fewer than the floor of 10" in found.reason


def test_rows_are_counted_only_in_strata_that_hold_both_groups():
    """200 women, of whom 12 stand in a department with men: those are the rows behind the value."""
    item = strata({"A": (20, 20), "B": (0, 0)}, {"A": (5, 7), "B": (100, 88)})
    for found in stratified(item, "Male", STRATIFIED):
        assert (found.n, found.too_few) == (12, "")
        assert found.value is not None


@pytest.mark.parametrize(
    ("men", "women", "whose"), [((20, 20), (2, 3), "Female"), ((2, 3), (20, 20), "Male")]
)
def test_the_floor_holds_for_both_groups_within_shared_strata(men, women, whose):
    item = strata({"A": men, "B": (30, 30), "C": (0, 0)}, {"A": women, "B": (0, 0), "C": (40, 40)})
    for found in stratified(item, "Male", STRATIFIED):
        assert found.value is not None
        assert f"of {whose} in strata of department that hold both is 2 of 5 rows" in found.too_few


def test_the_table_holds_every_stratum():
    table = strata_table([strata(MEN, WOMEN)])
    assert table.columns == ["sex", "department", "rows", "selected"]
    assert len(table.rows) == 12
    assert ["Female", "A", 108, 89] in table.rows
