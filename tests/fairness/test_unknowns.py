from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.fairness.cells import Cells
from audit.fairness.unknowns import BOUNDS, bounds, unknown_bounds

counts = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 6)).filter(sum).map(lambda c: (c[0], sum(c))),
    min_size=2, max_size=3,
)  # fmt: skip


def divisions(rows, parts):
    """Every way to divide `rows` rows among `parts` groups."""
    return [c for c in product(range(rows + 1), repeat=parts) if sum(c) == rows]


def every_assignment(groups, selected, rejected):
    """Lowest-to-highest ratio and largest difference under every assignment, by trying them all."""
    for up in divisions(selected, len(groups)):
        for down in divisions(rejected, len(groups)):
            rates = [(x + u) / (n + u + d) for (x, n), u, d in zip(groups, up, down, strict=True)]
            yield (min(rates) / max(rates) if max(rates) else None), max(rates) - min(rates)


@given(counts, st.integers(0, 3), st.integers(0, 3))
@settings(max_examples=120, deadline=None)
def test_no_assignment_is_worse_or_better_than_the_bounds_and_the_worst_is_reached(
    groups, selected, rejected
):
    found = bounds(groups, selected, rejected)
    tried = list(every_assignment(groups, selected, rejected))
    ratios = [r for r, _ in tried if r is not None]
    differences = [d for _, d in tried]
    assert found.difference_worst == pytest.approx(max(differences), abs=1e-12)
    assert found.difference_best <= min(differences) + 1e-12
    if ratios:
        assert found.ratio_worst == pytest.approx(min(ratios), abs=1e-12)
        assert found.ratio_best >= max(ratios) - 1e-12
    else:
        assert found.ratio_best is None
        assert found.ratio_worst is None


def test_whole_people_come_within_a_row_of_the_best_case():
    groups, selected, rejected = [(30, 100), (45, 90)], 14, 9
    found = bounds(groups, selected, rejected)
    tried = list(every_assignment(groups, selected, rejected))
    assert 0 <= found.ratio_best - max(r for r, _ in tried) < 1 / 90
    assert 0 <= min(d for _, d in tried) - found.difference_best < 1 / 90


def item(a, b, unknown, floor=10):
    """Selected and rejected of two groups and of the unknown."""
    table = np.zeros((3, 2, 2), int)
    table[:, 0, 1], table[:, 0, 0] = zip(a, b, unknown, strict=True)
    return Cells("g", ({"g": "a"}, {"g": "b"}, {"g": "unknown"}), table, floor)


def test_by_hand():
    """40/100 and 50/100; 10 unknown selected, 20 not: worst 40/120 against 60/110."""
    found = {m.name: m for m in unknown_bounds(item((40, 60), (50, 50), (10, 20)), BOUNDS)}
    assert found["selection_rate_ratio_worst"].value == pytest.approx((40 / 120) / (60 / 110))
    assert found["demographic_parity_difference_worst"].value == pytest.approx(60 / 110 - 40 / 120)
    assert found["selection_rate_ratio_best"].value == pytest.approx(1.0)
    assert found["demographic_parity_difference_best"].value == pytest.approx(0.0)
    assert all(m.low == m.value == m.high and m.method == "exact" for m in found.values())


def test_no_unknown_no_bound_and_a_single_group_none_either():
    assert unknown_bounds(item((40, 60), (50, 50), (0, 0)), BOUNDS) == []
    assert unknown_bounds(item((40, 60), (1, 2), (5, 5)), BOUNDS) == []


def test_the_bounds_name_the_groups_that_are_too_small_to_take_part():
    table = np.zeros((4, 2, 2), int)
    table[:, 0] = [[20, 20], [10, 30], [2, 1], [5, 5]]
    item = Cells("g", tuple({"g": g} for g in ("a", "b", "small", "unknown")), table)
    assert {m.left_out for m in unknown_bounds(item, BOUNDS)} == {"small (3 rows)"}


def test_nobody_selected_bounds_no_ratio():
    found = {m.name: m for m in unknown_bounds(item((0, 60), (0, 50), (0, 20)), BOUNDS)}
    assert found["selection_rate_ratio_worst"].value is None
    assert "0 of 130 rows" in found["selection_rate_ratio_best"].reason
    assert found["demographic_parity_difference_worst"].value == 0.0
