"""Two judges, one verdict: whatever audit.judge decides of a random record follows from it here as well."""

import copy
import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
import records
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.evidence import Doubt
from audit.judge import judge
from audit.policy import Limit, Policy, Verdict
from audit.proof.numbers import numbers, verdicts
from audit.proof.outcome import fingerprint, outcome
from audit.proof.verdicts import in_words, judgements, needed_holds
from audit.record import Baseline, Change, Finding, Planned, canonical
from audit.stats import measure, proportion
from audit.waiver import Waiver, Waivers
from audit.waiver import fingerprint as fingerprint_there

NAMES = ("accuracy", "error", "gap", "mean")
CHECKS = ("a.one", "b.two", "c.three")
GROUPS = ({}, {"sex": "Female"}, {"sex": "Male", "race": "Other"})
WHERE = ({}, {"epsilon": 0.1}, {"epsilon": 1.0, "norm": "linf", "quick": True})
LENIENCY = st.sampled_from(["fail", "warn", "pass"])
DOUBTED = st.lists(st.sampled_from(NAMES), unique=True).map(tuple)
SOMETIMES = st.integers(0, 12).map(lambda n: "doubtful" if n == 7 else "")


@st.composite
def measures(draw):
    name, n = draw(st.sampled_from(NAMES)), draw(st.integers(0, 300))
    x = n if n < 2 else draw(st.integers(0, n))
    facts = {
        "group": draw(st.sampled_from(GROUPS)),
        "settings": draw(st.sampled_from(WHERE)),
        "unreliable": draw(SOMETIMES),
        "too_few": draw(SOMETIMES),
        "left_out": draw(SOMETIMES),
        "better": draw(st.sampled_from(["higher", "lower", "neither"])),
    }
    if name == "gap":
        counts = {"x1": x, "n1": n, "x0": draw(st.integers(0, 50)), "n0": 50}
        return measure(name, "newcombe", counts, n=n + 50, **facts)
    if name == "mean":
        return measure(name, "student_t", {"n": n, "mean": x / 300, "sd": 0.3}, n=n, **facts)
    item = proportion(name, x, n, **facts)
    return replace(item, method="", statistics={}) if draw(st.integers(0, 9)) == 0 else item


@st.composite
def stray_limits(draw):
    """Of anything, whether it was measured or not."""
    return Limit(
        check=draw(st.sampled_from(CHECKS)),
        measure=draw(st.sampled_from((*NAMES, "absent"))),
        at_least=0.5,
        where=draw(st.sampled_from(WHERE)),
        group=draw(st.sampled_from(["whole", "each", {"sex": "Female"}])),
    )


@st.composite
def aimed_limits(draw, pool):
    """Of one measure, near its value, so that every verdict comes up."""
    check, item = draw(st.sampled_from(pool))
    bound = (item.value or 0.3) + draw(st.sampled_from([-0.3, -0.05, -0.01, 0, 0.01, 0.05, 0.3]))
    least, most = draw(
        st.sampled_from([(bound, None), (None, bound), (bound - 0.1, bound + 0.1), (None, None)])
    )
    change = least is most is None or draw(st.integers(0, 4)) == 0
    return Limit(
        check=check,
        measure=item.name,
        at_least=least,
        at_most=most,
        where=draw(st.sampled_from([{}, item.settings])),
        group=draw(st.sampled_from(["whole", "each", item.group or "whole"])),
        no_worse_than="baseline" if change else "",
        margin=draw(st.sampled_from([0, 0.05])) if change else 0,
    )


@st.composite
def findings(draw, check):
    status = draw(st.sampled_from(["measured"] * 6 + ["broken", "not_applicable", "not_evaluable"]))
    found = draw(st.lists(measures(), min_size=1, max_size=6)) if status == "measured" else []
    doubt = Doubt(
        checks=[draw(st.sampled_from(["a.one", "*"]))], measures=["accuracy"], reason="another check says so"
    )
    doubts = (doubt,) if draw(st.integers(0, 5)) == 0 else ()
    reason = "" if status == "measured" else "why"
    return Finding(
        check=check,
        version="1",
        title=check,
        status=status,
        measures=tuple(found),
        reason=reason,
        doubts=doubts,
    )


