"""Every measure can be read by someone who does not build models, and counts are said, not dumped."""

import tomllib

import pytest

from audit.evidence import Measure
from audit.reading import counts_in_words, how_to_read, method_in_words
from audit.resources import TEMPLATES
from audit.stats import METHODS, proportion

TEXTS = tomllib.loads((TEMPLATES / "measures.toml").read_text(encoding="utf-8"))


def test_a_known_measure_says_what_it_is_how_it_is_computed_and_which_way_is_good() -> None:
    reading = how_to_read(proportion("selection_rate", 30, 100, better="neither"))
    assert reading.title == "Selection rate"
    assert reading.what.startswith("How often people of the group get the outcome")
    assert reading.formula == "people given the favourable outcome ÷ people in the group"
    assert "0.25 is a quarter" in reading.unit
    assert reading.better.startswith("Neither high nor low is better")
    assert "wide interval means that few rows" in reading.interval


def test_an_unknown_measure_is_read_by_its_ending_and_then_by_its_unit() -> None:
    gap = how_to_read(
        Measure(name="true_negative_rate_difference", value=0.1, unit="difference", better="zero")
    )
    assert gap.what.endswith("of those who should not be given the outcome, how many are not.")
    assert gap.formula.startswith("true negative rate of one")
    assert gap.better.startswith("0 is best")
    assert "percentage points" in gap.unit
    ratio = how_to_read(Measure(name="wheels_ratio", value=0.5, unit="ratio", better="one"))
    assert ratio.what == "How the group stands to the one it is compared with, in this: wheels."
    stranger = how_to_read(Measure(name="wheels_per_cart", value=4, unit="wheel_rims"))
    assert "calls wheels per cart" in stranger.what
    assert stranger.formula == ""
    assert stranger.unit == "It is counted in wheel rims."
    for name in ("_difference", "_ratio", ""):
        assert how_to_read(Measure(name=name, value=1)).what.startswith("A number that its check calls")


def test_an_interval_is_explained_by_what_there_is() -> None:
    assert "counted in full" in how_to_read(Measure(name="a", value=1, method="exact")).interval
    assert "No interval" in how_to_read(Measure(name="a", value=1)).interval


@pytest.mark.parametrize("name", TEXTS["measures"])
def test_every_text_is_a_plain_sentence_with_a_formula(name: str) -> None:
    what, formula = TEXTS["measures"][name]
    assert what[0].isupper()
    assert what.endswith(".")
    assert 20 < len(what) <= 400
    assert formula == formula.strip(".")
    assert not {"`", "_", "<"} & set(what + formula)


def test_every_interval_method_has_words_and_an_unknown_one_its_name() -> None:
    for method in METHODS:
        said = method_in_words(Measure(name="a", value=1, low=0, high=2, level=0.95, method=method))
        assert said.endswith(", 95 %")
    assert method_in_words(proportion("rate", 3, 10)) == "Wilson score interval, 95 %"
    assert method_in_words(Measure(name="a", value=1, method="exact")) == "counted in full, no interval"
    assert method_in_words(Measure(name="a", value=1, method="my_own")) == "My own"
    assert method_in_words(Measure(name="a", value=1)) == ""


def test_counts_are_said_as_parts_of_a_whole_and_long_lists_are_named() -> None:
    assert counts_in_words({"x": 408, "n": 5421}) == "408 of 5,421"
    assert counts_in_words({"n0": 10, "n1": 20, "x0": 3, "x1": 4}) == "4 of 20 against 3 of 10"
    assert counts_in_words({"n": 200, "mean": 0.117, "sd": 2.0}) == "n 200, mean 0.117, sd 2"
    assert counts_in_words({"table": [[1] * 5] * 5}) == "table (25 counts, in the record)"
    assert counts_in_words({"x": [1, 2], "n": [3, 4]}) == "x 1, 2, n 3, 4"
    assert counts_in_words({"metric": "auc", "flag": True}) == "metric auc, flag yes"
    assert counts_in_words({}) == ""
