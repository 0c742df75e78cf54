"""Counts from a stream of batches equal counts made at once, and memory does not grow with the rows."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fairlearn.metrics import MetricFrame, false_positive_rate, selection_rate, true_positive_rate

from audit.errors import LoadError
from audit.groups import count_cells
from audit.streaming import group_rates, stream_cells


def table(n, seed=0):
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "sex": random.integers(0, 7, n).astype(np.int8),
            "race": random.integers(0, 7, n).astype(np.int8),
            "label": random.integers(0, 2, n).astype(np.int8),
            "predicted": random.integers(0, 2, n).astype(np.int8),
            "other": random.normal(size=n),
        }
    )


def write(frame, path, row_group=100_000):
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), path, row_group_size=row_group)
    return path


@pytest.mark.parametrize("batch_rows", [70_001, 10_000_000])
def test_a_million_streamed_rows_equal_those_counted_at_once(tmp_path, batch_rows):
    frame = table(1_000_000)
    path = write(frame, tmp_path / "decisions.parquet")
    cells = stream_cells(path, ["sex", "race"], "label", "predicted", batch_rows=batch_rows)
    codes = frame.sex.to_numpy(np.int64) * 7 + frame.race.to_numpy()
    at_once = count_cells(codes, frame.label.to_numpy(), frame.predicted.to_numpy(), 49, 2)
    assert (cells.counts.reshape(49, 2, 2) == at_once).all()
    assert cells.levels == (tuple("0123456"), tuple("0123456"), ("0", "1"), ("0", "1"))
    assert cells.columns == ("sex", "race", "label", "predicted")
    assert cells.rows == 1_000_000


def test_words_dictionaries_and_empty_cells_are_groups_in_a_fixed_order(tmp_path):
    frame = pd.DataFrame(
        {
            "sex": ["M", "F", None, "F", "M", "F"],
            "age": pd.Categorical(["10", "9", "10", "9", "9", "10"]),
            "score": [1.0, np.nan, 2.5, 1.0, 1.0, 2.5],
            "label": ["no", "yes", "yes", "no", "no", "yes"],
            "predicted": ["no", "maybe", "yes", "no", "yes", "no"],
        }
    )
    path = write(frame, tmp_path / "words.parquet", row_group=2)
    cells = stream_cells(path, ["sex", "age", "score"], "label", "predicted", batch_rows=2)
    assert cells.levels[:3] == (("F", "M", "unknown"), ("9", "10"), ("1", "2.5", "unknown"))
    assert cells.levels[3] == cells.levels[4] == ("maybe", "no", "yes")
    assert cells.rows == 6
    assert cells.counts[0, 0, 2, 2, 0] == 1
    assert cells.counts[2, 1, 1, 2, 2] == 1


def test_the_rates_of_the_cells_equal_fairlearn(tmp_path):
    frame = table(20_000, seed=3)
    frame = frame[(frame.sex != 6) | (frame.race < 3)]
    cells = stream_cells(write(frame, tmp_path / "d.parquet"), ["sex", "race"], "label", "predicted")
    found = group_rates(cells, favourable="1")
    oracles = {
        "selection_rate": selection_rate,
        "true_positive_rate": true_positive_rate,
        "false_positive_rate": false_positive_rate,
        "accuracy": lambda y, p: float(np.mean(y == p)),
    }
    by_group = MetricFrame(
        metrics=oracles, y_true=frame.label, y_pred=frame.predicted, sensitive_features=frame[["sex", "race"]]
    ).by_group
    assert len(found) == 4 * (49 - 4)
    for item in found:
        place = (int(item.group["sex"]), int(item.group["race"]))
        assert item.value == pytest.approx(by_group.loc[place, item.name], abs=1e-12)
        assert item.low < item.value < item.high


def test_a_group_without_positives_has_no_true_positive_rate(tmp_path):
    frame = pd.DataFrame({"g": [0, 0, 1], "label": [1, 0, 0], "predicted": [1, 0, 1]})
    cells = stream_cells(write(frame, tmp_path / "d.parquet"), ["g"], "label", "predicted")
    (rate,) = [m for m in group_rates(cells, "1") if m.name == "true_positive_rate" and m.group == {"g": "1"}]
    assert rate.value is None
    assert "0 of 0 rows" in rate.reason


def test_what_cannot_be_counted_is_one_sentence(tmp_path):
    frame = table(2_000)
    path = write(frame, tmp_path / "d.parquet")
    with pytest.raises(LoadError, match="no column 'sexx'; the nearest is 'sex'"):
        stream_cells(path, ["sexx"], "label", "predicted")
    with pytest.raises(LoadError, match="'sex' is asked for twice"):
        stream_cells(path, ["sex", "sex"], "label", "predicted")
    wide = write(table(300_000), tmp_path / "wide.parquet")
    with pytest.raises(LoadError, match="bin numbers first"):
        stream_cells(wide, ["other", "sex"], "label", "predicted")
    with pytest.raises(LoadError, match="no label or prediction is 'yes'"):
        group_rates(stream_cells(path, ["sex"], "label", "predicted"), "yes")
    with pytest.raises(LoadError, match="holds no rows"):
        stream_cells(write(frame[:0], tmp_path / "e.parquet"), ["sex"], "label", "predicted")
    holes = frame.astype({"label": "Int8"})
    holes.loc[7, "label"] = pd.NA
    with pytest.raises(LoadError, match="column 'label', row 8: the cell is empty"):
        stream_cells(write(holes, tmp_path / "h.parquet"), ["sex"], "label", "predicted")
    (tmp_path / "t.parquet").write_text("no parquet")
    with pytest.raises(LoadError, match="not a readable Parquet file"):
        stream_cells(tmp_path / "t.parquet", ["sex"], "label", "predicted")


@pytest.mark.parametrize("column", ["label", "predicted"])
@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_a_nan_is_an_empty_cell_and_no_class(tmp_path, column, kind):
    frame = table(2_000).astype({"label": kind, "predicted": kind})
    whole = stream_cells(write(frame, tmp_path / "w.parquet"), ["sex"], "label", "predicted")
    assert whole.levels[-1] == ("0", "1")
    holed = frame[column].to_numpy().copy()
    holed[1_234] = np.nan
    stored = pa.Table.from_pandas(frame, preserve_index=False)
    # as pandas writes it, a NaN would be a null
    stored = stored.set_column(stored.column_names.index(column), column, pa.array(holed))
    assert stored[column].null_count == 0
    pq.write_table(stored, tmp_path / "n.parquet")
    with pytest.raises(LoadError, match=f"column '{column}', row 1235: the cell is empty"):
        stream_cells(tmp_path / "n.parquet", ["sex"], "label", "predicted", batch_rows=500)


MEASURE = """
import re, sys
from pathlib import Path
from audit.streaming import stream_cells

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

few, many, batch = sys.argv[1:]
stream_cells(few, ["sex", "race"], "label", "predicted", batch_rows=50_000)
before = peak()
cells = stream_cells(many, ["sex", "race"], "label", "predicted", batch_rows=int(batch))
print(cells.rows, peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of one process is read from /proc")
def test_memory_does_not_grow_with_the_rows(tmp_path):
    """40 times the rows in the same batches; the control takes them all in one batch."""
    few = write(table(100_000), tmp_path / "few.parquet")
    schema = pq.read_schema(few)
    part = pa.Table.from_pandas(table(100_000, seed=4), schema=schema, preserve_index=False)
    with pq.ParquetWriter(tmp_path / "many.parquet", schema) as writer:
        for _ in range(40):
            writer.write_table(part)
    grown = {}
    for batch in (50_000, 4_000_000):
        command = [sys.executable, "-c", MEASURE, few, tmp_path / "many.parquet", str(batch)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rows, grown[batch] = map(int, done.stdout.split())
        assert rows == 4_000_000
    assert grown[50_000] < 25_000, f"{grown} kB more"
    assert grown[4_000_000] > 50_000, "the control shows that growth would be seen"