@st.composite
def judged(draw):
    present = draw(st.lists(st.sampled_from(CHECKS), min_size=1, unique=True))
    found = tuple(draw(findings(name)) for name in present)
    changes = tuple(
        Change(check=draw(st.sampled_from(present)), measure=item)
        for item in draw(st.lists(measures(), max_size=4))
    )
    pool = [(item.check, one) for item in found for one in item.measures]
    pool += [(item.check, item.measure) for item in changes]
    aimed = draw(st.lists(aimed_limits(pool), min_size=1, max_size=6)) if pool else []
    stray = draw(stray_limits()) if draw(st.integers(0, 3)) == 0 else None
    asked = draw(st.lists(st.sampled_from(CHECKS), max_size=1))
    plan = tuple(
        Planned(
            check=name,
            asked=draw(st.sampled_from(["name", "pattern"])),
            doubted_by=draw(st.dictionaries(st.sampled_from(["gone", *CHECKS]), DOUBTED, max_size=2)),
        )
        for name in dict.fromkeys([*present, *asked])
    )
    policy = Policy(
        limits=tuple([*aimed, stray] if stray else aimed),
        family_wise_level=draw(st.sampled_from([0.9, 0.95, 0.99])),
        **{f"on_{what}": draw(LENIENCY) for what in
           ("inconclusive", "not_evaluable", "broken", "not_applicable")},
    )  # fmt: skip
    facts = {"run": "b", "record_sha256": "0" * 64, "model": {}, "paired": False, "why": "", "level": 0.95}
    baseline = Baseline(**facts, changes=changes) if draw(st.booleans()) else None
    record = records.made(found, plan=plan, policy=policy, baseline=baseline)
    return judge(record, waivers=Waivers(given=draw(waivers(record)), day=date(2026, 11, 21)))


def waivers(record):
    failed = [
        fingerprint_there(item.check, one)
        for item in record.findings
        for one in item.verdicts
        if one.verdict is Verdict.FAIL
    ]
    one = st.builds(
        Waiver,
        finding=st.sampled_from([*failed, "f" * 16]),
        model=st.sampled_from(["a1" * 32, "b2" * 32]),
        owner=st.just("Ann"),
        reason=st.just("later"),
        expires=st.sampled_from([date(2026, 11, 20), date(2026, 11, 21), date(2027, 1, 1)]),
    )
    return st.lists(one, max_size=3).map(tuple)


def as_read(record):
    return json.loads(canonical(record))


def faults(record):
    return [str(item) for item in (*numbers(record), *verdicts(record)) if item.kind == "wrong"]


@settings(max_examples=150, deadline=None)
@given(judged())
def test_what_the_judge_decides_always_follows(record):
    assert faults(as_read(record)) == []


@settings(max_examples=50, deadline=None)
@given(judged(), st.data())
def test_no_field_of_a_judgement_can_be_edited(record, data):
    value = as_read(record)
    places = [(f, v) for f, item in enumerate(value["findings"]) for v in range(len(item["verdicts"]))]
    if not places:
        return
    at, number = data.draw(st.sampled_from(places))
    changes = {
        "verdict": ("PASS", "FAIL"), "matched": (False, True), "measure": ("x", "y"), "comparisons": (98, 99),
        "value": (0.123, 0.321), "low": (0.123, 0.321), "high": (0.123, 0.321), "bound": (0.123, 0.321),
        "level": (0.5, 0.6), "at_least": (0.77, 0.78), "at_most": (0.77, 0.78), "group": ({"x": "y"}, {}),
        "waived": ("waived by Eve", ""), "limit": ("accuracy at least 0.01", "none"),
    }  # fmt: skip
    for key, (one, other) in changes.items():
        edited = copy.deepcopy(value)
        mine = edited["findings"][at]["verdicts"][number]
        mine[key] = one if mine[key] != one else other
        assert any(f"/findings/{at}/verdicts/{number}/{key}" in text for text in faults(edited)), key


@settings(max_examples=25, deadline=None)
@given(judged())
def test_no_field_of_the_outcome_can_be_edited(record):
    value = as_read(record)
    edits = {
        "verdict": "PASS" if value["verdict"]["verdict"] != "PASS" else "FAIL",
        "exit_code": (value["verdict"]["exit_code"] + 1) % 3,
        "counts": {**value["verdict"]["counts"], "PASS": 99},
        "planned": 99,
        "measured": 99,
        "waived": 99,
        "reasons": [*value["verdict"]["reasons"], "All is well."],
    }
    for key, edited in edits.items():
        assert any(
            f"#/verdict/{key}" in text
            for text in faults({**value, "verdict": {**value["verdict"], key: edited}})
        ), key


