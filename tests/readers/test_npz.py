import numpy as np
import pytest

from audit.config import DataSection
from audit.errors import LoadError
from audit.read import load_data
from audit.readers.npz import read


def saved(folder, **arrays):
    path = folder / "a.npz"
    np.savez(path, **arrays)
    return DataSection(path=path)


def test_arrays_labels_and_sensitive_arrays_are_read(tmp_path):
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    section = saved(tmp_path, x=rows, y=np.array([[1], [0], [1]]), sex=np.array(["f", "N/A", "m"]))
    data = load_data(section.model_copy(update={"sensitive": ("sex",)}), tmp_path)
    np.testing.assert_array_equal(data.inputs, rows)
    assert data.labels.tolist() == [1, 0, 1]
    assert data.sensitive["sex"].groups == ("f", "m", "unknown")
    assert [feature.name for feature in data.features] == ["x0", "x1"]
    assert "1 of 3 rows" in data.caveats[-1]


def test_names_of_the_columns_are_used_and_selected(tmp_path):
    section = saved(tmp_path, inputs=np.eye(3), labels=[0, 1, 1], feature_names=np.array(["a", "b", "c"]))
    data = load_data(section.model_copy(update={"inputs": ("c", "a")}), tmp_path)
    assert [feature.name for feature in data.features] == ["c", "a"]
    np.testing.assert_array_equal(data.inputs, np.eye(3)[:, [2, 0]])


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ({"labels": [1]}, r"no array of inputs.*'labels'.*'inputs' or 'images'"),
        ({"x": np.ones((2, 2))}, r"no array of labels"),
        ({"x": np.ones((2, 2)), "y": [1, 0, 1]}, r"'y' has shape \(3,\), but there are 2 rows"),
        ({"x": np.ones(2), "y": [1, 0]}, r"'x' has shape \(2,\)"),
        ({"x": np.ones((0, 2)), "y": []}, r"'x' has shape \(0, 2\)"),
        ({"x": np.array([[1, "a"]], dtype=object), "y": [1]}, r"array 'x' holds pickled objects"),
        ({"x": np.array([["a"]]), "y": [1]}, r"type <U1"),
    ],
)
def test_a_damaged_archive_gets_one_sentence(tmp_path, arrays, complaint):
    with pytest.raises(LoadError, match=complaint) as caught:
        load_data(saved(tmp_path, **arrays), tmp_path)
    assert "a.npz" in str(caught.value)


def test_a_sensitive_array_that_is_absent_or_pickled_is_named(tmp_path):
    section = saved(tmp_path, x=np.ones((1, 2)), y=[0], sex=np.array(["f"]), race=np.array([None]))
    with pytest.raises(LoadError, match="no array 'sx'; the nearest is 'sex'"):
        load_data(section.model_copy(update={"sensitive": ("sx",)}), tmp_path)
    with pytest.raises(LoadError, match="'race' holds pickled objects"):
        load_data(section.model_copy(update={"sensitive": ("race",)}), tmp_path)


@pytest.mark.parametrize("content", [b"PK\x03\x04 broken", b"text", b""])
def test_what_is_not_an_archive_is_refused(tmp_path, content):
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    with pytest.raises(LoadError, match=r"a\.npz"):
        read(path, DataSection(path=path))


def test_a_single_array_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    with path.open("wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(LoadError, match="one array"):
        read(path, DataSection(path=path))
