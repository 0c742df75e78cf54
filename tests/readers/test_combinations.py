"""A file added up to its combinations is audited as the same file read whole, batch by batch."""

from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from audit.checks.fairness.groups import groups
from audit.checks.fairness.ll144 import ll144
from audit.checks.fairness.representation import representation
from audit.config import DataSection
from audit.errors import ConfigError, LoadError
from audit.load import no_model
from audit.measure import measure, set_up
from audit.products.predictions import predictions
from audit.read import describe_data, load_data
from audit.readers.combinations import read_combinations

ROWS = 6_000


def people(rows=ROWS, seed=0):
    random = np.random.default_rng(seed)
    sex = random.choice(np.array(["F", "M", None], dtype=object), rows, p=[0.5, 0.45, 0.05])
    score = np.round(np.clip(random.random(rows) * 0.8 + 0.2 * (sex == "M"), 0, 1), 3)
    return pd.DataFrame(
        {
            "sex": sex,
            "race": random.choice(["A", "B", "?"], rows, p=[0.6, 0.35, 0.05]),
            "age": np.where(random.random(rows) < 0.1, np.nan, random.uniform(18, 80, rows)),
            "site": random.integers(0, 3, rows),
            "earned": np.where(random.random(rows) < score, "yes", "no"),
            "score": score,
            "single": score.astype(np.float32),
            "granted": np.where(score > 0.6, "yes", "no"),
            "flag": score > 0.55,
            "part": np.where(random.random(rows) < 0.7, "test", "train"),
        }
    )


def stored(frame, folder, name="people.parquet"):
    path = folder / name
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), path, row_group_size=1_000)
    return path


def loaded(monkeypatch, path, *, stream, column="granted", threshold=0.5, batch_rows=700, **fields):
    monkeypatch.setattr("audit.read.read_combinations", partial(read_combinations, batch_rows=batch_rows))
    known = {"target": "earned", "sensitive": ("sex", "race"), "favourable": "yes", **fields}
    section = DataSection(path=path, stream=stream, **known)
    return load_data(section, path.parent, predictions=column, threshold=threshold)


def measured(data, item, **settings):
    bench = set_up(no_model("granted", data), data, 0, {"predictions": predictions})
    finding = measure(item, item.settings(settings), bench, None)
    assert finding.status == "measured", finding.reason
    return finding


