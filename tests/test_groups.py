import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from audit.dataset import Dataset, Sensitive
from audit.groups import count_cells, groupings


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
