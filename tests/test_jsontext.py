"""JSON from anywhere is a value or one sentence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import ConfigError
from audit.jsontext import MOST_NESTED, parse_json
from audit.record import canonical


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
    said = "file "
    try:
        parse_json(content, "file")
    except ConfigError as error:
        said = str(error)
    assert said.startswith("file ")


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999", "1" + "0" * 400, "-" + "9" * 5000])
def test_a_number_without_an_end_is_refused(number):
    for text in (number, f"[{number}]", f'{{"a": {number}}}'):
        with pytest.raises(ConfigError, match=r"^file holds the number -?(nan|inf); numbers must be finite"):
            parse_json(text, "file")


@pytest.mark.parametrize("text", ['"\\ud800"', '["\\udfff"]', '{"\\ud83d": 1}', '[{"a": "\\udc00b"}]'])
def test_half_a_pair_of_surrogates_is_refused(text):
    with pytest.raises(ConfigError, match=r"^file holds '.*', half a pair of surrogates"):
        parse_json(text, "file")


@pytest.mark.parametrize("number", [0, 2**53 - 1, 1 - 2**53, 2.0**53, 3e17, 1e20, 1e300, -4e18, 0.1])
def test_a_number_comes_back_as_it_was_written_and_can_be_written_again(number):
    written = canonical([number])
    (found,) = parse_json(written, "file")
    assert found == number
    assert isinstance(found, float) or abs(found) < 2**53
    assert canonical([found]) == written


def test_a_text_beyond_ascii_is_read():
    assert parse_json('["\\ud83d\\ude00", "é"]', "file") == ["\N{GRINNING FACE}", "é"]
