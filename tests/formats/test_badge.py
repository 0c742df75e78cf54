"""The badge: the verdict's word, readable for everybody, and no way for a record to put anything else in."""

from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
import records

from audit.formats.badge import _COLOURS, FILE, badge
from audit.policy import Verdict
from audit.wording import VERDICT_WORDS

SVG = "{http://www.w3.org/2000/svg}"


def with_verdict(verdict, **fields):
    record = records.every_verdict()
    return replace(record, verdict=replace(record.verdict, verdict=verdict, **fields))


@pytest.mark.parametrize("verdict", list(Verdict))
def test_the_word_is_shown_and_told(verdict):
    picture = ET.fromstring(badge(with_verdict(verdict)))  # noqa: S314 - it is our own
    word, meaning = VERDICT_WORDS[verdict]
    assert [item.text for item in picture.iter(f"{SVG}text")] == ["model audit", word]
    assert picture.get("role") == "img"
    assert picture.get("aria-label") == picture.find(f"{SVG}title").text == f"model audit: {word}"
    assert picture.find(f"{SVG}desc").text == meaning


def test_a_waived_limit_is_part_of_the_word():
    picture = badge(with_verdict(Verdict.FAIL, waived=2)).decode()
    assert picture.count("FAIL, 2 waived") == 3


def test_only_a_pass_is_green():
    assert [v for v in Verdict if _COLOURS[v] == _COLOURS[Verdict.PASS]] == [Verdict.PASS]


def luminance(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("colour", sorted({*_COLOURS.values(), "#24292f"}))
def test_the_word_has_contrast(colour):
    """WCAG 2.2, 1.4.3: (1.05) / (L + .05) of at least 4.5 for white on it."""
    assert 1.05 / (luminance(colour) + 0.05) >= 4.5


def test_it_asks_for_nothing_and_runs_nothing():
    text = badge(records.every_verdict()).decode()
    assert not any(word in text for word in ("<script", "href", "url(", "<image", "@import"))
    assert text.count("http") == 1  # the name space


@pytest.mark.parametrize("text", records.HOSTILE)
def test_no_text_of_a_record_gets_in(text):
    hostile, plain = records.hostile(text), records.every_verdict()
    assert badge(hostile) == badge(
        replace(plain, verdict=replace(plain.verdict, verdict=hostile.verdict.verdict))
    )


def test_the_same_record_gives_the_same_bytes():
    assert badge(records.every_verdict()) == badge(records.every_verdict())
    assert FILE == "badge.svg"
