"""Texts, numbers and times of a record for programs: short, exact, and never able to do anything."""

import json
import math
import re

import pytest
import records
from hypothesis import given
from hypothesis import strategies as st

from audit.formats.text import as_json, file_of, line, moment, number, sha256_of, where

TEXTS = st.text(st.characters(codec=None))


@given(TEXTS)
def test_a_line_is_one_line_of_a_bounded_length_that_can_be_written(text):
    got = line(text)
    got.encode()
    assert 0 < len(got) <= 200
    assert got == got.strip()
    assert got.splitlines() == [got]
    assert re.search("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", got) is None


def test_two_long_texts_do_not_become_one():
    first, second = line("y" * 10_000), line("y" * 9_999 + "z")
    assert first != second
    assert first[:-8] == second[:-8]
    assert line("y" * 200) == "y" * 200


def test_a_text_of_nothing_is_unnamed():
    assert line(" \n\t") == line("") == "unnamed"


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_reads_back_as_itself(value):
    assert float(number(value)) == value


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_what_is_undefined_is_no_number(value):
    assert number(value) == ""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2026-11-20T09:12:44+00:00", "2026-11-20T09:12:44Z"),
        ("2026-11-20T09:12:44.5+05:30", "2026-11-20T03:42:44Z"),
        ("2026-11-20T09:12:44", None),
        ("0001-01-01T00:00:00+23:00", None),
        ("yesterday", None),
        (None, None),
        ("9" * 10_000, None),
    ],
)
def test_a_moment_has_a_zone_or_is_none(text, shown):
    assert moment(text) == shown


def test_where_names_groups_then_settings():
    assert where({"sex": "F"}, {"epsilon": 0.03}) == "sex = F, epsilon = 0.03"
    assert where({}, {}) == ""


@pytest.mark.parametrize("digest", ["", "A1" * 32, "a1" * 31, "g1" * 32, None, 7])
def test_what_is_no_sha256_is_not_taken_for_one(digest):
    assert sha256_of({"sha256": digest}) is None
    assert sha256_of({}) is None


def test_a_sha256_is_found_under_its_name():
    assert sha256_of({"config_sha256": "0f" * 32}, "config_sha256") == "0f" * 32


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        ({"file": "m.pt2"}, "m.pt2"),
        ({"path": "/home/someone/secret/m.pt2"}, "m.pt2"),
        ({"path": "C:\\models\\m.pt2"}, "m.pt2"),
        ({"file": "../../etc/passwd"}, "passwd"),
        ({}, "model"),
    ],
)
def test_a_file_is_named_without_its_folder(facts, name):
    assert file_of(facts, "model") == name


@given(st.recursive(TEXTS | st.integers() | st.none(), lambda v: st.lists(v) | st.dictionaries(TEXTS, v)))
def test_json_can_always_be_written_and_is_the_same_every_time(value):
    content = as_json(value)
    assert content == as_json(value)
    json.loads(content.decode("utf-8"))


def test_json_spells_out_what_would_change_what_is_read():
    content = as_json({"a\u202eb": "\x1b[31m\ud800"}).decode()
    assert json.loads(content) == {"a⟨U+202E⟩b": "⟨U+001B⟩[31m⟨U+D800⟩"}


def test_json_refuses_what_is_no_number():
    with pytest.raises(ValueError, match="JSON"):
        as_json({"x": math.nan})


def test_hostile_texts_of_these_tests_hold_what_they_are_there_for():
    joined = "".join(records.HOSTILE)
    assert all(mark in joined for mark in ("\x00", "\ud800", "\u202e", "<script>", "\ufffe", "]]>", "](java"))
