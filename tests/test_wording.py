"""Numbers and texts become words that cannot mislead, and markup that cannot break out."""

import re
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.policy import Judgement, Limit, Verdict
from audit.wording import (
    LongTexts,
    calendar,
    condition,
    count,
    day,
    exactly,
    facts,
    fixed_when,
    interval,
    limit_in_words,
    number,
    prose,
    roughly,
    sentence,
    setting,
    short,
    slug,
    visible,
    words,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0, "0.000"),
        (0.84249, "0.842"),
        (-0.27, "−0.270"),
        (1234567, "1,234,567"),
        (1234.5, "1,234.5"),
        (0.000032, "3.20 × 10⁻⁵"),
        (3.5e9, "3.50 × 10⁹"),
        (float("inf"), "not a finite number"),
        (True, "yes"),
        ("text", "text"),
    ],
)
def test_numbers(value: object, text: str) -> None:
    assert number(value) == text


def test_small_words() -> None:
    assert exactly(0.8) == "0.8"
    assert interval(0.1, None) == "–"
    assert interval(-0.1, 0.25) == "−0.100 to 0.250"
    assert roughly(40801) == "41,000"
    assert roughly(7) == "7"
    assert (count(1, "check"), count(2, "check")) == ("1 check", "2 checks")
    assert words("robust_accuracy") == "Robust accuracy"
    assert (words("auc_difference"), words("ece"), words("_")) == ("AUC difference", "ECE", "")
    assert condition({"sex": "Female", "epsilon": 0.0313725}) == "sex Female, epsilon 0.03137"
    assert setting([1, 0.5, None, {"a": True}]) == "1, 0.5, none, a: yes"
    assert sentence("the value is undefined") == "The value is undefined."
    assert sentence("robustness.pgd broke.") == "robustness.pgd broke."
    assert sentence(" ") == ""
    assert short("x" * 100) == "x" * 79 + "…"
    assert slug("Rôle <b>: a.b") == "r-le-b-a-b"
    assert slug("漢字") == "unnamed"


def test_times_are_read_where_they_are_times() -> None:
    assert day("2026-11-21T03:14:10+00:00") == "21 November 2026, 03:14 UTC"
    assert day("2026-11-21T03:14:10+02:00") == "21 November 2026, 03:14"
    assert day("yesterday") == "yesterday"


def test_a_limit_in_words_falls_back_on_its_own_text() -> None:
    both = Judgement(limit="x", measure="a", verdict=Verdict.PASS, at_least=0.2, at_most=0.9)
    assert limit_in_words(both) == "at least 0.2 and at most 0.9"
    none = Judgement(limit="gap at most 0.05", measure="gap", verdict=Verdict.BROKEN)
    assert limit_in_words(none) == "at most 0.05"


def test_a_docstring_becomes_paragraphs_lists_and_code() -> None:
    text = "One `x < 1`\nline.\n\nArgs:\n    a: first,\n        goes on.\n    b: second.\n\n- dash\n- other"
    assert prose(text) == (
        "<p>One <code>x &lt; 1</code> line.</p><p>Args:</p>"
        "<ul><li>a: first, goes on.</li><li>b: second.</li></ul>"
        "<ul><li>dash</li><li>other</li></ul>"
    )


def test_a_docstring_cannot_bring_markup() -> None:
    assert "<script" not in prose("<script>alert(1)</script>\n\n- `<img onerror=x>`")
    assert prose("") == ""


def test_marks_that_change_the_reading_direction_are_spelled_out() -> None:
    assert visible("a\u202eb\x07c\ud800") == "a⟨U+202E⟩b⟨U+0007⟩c⟨U+D800⟩"
    assert visible("é 漢 👩\u200d🔬 عربى") == "é 漢 👩\u200d🔬 عربى"


