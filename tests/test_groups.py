import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.dataset import Dataset, Sensitive, written_out
from audit.errors import NotEvaluable
from audit.groups import count_cells, count_groupings, count_on, count_table, cross, groupings


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


ROWS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 4), st.integers(0, 2**40)), min_size=1, max_size=40
)


@given(ROWS)
def test_weighted_rows_are_those_rows_as_often(rows):
    first, second, people = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    table = count_table((first, second), (3, 5), people)
    assert table.dtype == np.int64
    for i in range(3):
        for j in range(5):
            assert int(table[i, j]) == sum(n for a, b, n in rows if (a, b) == (i, j))
    assert np.array_equal(count_table((first, second), (3, 5), people, "cpu"), table)


def test_a_weighted_count_keeps_the_last_person_of_many():
    """Above 2**53 a sum of floats would lose one."""
    people = np.array([2**53, 1, 1], dtype=np.int64)
    codes = np.zeros(3, dtype=np.int64)
    assert count_table((codes,), (1,), people).tolist() == [2**53 + 2]
    assert count_on("cpu", (codes,), (1,), people).tolist() == [2**53 + 2]
    assert float(2**53) + 1 + 1 == 2**53


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("piece", [1, 7, 10_000])
def test_counts_by_torch_are_those_of_numpy_in_pieces_of_any_size(monkeypatch, weighted, piece):
    monkeypatch.setattr("audit.groups._ROWS_THERE", piece)
    random = np.random.default_rng(piece)
    columns = [random.integers(0, size, 400) for size in (3, 2, 4)]
    columns[1].flags.writeable = False
    weights = random.integers(0, 9, 400) if weighted else None
    here = count_table(columns, (3, 2, 4), weights)
    there = count_on("cpu", columns, (3, 2, 4), weights)
    assert np.array_equal(here, there)
    assert here.dtype == there.dtype == np.int64
    assert not columns[1].flags.writeable


def test_no_rows_are_a_table_of_zeros_on_a_device_too():
    nothing = np.zeros(0, dtype=np.int64)
    assert np.array_equal(count_on("cpu", (nothing, nothing), (2, 3)), np.zeros((2, 3)))


def test_a_device_other_than_this_one_is_asked_to_count(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "audit.groups.count_on", lambda device, *a: asked.append(device) or count_on("cpu", *a)
    )
    data, predicted = three_features(50, seed=0)
    count_groupings(data, 1, data.labels, predicted, 3, "cuda:1")
    count_groupings(data, 1, data.labels, predicted, 3, "cpu")
    assert asked == ["cuda:1"] * 3


def test_counting_here_needs_no_torch():
    code = (
        "import sys, numpy as np; from audit.groups import count_table; "
        "count_table((np.zeros(3, int),), (1,), np.ones(3, int), 'cpu'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_groupings_count_people():
    data, predicted = three_features(300, seed=5)
    people = np.random.default_rng(0).integers(1, 9, 300)
    weighted = Dataset(**{**vars(data), "people": people})
    whole = written_out(weighted)
    assert len(whole) == people.sum() == weighted.size
    by_hand = count_groupings(whole, 2, whole.labels, np.repeat(predicted, people), 3)
    found = count_groupings(weighted, 2, weighted.labels, predicted, 3)
    assert [item.name for item, _ in found] == [item.name for item, _ in by_hand]
    for (_, mine), (_, theirs) in zip(found, by_hand, strict=True):
        assert np.array_equal(mine, theirs)


@pytest.mark.gpu
def test_an_accelerator_counts_the_same_in_bounded_memory():
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no accelerator")
    random = np.random.default_rng(1)
    columns = [random.integers(0, size, 30_000_000) for size in (49, 2, 2)]
    torch.cuda.reset_peak_memory_stats()
    there = count_table(columns, (49, 2, 2), None, "cuda")
    assert torch.cuda.max_memory_allocated() < 2**30
    assert np.array_equal(there, count_table(columns, (49, 2, 2)))
    weights = random.integers(0, 2**40, 30_000_000)
    assert np.array_equal(
        count_table(columns, (49, 2, 2), weights, "cuda"), count_table(columns, (49, 2, 2), weights)
    )


def test_more_combinations_than_can_be_counted_are_refused():
    """Five features of thirty groups each would be 24 million groups at a depth of five."""
    levels = tuple(map(str, range(30)))
    parts = [Sensitive(name=name, groups=levels, codes=np.zeros(9, np.int64)) for name in "abcde"]
    assert len(cross(parts[:3]).groups) == 27_000
    with pytest.raises(NotEvaluable, match=r"a x b x c x d x e make 24,300,000 groups.*smaller depth"):
        cross(parts)
