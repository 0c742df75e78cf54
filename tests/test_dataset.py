import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.dataset import Dataset, Feature, Relation, sample_rows
from audit.errors import NotApplicable


def dataset(features=(), rows=4):
    inputs = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
    labels = np.zeros(rows, dtype=np.int64)
    return Dataset(inputs=inputs, labels=labels, modality="tabular", classes=("a",), features=features)


def test_each_column_knows_its_feature():
    data = dataset(
        (Feature(name="colour", kind="categorical", columns=(0, 2)), Feature(name="age", columns=(1,)))
    )
    assert data.feature_of_column().tolist() == [0, 1, 0]


def test_bounds_are_as_stated_and_else_as_seen():
    low, high = dataset((Feature(name="x", columns=(1,), low=-5.0, high=50.0),)).column_bounds()
    assert low.tolist() == [0, -5, 2]
    assert high.tolist() == [9, 50, 11]


def test_bounds_do_not_change_the_data():
    data = dataset((Feature(name="x", columns=(0,), low=-5.0),))
    before = data.inputs.copy()
    data.column_bounds()
    np.testing.assert_array_equal(data.inputs, before)


@given(st.integers(1, 30), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_a_sample_is_sorted_distinct_and_the_same_for_one_seed(rows, asked, seed):
    data = dataset(rows=rows)
    chosen = sample_rows(data, asked, seed)
    assert len(chosen) == min(rows, asked)
    assert (np.diff(chosen) > 0).all()
    assert chosen.min() >= 0
    assert chosen.max() < rows
    np.testing.assert_array_equal(chosen, sample_rows(data, asked, seed))


def test_labels_that_are_not_known_are_told_to_whoever_asks_and_never_made_up():
    known = dataset()
    data = Dataset(inputs=known.inputs, modality="tabular", classes=("a",))
    assert known.labelled
    assert not data.labelled
    assert len(data) == len(known) == 4
    for same in (data, copy.copy(data), pickle.loads(pickle.dumps(data))):
        with pytest.raises(NotApplicable, match=r"\[data\] target"):
            _ = same.labels
    with pytest.raises(AttributeError, match="no attribute 'label'"):
        _ = data.label
    assert "inputs" in repr(data)


@pytest.mark.parametrize(
    ("terms", "low", "high", "text"),
    [
        ((("gain", 1.0), ("loss", -1.0)), 0.0, None, "gain - loss >= 0"),
        ((("a", -2.0), ("b", 0.5)), None, 3.0, "- 2 a + 0.5 b <= 3"),
        ((("a", 1.0),), 1.0, 2.0, "1 <= a <= 2"),
        ((("a", 1.0), ("b", 1.0)), 100.0, 100.0, "a + b = 100"),
    ],
)
def test_a_relation_reads_as_it_is_written(terms, low, high, text):
    assert Relation(terms=terms, low=low, high=high).text == text
