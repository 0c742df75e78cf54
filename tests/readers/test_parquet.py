import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from audit.config import DataSection
from audit.errors import LoadError
from audit.read import load_data
from audit.readers.parquet import read


def section(path, **fields):
    return DataSection(path=path, target="y", **fields)


def test_a_parquet_file_is_read_like_the_table_it_is(tmp_path):
    path = tmp_path / "a.parquet"
    frame = pd.DataFrame(
        {"x": [1.5, 2.5, 3.5], "flag": [True, False, True], "y": [0, 1, 1], "sex": ["f", None, "m"]}
    )
    frame.index = [7, 8, 9]
    frame.to_parquet(path)
    data = load_data(section(path, sensitive=("sex",), inputs=("x", "flag")), tmp_path)
    assert data.inputs.tolist() == [[1.5, 1], [2.5, 0], [3.5, 1]]
    assert data.labels.tolist() == [0, 1, 1]
    assert data.sensitive["sex"].groups == ("f", "m", "unknown")
    assert data.sensitive["sex"].codes.tolist() == [0, 2, 1]
    assert data.source["reader"] == "parquet"


def test_whole_numbers_with_an_empty_cell_stay_whole_groups(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"x": [1.0, 2.0, 3.0], "y": [0, 1, 0], "code": pa.array([10, None, 9])}), path)
    found = load_data(section(path, sensitive=("code",), inputs=("x",)), tmp_path).sensitive["code"]
    assert found.groups == ("9", "10", "unknown")


def test_an_empty_input_cell_names_column_and_row(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"x": pa.array([1.0, None]), "y": [0, 1]}), path)
    with pytest.raises(LoadError, match=r"a\.parquet: input column 'x', row 2 holds \(empty\)"):
        load_data(section(path), tmp_path)


def test_what_is_not_parquet_or_not_flat_is_refused(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 and then nothing")
    with pytest.raises(LoadError, match=r"a\.parquet is not a readable Parquet file"):
        read(path, section(path))
    pq.write_table(pa.table({"x": [[1, 2]], "y": [0]}), path)
    with pytest.raises(LoadError, match="column 'x' is of type list"):
        read(path, section(path))
    pq.write_table(pa.table({"x": pa.array([], pa.int64())}), path)
    with pytest.raises(LoadError, match="holds no rows"):
        read(path, section(path))
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["x", "x"]), path)
    with pytest.raises(LoadError, match="two columns are called 'x'"):
        read(path, section(path))