@given(st.text(max_size=60))
def test_whatever_the_text_no_tag_gets_through(text: str) -> None:
    cut = LongTexts()
    for out in (str(prose(text)), str(cut.clip(text, 20)), str(cut.clip(text, 20, code=True))):
        bare = re.sub(r'</?(p|ul|li|code|a)>|<a class="cut" href="#long-[12]">', "", out)
        assert "<" not in bare
        out.encode("utf-8")


def test_a_long_text_is_cut_and_kept_whole_once() -> None:
    cut = LongTexts()
    long = "x" * 10_000
    first, second = cut.clip(long), cut.clip(long)
    assert first == second
    assert "10,000 characters" in first
    assert "#long-1" in first
    assert cut.entries() == [(1, long, 10_000)]
    assert len(first) < 250


def test_facts_keep_everything_that_says_something() -> None:
    found = facts(
        {
            "sha256": "ab" * 32,
            "trust": False,
            "empty": [],
            "none": None,
            "seed": 0,
            "rows": 48842,
            "classes": {f"c{i}": i for i in range(9)},
            "preflight": [{"name": "a", "passed": True}, {"name": "b", "detail": "d"}],
            "caveats": ["left out"],
            "sensitive": {
                "sex": [{"group": "Female", "rows": 3}, {"group": "Male", "rows": 4}],
                "a": {"b": {"c": 1}},
            },
        },
        leave_out=["caveats"],
    )
    by_label = {fact.label: fact for fact in found}
    assert list(by_label) == [
        "Fingerprint (sha256)",
        "Rows",
        "Trust",
        "Seed",
        "Classes",
        "Preflight",
        "Sensitive",
    ]
    assert by_label["Sensitive"].rows == (("sex", "Female: 3, Male: 4"), ("a.b.c", "1"))
    assert by_label["Fingerprint (sha256)"].hash
    assert by_label["Trust"].text == "no"
    assert by_label["Seed"].text == "0"
    assert by_label["Rows"].text == "48,842"
    assert by_label["Classes"].rows[8] == ("c8", "8")
    assert by_label["Preflight"].columns == ("Name", "Passed", "Detail")
    assert by_label["Preflight"].rows == (("a", "yes", ""), ("b", "", "d"))


def test_a_date_is_written_out() -> None:
    assert calendar(date(2026, 1, 2)) == "2 January 2026"


@pytest.mark.parametrize(
    ("fixed", "measured", "said"),
    [
        (
            "2026-11-21T03:14:05+00:00",
            "2026-11-21T03:14:09+00:00",
            "before",
        ),
        (
            "2026-11-21T03:14:09+00:00",
            "2026-11-21T03:14:05+00:00",
            "after",
        ),
        ("2026-11-21T03:14:05+00:00", None, ""),
        (None, "2026-11-21T03:14:05+00:00", ""),
        ("yesterday", "2026-11-21T03:14:05+00:00", ""),
        ("2026-11-21T03:14:05", "2026-11-21T03:14:05+00:00", ""),
        (7, [], ""),
    ],
)
def test_when_the_limits_were_fixed_is_said_only_where_it_is_known(fixed, measured, said):
    times = [f"03:14:{str(time)[17:19]} UTC on 21 November 2026" for time in (fixed, measured)]
    whole = f"The limits were fixed at {times[0]}, {said} the first measurement at {times[1]}."
    assert fixed_when(fixed, measured) == (whole if said else "")


def test_a_limit_on_change_is_not_told_by_the_bounds_of_the_difference():
    asked = Limit(check="c", measure="accuracy", no_worse_than="baseline", margin=0.01, where={"k": 1})
    both = Limit(check="c", measure="accuracy", at_least=0.8, no_worse_than="baseline", group="each")
    judged = Judgement(limit=str(asked), measure="accuracy", verdict=Verdict.PASS, at_least=-0.01)
    assert limit_in_words(asked) == limit_in_words(judged) == "no worse than the baseline by more than 0.01"
    assert limit_in_words(both) == "at least 0.8 and no worse than the baseline"
