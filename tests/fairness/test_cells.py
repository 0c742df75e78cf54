import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from audit.fairness.cells import RATES, Cells, cells_table, one_against_rest, rates, read_cells

counts = arrays(np.int64, (3, 2, 2), elements=st.integers(0, 30))
GROUPS = ({"sex": "F"}, {"sex": "M"}, {"sex": "unknown"})


def restated(rate, tn, fp, fn, tp):
    """Each rate as a textbook writes it; None for 0/0."""
    top, bottom = {
        "selection_rate": (tp + fp, tp + fp + tn + fn),
        "base_rate": (tp + fn, tp + fp + tn + fn),
        "accuracy": (tp + tn, tp + fp + tn + fn),
        "true_positive_rate": (tp, tp + fn),
        "false_positive_rate": (fp, fp + tn),
        "true_negative_rate": (tn, tn + fp),
        "false_negative_rate": (fn, fn + tp),
        "positive_predictive_value": (tp, tp + fp),
        "negative_predictive_value": (tn, tn + fn),
        "false_discovery_rate": (fp, fp + tp),
        "false_omission_rate": (fn, fn + tn),
    }[rate]
    return top / bottom if bottom else None


@given(counts)
@settings(max_examples=60, deadline=None)
def test_every_rate_is_the_textbook_one_and_undefined_without_a_denominator(table):
    found = {(m.group["sex"], m.name): m for m in rates(Cells("sex", GROUPS, table), tuple(RATES))}
    occurring = [g for g in range(3) if table[g].sum()]
    assert len(found) == len(occurring) * len(RATES) == len(occurring) * 11
    for g in occurring:
        for rate in RATES:
            item = found[GROUPS[g]["sex"], rate]
            assert item.value == restated(rate, *(int(n) for n in table[g].ravel()))
            assert (item.reason == "") == (item.value is not None)


@given(arrays(np.int64, (2, 4, 4), elements=st.integers(0, 9)), st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_one_against_the_rest_counts_what_a_loop_counts(table, chosen):
    slowly = np.zeros((2, 2, 2), int)
    for g, y, p in np.ndindex(2, 4, 4):
        slowly[g, int(y == chosen), int(p == chosen)] += table[g, y, p]
    assert np.array_equal(one_against_rest(table, chosen), slowly)


@given(counts.filter(lambda t: t[:, 0].sum()), st.booleans(), st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_table_is_read_back_as_the_cells_it_was_written_from(table, per_class, labelled):
    if not labelled:
        table[:, 1] = 0
    names = ("a", "b") if per_class else (None,)
    items = [
        Cells("sex", GROUPS, table + i * (table > 0), 7, {"class": n} if n else {}, labelled)
        for i, n in enumerate(names)
    ]
    again = read_cells(cells_table(items), 7)
    assert [item.settings for item in again] == [item.settings for item in items]
    for item, back in zip(items, again, strict=True):
        kept = item.occurring()
        assert back.groups == tuple(item.groups[g] for g in kept)
        assert np.array_equal(back.table, item.table[kept])
        assert (back.name, back.floor, back.labelled) == (item.name, item.floor, item.labelled)


def test_a_rate_below_the_floor_says_its_counts_and_one_without_a_denominator_does_not():
    table = np.array([[[20, 20], [3, 1]], [[20, 20], [0, 0]], [[20, 20], [5, 5]]])
    item = Cells("g", ({"g": "a"}, {"g": "b"}, {"g": "c"}), table)
    found = {m.group["g"]: m for m in rates(item, ("true_positive_rate",))}
    assert found["a"].value == 0.25
    assert "the true positive rate of a is 1 of 4 rows, fewer than the floor of 10" in found["a"].too_few
    assert (found["b"].value, found["b"].too_few) == (None, "")
    assert found["c"].too_few == ""
    assert item.having("true_positive_rate") == [2]
    assert item.having("selection_rate") == [0, 1, 2]


def test_of_many_groups_left_out_the_first_are_named_and_all_counted():
    groups = tuple({"g": f"g{i}"} for i in range(20))
    item = Cells("g", groups, np.full((20, 2, 2), 1))
    text = item.left_out(("selection_rate",), item.occurring())
    assert text.startswith("g0 (4 rows); g1 (4 rows)")
    assert text.endswith("g11 (4 rows) and 8 more")


def test_who_may_be_compared():
    table = np.zeros((4, 2, 2), int)
    table[:, 0, 0] = (10, 9, 0, 50)
    groups = ({"g": "a"}, {"g": "small"}, {"g": "absent"}, {"g": "unknown"})
    item = Cells("g", groups, table)
    assert (item.occurring(), item.known(), item.unknown(), item.compared()) == ([0, 1, 3], [0, 1], [3], [0])
    assert Cells("g", groups, table, floor=0).compared() == [0, 1]