def one_limit(x, n, least, **fields):
    finding = Finding(
        check="a.one", version="1", title="One", status="measured",
        measures=(proportion("accuracy", x, n, **fields),),
    )  # fmt: skip
    limit = Limit(check="a.one", measure="accuracy", at_least=least)
    return as_read(records.made((finding,), policy=Policy(limits=(limit,))))


@pytest.mark.parametrize(
    ("x", "n", "expected"),
    [(95, 100, "PASS"), (60, 100, "FAIL"), (80, 100, "INCONCLUSIVE"), (0, 0, "NOT_EVALUABLE")],
)
def test_verdicts_worked_by_hand(x, n, expected):
    """Wilson at 95 %: 95/100 is [.888, .978], 60/100 [.502, .691], 80/100 [.711, .867]; the limit is .8."""
    record = one_limit(x, n, 0.8)
    (found,) = judgements(record, record["findings"][0])
    assert found["verdict"] == expected
    assert outcome(record)["exit_code"] == {"PASS": 0, "FAIL": 1}.get(expected, 2)


def test_a_number_of_rows_that_would_not_settle_it_is_found():
    record = one_limit(83, 100, 0.8)
    (must,) = judgements(record, record["findings"][0])
    needed = record["findings"][0]["verdicts"][0]["needed_n"]
    assert needed_holds(must, needed)
    assert not any(needed_holds(must, wrong) for wrong in (None, needed // 2, needed * 2, 1))


def test_a_limit_in_words_is_the_one_of_the_policy():
    limit = Limit(
        check="a", measure="m", at_least=0.5, at_most=2, where={"epsilon": 0.03}, group={"sex": "x"}
    )
    assert in_words(vars(limit)) == str(limit)
    change = Limit(check="a", measure="m", no_worse_than="baseline", margin=0.01, group="each")
    assert in_words(vars(change)) == str(change)


def test_a_waiver_names_the_same_judgement_here_and_there():
    record = records.every_verdict()
    for finding, plain in zip(record.findings, as_read(record)["findings"], strict=True):
        for there, here in zip(finding.verdicts, plain["verdicts"], strict=True):
            assert fingerprint(plain["check"], here) == fingerprint_there(finding.check, there)


def waived_until(day, held):
    """A broken limit that was waived until a day, held against it on another one."""
    measured = records.made(
        (Finding(check="a.b", version="1", title="t", status="measured",
                 measures=(proportion("accuracy", 10, 100),)),),
        model={"sha256": "a1" * 32}, run={"id": "x", "started": "2026-01-02T00:00:00+00:00"},
        policy=Policy(limits=(Limit(check="a.b", measure="accuracy", at_least=0.8),)),
    )  # fmt: skip
    (judged,) = judge(measured).findings[0].verdicts
    given = Waiver(
        finding=fingerprint_there("a.b", judged), model="a1" * 32, owner="A. Lee", reason="r", expires=day
    )
    return as_read(judge(measured, None, Waivers(given=(given,), day=held)))


@pytest.mark.parametrize(
    ("day", "ended"), [(date(2026, 1, 5), True), (datetime.now(UTC).date() + timedelta(days=9), False)]
)
def test_who_answers_for_a_broken_limit_is_told_and_when_that_ended(day, ended):
    said = [item.text for item in verdicts(waived_until(day, date(2026, 1, 3))) if item.kind == "noted"]
    assert "1 broken limit let through as of 2026-01-03 by waivers" in said[0]
    assert f"waived by A. Lee until {day}: r" in said[0]
    assert any("ended before today" in text for text in said) == ended


def test_a_waiver_cannot_be_held_against_a_run_before_it_began():
    record = waived_until(date(2026, 1, 1), date(2026, 1, 1))
    assert record["verdict"]["exit_code"] == 0
    assert [item.where for item in verdicts(record) if item.kind == "wrong"] == ["record.json#/waivers/day"]


@pytest.mark.parametrize("text", records.HOSTILE[:7])
def test_hostile_texts_change_no_verdict(text):
    assert faults(as_read(records.hostile(text))) == []


def test_numbers_without_sums_are_counted_and_never_skipped():
    record = one_limit(95, 100, 0.8)
    item = record["findings"][0]["measures"][0]
    item.update(method="mystery", statistics={})
    said = [item for item in (*numbers(record), *verdicts(record)) if item.kind != "proved"]
    assert [(item.kind, "1 " in item.text) for item in said] == [("noted", True), ("open", True)]
    assert "mystery: 1" in said[0].text
