"""JSON from anywhere is a value or one sentence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import ConfigError
from audit.jsontext import MOST_NESTED, parse_json


def nested(levels: int) -> str:
    return '[{"a":' * (levels // 2) + "[" * (levels % 2) + "1" + "]" * (levels % 2) + "}]" * (levels // 2)


@pytest.mark.parametrize("levels", [0, 1, 2, 99, MOST_NESTED])
def test_what_is_nested_as_deep_as_may_be_is_read(levels):
    assert parse_json(nested(levels), "file") is not None


@pytest.mark.parametrize("levels", [MOST_NESTED + 1, MOST_NESTED + 2, 900, 100_000])
def test_what_is_nested_deeper_is_one_sentence(levels):
    with pytest.raises(ConfigError, match=r"^file cannot be read as JSON: .* more than 100 levels deep\.$"):
        parse_json(nested(levels), "file")


@given(st.binary() | st.text())
def test_anything_is_a_value_or_one_sentence(content):
    said = "file cannot be read as JSON: "
    try:
        parse_json(content, "file")
    except ConfigError as error:
        said = str(error)
    assert said.startswith("file cannot be read as JSON: ")
