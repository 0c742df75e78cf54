import csv

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.config import DataSection
from audit.errors import LoadError
from audit.read import load_data
from audit.readers.csv import read, read_table

HOSTILE = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12) | st.sampled_from(
    [
        "<script>alert(1)</script>",
        'a"b',
        "x,y",
        "line\nbreak",
        "\r\n",
        "nul\0byte",
        "é",
        "🏳️‍🌈",
        "N/A ",
        "=1+1",
        "unknown",
    ]
)


def write(path, header, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([header, *rows])
    return path


def test_every_cell_stays_the_text_it_is(tmp_path):
    path = write(tmp_path / "a.csv", ["x", "y"], [["N/A", "007"], ["", "1.0"], ["nan", " a "]])
    table = read_table(path)
    assert table["x"].tolist() == ["N/A", "", "nan"]
    assert table["y"].tolist() == ["007", "1.0", " a "]
    assert table.index.tolist() == [1, 2, 3]


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_the_separator_of_the_header_is_used(tmp_path, mark):
    path = tmp_path / "a.csv"
    path.write_text(f"\ufeffx{mark}y\n1{mark}2\n", encoding="utf-8")
    assert read_table(path).to_dict("list") == {"x": ["1"], "y": ["2"]}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is empty"),
        (b"x,y\n", "no rows"),
        (b"x,y\n1,2\n3\n", "row 2 has 1 cells.*2 columns.*'3'"),
        (b"x,y\n1,2,3\n", "row 1 has 3 cells"),
        (b"x,x\n1,2\n", "two columns are called 'x'"),
        (b"x,\n1,2\n", "column 2 has no name"),
        (b"x,y\n1,\xff\n", "not UTF-8"),
        (b'x,y\n1,"2\n', "not a CSV file"),
    ],
)
def test_a_damaged_file_gets_one_sentence(tmp_path, content, complaint):
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(LoadError, match=complaint) as caught:
        read_table(path)
    assert "bad.csv" in str(caught.value)
    assert caught.value.exit_code == 4


def test_a_table_needs_the_name_of_its_labels(tmp_path):
    path = write(tmp_path / "a.csv", ["x", "y"], [["1", "2"]])
    with pytest.raises(LoadError, match=r"target is missing.*a\.csv.*'x', 'y'"):
        read(path, DataSection(path=path))


def test_many_rows_keep_their_order_and_number(tmp_path):
    path = write(tmp_path / "a.csv", ["x"], [[str(i)] for i in range(120_000)])
    table = read_table(path)
    assert table["x"].tolist() == [str(i) for i in range(120_000)]
    assert table.index[-1] == 120_000


@settings(max_examples=60, deadline=None)
@given(
    names=st.lists(HOSTILE.filter(str.strip), min_size=2, max_size=2, unique=True),
    cells=st.lists(st.tuples(HOSTILE, HOSTILE), min_size=1, max_size=12),
)
def test_hostile_names_and_values_keep_labels_and_groups_exactly(tmp_path_factory, names, cells):
    label, group = names
    header = [label, group, "the input of the model"]
    path = write(tmp_path_factory.mktemp("h") / "h.csv", header, [[*row, "1.5"] for row in cells])
    section = DataSection(
        path=path, target=label, sensitive=(group,), inputs=("the input of the model",), missing=()
    )
    data = load_data(section, path.parent)
    found = data.sensitive[group]
    assert [found.groups[code] for code in found.codes] == [row[1] for row in cells]
    wanted = [row[0] for row in cells]
    if all(text.removeprefix("-").isdecimal() for text in wanted):
        assert [int(data.classes[code]) for code in data.labels] == [int(text) for text in wanted]
    else:
        assert [data.classes[code] for code in data.labels] == wanted
