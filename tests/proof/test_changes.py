"""Changes: what a comparison says follows from its differences, and no word of it can be edited."""

import copy
import json

import numpy as np
import pytest
import records
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import CALIBRATED, MEASURED, answered, made_run, people

from audit.compare import compare, settle
from audit.policy import Limit, Policy
from audit.proof.changes import changes
from audit.record import Baseline, Change, canonical
from audit.stats import measure

CHECKS = {name: MEASURED[name] for name in ("performance.accuracy", "fairness.groups")}
LIMITS = Policy(
    limits=(
        Limit(check="performance.accuracy", measure="accuracy", at_least=0.8),
        Limit(check="fairness.groups", measure="selection_rate", at_least=0.3, group="each"),
        Limit(
            check="performance.accuracy",
            measure="accuracy",
            at_least=0.5,
            no_worse_than="baseline",
            margin=0.01,
            group="each",
        ),
    ),
    family_wise_level=0.9,
)
FACTS = {"run": "b", "record_sha256": "0" * 64, "model": {}, "paired": True, "why": ""}


def plain(noun):
    return json.loads(canonical(noun))


def wrong(value):
    return {item.where.rpartition("baseline/")[2] for item in changes(value) if item.kind == "wrong"}


def compared(folder, checks, *, paired=True, loss=0.12, policy=LIMITS, **given):
    """A comparison of two models on 1,500 people, of which the later one gets some wrong."""
    data, random = people(1500, seed=3), np.random.default_rng(5)
    first = random.random(1500) < 0.9
    second = first & (random.random(1500) >= loss)
    made_run(folder / "a", data, answered(data, first, 1, **given), checks=checks)
    rows = data if paired else people(1500, seed=4)
    made_run(folder / "b", rows, answered(rows, second, 2, **given), model="b", checks=checks)
    return plain(compare(folder / "a", folder / "b", policy))


@pytest.fixture(scope="module")
def worse(tmp_path_factory):
    return compared(tmp_path_factory.mktemp("worse"), CHECKS)


def places(value, state):
    return [at for at, item in enumerate(value["baseline"]["changes"]) if item["state"] == state]


def test_what_the_comparison_says_follows(worse):
    (follows, baseline) = changes(worse)
    assert (follows.kind, baseline.kind) == ("proved", "noted")
    assert "not looked at" in baseline.text
    assert {"worse", "unchanged", "new"} <= {item["state"] for item in worse["baseline"]["changes"]}


@pytest.mark.parametrize(
    ("checks", "given"),
    [
        (CHECKS, {"paired": False}),
        (CHECKS, {"loss": 0.0}),
        (CALIBRATED, {}),
        (CHECKS, {"policy": Policy()}),
    ],
    ids=["other rows", "no row answered otherwise", "areas and errors", "no limits"],
)
def test_so_does_what_others_say(tmp_path, checks, given):
    value = compared(tmp_path, checks, **given)
    assert len(value["baseline"]["changes"]) > 5
    assert wrong(value) == set()


def test_a_record_without_a_baseline_has_nothing_to_say():
    assert list(changes(plain(records.made()))) == []


@pytest.mark.parametrize(
    ("state", "edit", "where"),
    [
        ("worse", {"moved": "unchanged", "state": "unchanged"}, {"moved"}),
        ("worse", {"moved": "better", "state": "better"}, {"moved"}),
        ("worse", {"state": "unchanged"}, {"state"}),
        ("worse", {"state": "not compared"}, {"state"}),
        ("worse", {"moved": "", "state": "not compared"}, {"moved"}),
        ("unchanged", {"moved": "better", "state": "better"}, {"moved"}),
        ("unchanged", {"state": "no longer tested"}, {"state", ""}),
        ("new", {"state": "worse"}, {"state"}),
        ("new", {"now": "PASS", "state": "worse"}, {"now", "state"}),
        ("worse", {"new": 0.987654}, {"new"}),
    ],
)
def test_no_word_of_a_change_can_be_edited(worse, state, edit, where):
    value = copy.deepcopy(worse)
    at = places(worse, state)[0]
    value["baseline"]["changes"][at] |= edit
    assert wrong(value) == {f"changes/{at}/{key}" if key else "changes" for key in where}


@pytest.mark.parametrize(("key", "value"), [("level", 0.95), ("comparisons", 1), ("alike", 999)])
def test_nor_what_they_share(worse, key, value):
    edited = copy.deepcopy(worse)
    edited["baseline"][key] = value
    assert wrong(edited) == {key}


def test_a_change_settled_at_a_level_of_its_own_is_found(worse):
    value = copy.deepcopy(worse)
    at = places(worse, "unchanged")[0]
    value["baseline"]["changes"][at]["measure"]["level"] = 0.99
    assert wrong(value) == {f"changes/{at}/measure/level"}


@pytest.mark.parametrize("state", ["worse", "unchanged", "new"])
def test_a_change_that_is_left_out_is_missed(worse, state):
    value = copy.deepcopy(worse)
    del value["baseline"]["changes"][places(worse, state)[0]]
    assert "changes" in wrong(value)


def test_a_difference_that_is_said_to_be_none_is_found(worse):
    value = copy.deepcopy(worse)
    at = places(worse, "worse")[0]
    value["baseline"]["changes"][at] |= {"moved": "", "state": "not compared"}
    value["baseline"]["changes"][at]["measure"] |= {"value": None, "low": None, "high": None}
    assert "comparisons" in wrong(value)


@st.composite
def differences(draw):
    counts = st.integers(0, 40)
    cells = {key: draw(counts) for key in ("both", "base_only", "new_only", "neither")}
    better = draw(st.sampled_from(["higher", "lower", "neither"]))
    item = measure("accuracy", "paired_proportions", cells, unit="difference", better=better)
    was = draw(st.sampled_from(["", "PASS", "FAIL"]))
    return Change(check="a.one", measure=item, new=item.value, was=was)


@settings(max_examples=60, deadline=None)
@given(st.lists(differences(), min_size=1, max_size=12), st.sampled_from([0.6, 0.9, 0.95]), st.data())
def test_any_family_is_settled_by_both_alike_and_no_other_way_holds(items, level, data):
    settled, tested, alike = settle(items, level)
    baseline = Baseline(**FACTS, level=level, comparisons=tested, alike=alike, changes=tuple(settled))
    value = plain(records.made((), policy=Policy(family_wise_level=level), baseline=baseline))
    assert wrong(value) == set()
    at = data.draw(st.integers(0, len(items) - 1))
    others = {"worse", "better", "changed", "unchanged"} - {settled[at].moved}
    value["baseline"]["changes"][at]["moved"] = data.draw(st.sampled_from(sorted(others)))
    assert f"changes/{at}/moved" in wrong(value)