CASES = {
    "words": {},
    "scores": {"column": "score"},
    "scores at a threshold that some have": {"column": "score", "threshold": 0.7},
    "scores of fewer digits at a threshold that some have": {"column": "single", "threshold": 0.7},
    "every score is enough": {"column": "score", "threshold": 0.0},
    "hardly a score is enough": {"column": "score", "threshold": 1.0},
    "truth": {"column": "flag", "label_map": {"True": "yes", "False": "no"}},
    "a part of the file": {"where": {"part": "test", "site": 1}},
    "without outcomes": {"target": None},
    "numbers in bins": {"sensitive": ("sex", "race", "age"), "bins": {"age": (25, 40, 60)}},
    "a control in bins": {"control": ("site", "age"), "bins": {"age": (25, 40, 60)}},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("batch_rows", [700, 1_000_000])
def test_every_measure_is_that_of_the_file_read_whole(tmp_path, monkeypatch, case, batch_rows):
    path = stored(people(), tmp_path)
    given = CASES[case]
    whole = loaded(monkeypatch, path, stream=False, **given)
    added = loaded(monkeypatch, path, stream=True, batch_rows=batch_rows, **given)
    assert added.size == len(whole) == whole.size
    assert len(added) < 500 < len(whole)
    control = {"control": tuple(whole.controls)} if whole.controls else {}
    for item, settings in ((groups, control), (ll144, {}), (representation, {})):
        one, other = measured(whole, item, **settings), measured(added, item, **settings)
        assert len(one.measures) >= 6
        assert one.measures == other.measures
        assert one.tables == other.tables
    for key in ("rows", "rows_read", "rows_matched", "rows_left_out", "classes", "sensitive", "controls"):
        assert describe_data(whole)[key] == describe_data(added)[key]
    assert describe_data(whole).get("predictions") == describe_data(added)["predictions"]


def test_scores_are_not_kept_and_the_record_says_so(tmp_path, monkeypatch):
    data = loaded(monkeypatch, stored(people(), tmp_path), stream=True, column="score")
    assert data.scores is None
    assert any("compared with the threshold as they were read" in text for text in data.caveats)
    assert not loaded(monkeypatch, stored(people(), tmp_path), stream=True).caveats[0].startswith("The file")


def test_memory_holds_combinations_and_not_rows(tmp_path, monkeypatch):
    """Ten times the rows are as many combinations, and no array of the data is longer."""
    frame = people()
    one = loaded(monkeypatch, stored(frame, tmp_path), stream=True, column="score")
    ten = loaded(
        monkeypatch, stored(pd.concat([frame] * 10), tmp_path, "ten.parquet"), stream=True, column="score"
    )
    assert len(one) == len(ten)
    assert (10 * one.people).tolist() == ten.people.tolist()
    assert max(len(ten.labels), len(ten.decisions), len(ten.sensitive["sex"].codes)) == len(ten) < 40


def test_a_number_that_stands_for_no_value_stays_unknown_when_its_bin_begins_there(tmp_path, monkeypatch):
    frame = people().assign(age=lambda f: f.age.round().fillna(99))
    fields = {"sensitive": ("age",), "bins": {"age": (40, 99)}, "missing": ("99", "?")}
    path = stored(frame, tmp_path)
    whole = loaded(monkeypatch, path, stream=False, **fields).sensitive["age"]
    added = loaded(monkeypatch, path, stream=True, **fields)
    assert (
        added.sensitive["age"].groups
        == whole.groups
        == ("under 40", "40 to under 99", "99 and over", "unknown")
    )
    counts = [int(added.people[added.sensitive["age"].codes == code].sum()) for code in range(4)]
    assert counts == np.bincount(whole.codes, minlength=4).tolist()


def test_columns_called_like_our_own_are_no_others(tmp_path, monkeypatch):
    frame = people().rename(columns={"sex": "people", "race": "first row"})
    data = loaded(monkeypatch, stored(frame, tmp_path), stream=True, sensitive=("people", "first row"))
    assert data.sensitive["people"].groups == ("F", "M", "unknown")
    assert data.sensitive["first row"].groups == ("A", "B", "unknown")
    assert data.size == ROWS


def test_dictionaries_and_decimals_are_their_values(tmp_path, monkeypatch):
    from decimal import Decimal

    frame = people(300)
    frame = frame.assign(
        race=pd.Categorical(frame.race), score=frame.score.map(lambda x: Decimal(f"{x:.3f}"))
    )
    path = stored(frame, tmp_path)
    data = loaded(monkeypatch, path, stream=True, column="score")
    assert data.sensitive["race"].groups == ("A", "B", "unknown")
    assert int(data.people[data.decisions == data.favourable].sum()) == int(
        (frame.score >= Decimal("0.5")).sum()
    )


@pytest.mark.parametrize(
    ("change", "fields", "words"),
    [
        ({"granted": None}, {}, "column 'granted', row 1502: the cell is empty"),
        ({"earned": None}, {}, "column 'earned', row 1502: the cell is empty"),
        ({"score": None}, {"column": "score"}, "column 'score', row 1502: the cell is empty"),
        ({"score": float("nan")}, {"column": "score"}, "column 'score', row 1502: the cell is empty"),
        ({"score": 1.25}, {"column": "score"}, "column 'score', row 1502: prediction 1.25 is neither"),
        ({"score": float("inf")}, {"column": "score"}, "row 1502: prediction inf is neither"),
        ({"score": 3.0}, {"column": "score"}, "row 1502: prediction '3' is neither one of the classes"),
        ({"earned": "NA"}, {}, "row 1502: label 'NA' is missing; .* combinations"),
    ],
)
def test_what_cannot_be_counted_is_named_with_its_row_in_the_file(
    tmp_path, monkeypatch, change, fields, words
):
    ((name, value),) = change.items()
    frame = people().astype({"granted": object, "earned": object})
    frame.loc[1501, name] = value
    table = pa.Table.from_pandas(frame, preserve_index=False)
    if isinstance(value, float):
        whole = frame[name].to_numpy().copy()
        whole[1501] = value
        table = table.set_column(table.column_names.index(name), name, pa.array(whole))
    pq.write_table(table, tmp_path / "people.parquet")
    with pytest.raises(LoadError, match=words):
        loaded(monkeypatch, tmp_path / "people.parquet", stream=True, **fields)


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"column": None}, ConfigError, r"\[model\] predictions names the column"),
        ({"count": "site"}, ConfigError, r"\[data\] count does not go with stream"),
        ({"rows": 10}, ConfigError, r"\[data\] rows does not go with stream"),
        ({"inputs": ("age",)}, ConfigError, r"\[data\] inputs does not go with stream"),
        ({"sensitive": ("sexx",)}, LoadError, "has no column 'sexx'; the nearest is 'sex'"),
        ({"sensitive": ("age",)}, LoadError, "'age' holds .* different numbers"),
        ({"where": {"part": "tset"}}, LoadError, "keeps no row at column 'part'"),
    ],
)
def test_what_does_not_go_with_stream_is_a_sentence(tmp_path, monkeypatch, fields, error, words):
    path = stored(people(), tmp_path)
    with pytest.raises(error, match=words):
        loaded(monkeypatch, path, stream=True, **fields)


def test_files_that_cannot_be_streamed_are_a_sentence(tmp_path, monkeypatch):
    (tmp_path / "rows.csv").write_text("sex,race,earned,granted\nF,A,yes,no\n")
    with pytest.raises(LoadError, match="reads Parquet, and this is csv"):
        loaded(monkeypatch, tmp_path / "rows.csv", stream=True)
    with pytest.raises(LoadError, match="does not exist"):
        loaded(monkeypatch, tmp_path / "none.parquet", stream=True)
    with pytest.raises(LoadError, match="holds no rows"):
        loaded(monkeypatch, stored(people()[:0], tmp_path, "e.parquet"), stream=True)
    (tmp_path / "b.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(LoadError, match="not a readable Parquet file"):
        loaded(monkeypatch, tmp_path / "b.parquet", stream=True)
    nested = pa.table({"sex": [["F"]], "race": ["A"], "earned": ["yes"], "granted": ["no"]})
    pq.write_table(nested, tmp_path / "n.parquet")
    with pytest.raises(LoadError, match="'sex' is of type list"):
        loaded(monkeypatch, tmp_path / "n.parquet", stream=True)


def test_a_column_that_names_single_rows_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("audit.readers.combinations._MOST", 1_000)
    path = stored(people().assign(name=np.arange(ROWS).astype(str)), tmp_path)
    with pytest.raises(LoadError, match="more than 1,000 combinations of values"):
        loaded(monkeypatch, path, stream=True, sensitive=("name",))
