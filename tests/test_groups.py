import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.dataset import Dataset, Sensitive
from audit.groups import count_cells, count_groupings, count_table, groupings


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=60))
def test_cells_are_the_rows_counted_slowly(rows):
    codes, labels, predicted = (np.array(column) for column in zip(*rows, strict=True))
    table = count_cells(codes, labels, predicted, 3, 2)
    for g in range(3):
        for y in range(2):
            for p in range(2):
                assert table[g, y, p] == sum(row == (g, y, p) for row in rows)


def test_intersections_carry_every_part_and_know_the_unknown():
    data = Dataset(
        inputs=np.zeros((4, 1), np.float32),
        labels=np.zeros(4, np.int64),
        modality="tabular",
        classes=("a", "b"),
        sensitive={
            "sex": Sensitive(name="sex", groups=("F", "M"), codes=np.array([0, 1, 0, 1])),
            "race": Sensitive(name="race", groups=("X", "unknown"), codes=np.array([0, 0, 1, 1])),
        },
    )
    names = [item.name for item in groupings(data, 2)]
    assert names == ["sex", "race", "sex x race"]
    both = list(groupings(data, 2))[2]
    assert [both.groups[code] for code in both.codes] == [
        {"sex": "F", "race": "X"}, {"sex": "M", "race": "X"},
        {"sex": "F", "race": "unknown"}, {"sex": "M", "race": "unknown"},
    ]  # fmt: skip
    assert [both.known[code] for code in both.codes] == [True, True, False, False]


def three_features(n, seed):
    random = np.random.default_rng(seed)
    parts = {
        name: Sensitive(name=name, groups=groups, codes=random.integers(0, len(groups), n))
        for name, groups in (("a", ("x", "y")), ("b", ("p", "q", "unknown")), ("c", ("u", "v", "w", "z")))
    }
    labels, predicted = random.integers(0, 3, n), random.integers(0, 3, n)
    data = Dataset(
        inputs=np.zeros((n, 1), np.float32), labels=labels, modality="tabular",
        classes=("k", "l", "m"), sensitive=parts,
    )  # fmt: skip
    return data, predicted


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_tables_summed_from_deeper_ones_are_those_that_are_counted(depth):
    data, predicted = three_features(400, seed=depth)
    found = count_groupings(data, depth, data.labels, predicted, 3)
    assert [item.name for item, _ in found] == [item.name for item in groupings(data, depth)]
    assert len(found) == {1: 3, 2: 6, 3: 7}[depth]
    for item, table in found:
        counted = count_cells(item.codes, data.labels, predicted, len(item.groups), 3)
        assert np.array_equal(table, counted)


def test_two_features_and_their_combination_cost_one_pass(monkeypatch):
    data, predicted = three_features(50, seed=0)
    del data.sensitive["c"]
    passes = []
    monkeypatch.setattr("audit.groups.count_table", lambda *a: passes.append(1) or count_table(*a))
    assert len(count_groupings(data, 2, data.labels, predicted, 3)) == 3
    assert len(passes) == 1


def test_a_table_of_several_columns_has_their_shape():
    table = count_table((np.array([0, 1, 1]), np.array([2, 0, 0]), np.array([1, 1, 1])), (2, 3, 2))
    assert table.shape == (2, 3, 2)
    assert table[0, 2, 1] == 1
    assert table[1, 0, 1] == 2
    assert table.sum() == 3


def test_a_grouping_knows_its_features():
    data, _ = three_features(5, seed=0)
    assert [item.features for item in groupings(data, 2)][3:] == [("a", "b"), ("a", "c"), ("b", "c")]
