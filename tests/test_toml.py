"""What a person wrote is read, or refused in one sentence with the key, where it stands and what would do."""

from datetime import date
from pathlib import Path

import pytest

from audit import toml
from audit.errors import ConfigError


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('x = "é"\n[[y]]\nz = 2026-11-21\n', encoding="utf-8")
    assert toml.read_toml(path, "make one") == {"x": "é", "y": [{"z": date(2026, 11, 21)}]}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"x = ", "cannot be read as TOML"),
        (b"\xff", "cannot be read as TOML"),
        (b"x = " + b"[" * 50_000, "TOML"),
        (b"x = " + b"1" * 5_000, "cannot be read as TOML"),
    ],
)
def test_what_is_no_toml_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=said) as error:
        toml.read_toml(path, "make one")
    assert str(path) in str(error.value)


def test_a_file_that_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist; make one"):
        toml.read_toml(tmp_path / "a.toml", "make one")
    with pytest.raises(ConfigError, match="cannot be read"):
        toml.read_toml(tmp_path, "make one")


def test_values_of_the_right_kind_pass() -> None:
    values = {
        "t": " a ",
        "l": [" b", "c "],
        "f": False,
        "d": date(2026, 1, 2),
        "q": "2026-01-02",
        "n": [{"k": 1}],
    }
    assert toml.text(values, "t", "w") == "a"
    assert (toml.optional_text(values, "t", "w"), toml.optional_text(values, "absent", "w")) == ("a", "")
    assert (toml.texts(values, "l", "w"), toml.texts(values, "absent", "w")) == (("b", "c"), ())
    assert (toml.flag(values, "f", "w"), toml.flag(values, "absent", "w")) == (False, None)
    assert toml.day(values, "d", "w") == toml.day(values, "q", "w") == date(2026, 1, 2)
    assert toml.tables(values, "n", "w") == [{"k": 1}]
    assert toml.one_of({"t": "a"}, "t", ("a", "b"), "w") == "a"
    toml.known_keys(values, tuple(values), "w")


@pytest.mark.parametrize(
    ("read", "values", "said"),
    [
        (toml.text, {}, "'k' is missing"),
        (toml.text, {"k": 3}, "'k' = 3 is wrong"),
        (toml.text, {"k": " \n"}, "it must be a text"),
        (toml.text, {"k": 5 * ["x" * 100]}, "…"),
        (toml.texts, {"k": "a"}, "list of texts"),
        (toml.texts, {"k": ["a", ""]}, "list of texts"),
        (toml.flag, {"k": 1}, "it is true or false"),
        (toml.day, {}, "'k' is missing"),
        (toml.day, {"k": ""}, "a date such as"),
        (toml.day, {"k": "2026-02-30"}, "a date such as"),
        (toml.day, {"k": 2026}, "a date such as"),
        (toml.tables, {"k": {"a": 1}}, r"\[\[k\]\]"),
        (lambda v, k, w: toml.one_of(v, k, ("a", "b"), w), {"k": "c"}, "one of a, b"),
        (lambda v, k, w: toml.known_keys(v, ("kay",), w), {"k": "c"}, "'k' is not a known key"),
    ],
)
def test_values_of_another_kind_are_refused(read, values, said) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        read(values, "k", "the place")
    assert str(error.value).startswith("the place: ")


def test_a_time_is_no_date() -> None:
    from datetime import UTC, datetime

    with pytest.raises(ConfigError, match="a date such as"):
        toml.day({"k": datetime(2026, 1, 2, tzinfo=UTC)}, "k", "w")
