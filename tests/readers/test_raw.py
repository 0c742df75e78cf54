import hashlib
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import LoadError
from audit.readers.raw import Raw, as_number, as_text, cell_at, coded, digest, missing_rows, numbers


@pytest.mark.parametrize(
    ("cell", "text"),
    [(1.0, "1"), (1, "1"), (-1.0, "-1"), (0.5, "0.5"), (b"ab", "ab"), (True, "True"), ("N/A", "N/A")],
)
def test_a_cell_is_written_as_the_user_writes_it(cell, text):
    assert as_text(cell) == text


@pytest.mark.parametrize(
    ("text", "number"), [(" 1.5 ", 1.5), ("True", 1.0), ("false", 0.0), ("-2e3", -2000.0)]
)
def test_numbers_are_read(text, number):
    assert as_number(text) == number


@pytest.mark.parametrize("text", ["", "1_000", "Male", "1,5"])
def test_what_is_no_number_is_nan(text):
    assert math.isnan(as_number(text))


def test_cells_of_one_text_share_a_code():
    codes, texts = coded(pd.Series([1, "1", None, "a", np.nan], dtype=object))
    assert codes.tolist() == [0, 0, -1, 1, -1]
    assert texts == ["1", "a"]


def test_missing_counts_empty_cells_and_markers_but_not_other_words():
    column = pd.Series(["a", " N/A ", None, "NA-like", "?"], dtype=object)
    assert missing_rows(column, ("N/A", "?")).tolist() == [False, True, True, False, True]


@given(
    st.lists(
        st.text(max_size=6) | st.floats().map(repr) | st.sampled_from(["1_0", " 2 ", "True"]), max_size=5
    )
)
def test_a_column_of_text_is_read_as_its_cells_are(cells):
    found = numbers(pd.Series(cells, dtype=object))
    np.testing.assert_array_equal(found, [as_number(cell) for cell in cells])


def test_a_number_may_stand_for_a_missing_value():
    assert missing_rows(pd.Series([1.0, -999.0, np.nan]), ("-999", "?")).tolist() == [False, True, True]
    assert missing_rows(pd.Series([True, False]), ("?",)).tolist() == [False, False]


def test_nullable_integers_stay_whole_beside_an_empty_cell():
    column = pd.Series([1, None, 3], dtype="Int64")
    assert coded(column)[1] == ["1", "3"]
    np.testing.assert_array_equal(numbers(column), [1, np.nan, 3])


def test_the_first_marked_cell_is_named_by_its_row_in_the_file():
    column = pd.Series(["a", "b", None], index=[4, 9, 11], dtype=object)
    assert cell_at(column, np.array([False, True, True])) == (9, "'b'")
    assert cell_at(column, np.array([False, False, True])) == (11, "(empty)")


def test_an_unknown_column_names_the_nearest(tmp_path):
    raw = Raw(path=tmp_path / "x.csv", table=pd.DataFrame({"income": ["1"]}), target="income")
    with pytest.raises(LoadError, match=r"x\.csv has no column 'incme', which \[data\] target .*'income'"):
        raw.column("incme", "[data] target")


def test_digest_is_the_sha256_of_the_file(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"abc" * 1_000_000)
    assert digest(path) == hashlib.sha256(b"abc" * 1_000_000).hexdigest()
    with pytest.raises(LoadError, match="cannot be read"):
        digest(tmp_path / "absent")
