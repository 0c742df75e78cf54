"""Coverage follows from the record alone: a clause has exactly the evidence that was really measured."""

import math
import runpy
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.attestation import Attestation
from audit.coverage import STATUS_WORDS, Status, coverage, open_items, record_date, warnings
from audit.document import read_document
from audit.evidence import Doubt, Measure
from audit.framework import Capability, Clause
from audit.judge import judge
from audit.policy import Limit, Policy, Verdict
from audit.record import Finding, Outcome, Planned, Record
from audit.stats import proportion

GOLDEN = Path(__file__).parent / "golden"
PACK = read_document(GOLDEN / "test-pack.toml")
FED_BY = {
    "performance.accuracy": {"2(a)"},
    "fairness.groups": {"2(b)"},
    "robustness.pgd": {"2(c)"},
    "robustness.fgsm": {"2(c)"},
}


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    return runpy.run_path(str(GOLDEN / "builder.py"))["build"](tmp_path_factory.mktemp("run"))


def statuses(record, document=PACK, stated=()):
    return {item.clause.id: item.status for item in coverage(record, document, stated).clauses}


def stated(clause, **parts):
    said = {
        "document": "test-pack",
        "text": "So it is.",
        "name": "Jane",
        "role": "Head",
        "date": date(2026, 1, 2),
    }
    return Attestation(clause=clause, **{**said, **parts})


def made(*findings, data=None, model=None, plan=()):
    return judge(
        Record(
            schema="model-audit/record/1", tool={}, run={}, environment={}, model=model or {},
            data=data or {}, policy=Policy(), plan=plan, findings=findings,
            verdict=Outcome(verdict=Verdict.NOT_JUDGED, exit_code=2),
        )
    )  # fmt: skip


def measured(check, *measures, **parts):
    return Finding(check=check, version="1", title=check, status="measured", measures=measures, **parts)


def clause(*evidence, any_of=False, by="measured", **parts):
    return Clause(
        id="1", part="p", label="l", evidenced_by=by, any_of=any_of,
        evidence=tuple(Capability(check=c, measures=m, groups=g) for c, m, g in evidence), **parts,
    )  # fmt: skip


def one(record, item, stated=()):
    (found,) = coverage(record, replace(PACK, clauses=(item,)), stated).clauses
    return found


def test_the_golden_record_by_hand(record) -> None:
    expected = {
        "1(a)": "NOT_EVIDENCED", "1(b)": "NOT_EVIDENCED", "2(a)": "MEASURED", "2(b)": "MEASURED",
        "2(c)": "MEASURED", "2(d)": "NOT_EVIDENCED", "2(e)": "NOT_EVIDENCED", "2(f)": "NOT_APPLICABLE",
        "3": "NEVER_GENERATED",
    }  # fmt: skip
    assert statuses(record) == expected
    found = coverage(record, PACK)
    assert {status: found.totals[status] for status in Status} == {
        "MEASURED": 3, "ATTESTED": 0, "NOT_EVIDENCED": 4, "NOT_APPLICABLE": 1, "NEVER_GENERATED": 1,
    }  # fmt: skip
    assert [item.clause.id for item in found.open_statements] == ["1(a)", "1(b)", "2(c)", "2(d)"]
    assert [item.clause.id for item in found.open_measurements] == ["2(d)", "2(e)"]
    assert [part for part, _ in found.parts] == ["1 The system", "2 Measurement", "3 Declaration"]


def test_the_verdicts_of_the_limits_on_these_measures_stand_with_the_clause(record) -> None:
    by_id = {item.clause.id: item for item in coverage(record, PACK).clauses}
    assert dict(by_id["2(a)"].sources[0].counts) == {Verdict.PASS: 1}
    tones = {judgement.group["skin_tone"] for judgement in by_id["2(b)"].sources[0].verdicts}
    assert tones == {"light", "medium", "dark"}
    assert {j.measure for j in by_id["2(b)"].sources[0].verdicts} == {"true_positive_rate"}
    pgd, fgsm = by_id["2(c)"].sources
    assert dict(pgd.counts) == {Verdict.FAIL: 1, Verdict.INCONCLUSIVE: 1}
    assert dict(fgsm.counts) == {}


@pytest.mark.parametrize("check", sorted(FED_BY))
def test_removing_a_check_turns_exactly_the_clauses_it_fed(record, check) -> None:
    before = statuses(record)
    fewer = replace(record, findings=tuple(f for f in record.findings if f.check != check))
    after = statuses(fewer)
    turned = {name for name in before if before[name] != after[name]}
    assert turned == FED_BY[check]
    assert all(after[name] is Status.NOT_EVIDENCED for name in turned)


def test_a_check_that_feeds_nothing_turns_nothing(record) -> None:
    unfed = [f.check for f in record.findings if f.check not in FED_BY]
    assert len(unfed) > 3
    kept = replace(record, findings=tuple(f for f in record.findings if f.check in FED_BY))
    assert statuses(kept) == statuses(record)


def test_an_empty_run_is_all_gaps() -> None:
    found = statuses(made())
    assert found.pop("3") is Status.NEVER_GENERATED
    assert set(found.values()) == {Status.NOT_EVIDENCED}, "what is not known to be another kind applies"


def test_group_accuracy_is_separate_from_overall() -> None:
    overall = clause(("performance.accuracy", ("accuracy",), False))
    by_group = clause(("performance.accuracy", ("accuracy",), True))
    whole = proportion("accuracy", 9, 10)
    women = proportion("accuracy", 4, 5, group={"sex": "F"})
    of_class = proportion("accuracy", 4, 5, group={"class": "yes"})
    data = {"sensitive": {"sex": []}}
    for item, expected in [(whole, (True, False)), (women, (False, True)), (of_class, (False, False))]:
        record = made(measured("performance.accuracy", item), data=data)
        assert (one(record, overall).is_measured, one(record, by_group).is_measured) == expected
    record = made(measured("performance.accuracy", of_class), data=data)
    assert one(record, overall).sources[0].missing == "measured, but not of the whole"
    assert one(record, by_group).sources[0].missing == "measured, but not by sensitive group"


@pytest.mark.parametrize(
    ("where", "counts"),
    [({"feature": "sex"}, True), ({"feature": "sex x race"}, True), ({"attribute": "race"}, True),
     ({"feature": "income"}, False), ({"feature": "sex x income"}, False), ({"epsilon": 0.1}, False)],
)  # fmt: skip
def test_a_difference_between_groups_speaks_of_groups(where, counts) -> None:
    item = Measure(name="gap", value=0.1, settings=where)
    record = made(measured("fairness.groups", item), data={"sensitive": {"sex": [], "race": []}})
    assert one(record, clause(("fairness.groups", ("gap",), True))).is_measured is counts
    assert one(record, clause(("fairness.groups", ("gap",), False))).is_measured is not counts
    assert one(record, clause(("fairness.groups", ("gap",), None))).is_measured


@pytest.mark.parametrize(
    ("group", "where", "crossing"),
    [
        ({"sex": "F"}, {}, 1),
        ({"sex": "F", "class": "yes"}, {}, 1),
        ({"sex": "F", "race": "B"}, {}, 2),
        ({"sex": "F", "race": "B", "age": "old"}, {}, 3),
        ({}, {"feature": "sex"}, 1),
        ({}, {"feature": "sex x race"}, 2),
        ({}, {"feature": "sex x income"}, 0),
        ({}, {"attribute": "race"}, 1),
        ({"class": "yes"}, {}, 0),
        ({}, {"epsilon": 0.1}, 0),
        ({}, {"feature": "age x income"}, 1),
    ],
)
def test_a_clause_on_intersections_is_evidenced_only_by_them(group, where, crossing) -> None:
    """`age x income` is one feature here, whatever its name looks like."""
    item = Measure(name="rate", value=0.1, group=group, settings=where)
    data = {"sensitive": {"sex": [], "race": [], "age": [], "age x income": []}}
    record = made(measured("a.b", item), data=data)
    found = {
        groups: one(record, clause(("a.b", ("rate",), groups))).is_measured
        for groups in (None, True, False, "single", "crossed")
    }
    assert found == {
        None: True, True: crossing > 0, False: crossing == 0 and not group,
        "single": crossing == 1, "crossed": crossing > 1,
    }  # fmt: skip


def test_what_lacks_of_the_groups_that_a_clause_asks_for_is_said() -> None:
    women = proportion("rate", 4, 5, group={"sex": "F"})
    black_women = proportion("rate", 4, 5, group={"sex": "F", "race": "B"})
    data = {"sensitive": ["sex", "race"]}
    for item, groups, said in [
        (women, "crossed", "measured, but not for groups of several sensitive features at once"),
        (black_women, "single", "measured, but not by one sensitive feature alone"),
        (black_women, False, "measured, but not of the whole"),
    ]:
        found = one(made(measured("a.b", item), data=data), clause(("a.b", ("rate",), groups)))
        assert (found.status, found.sources[0].missing) == (Status.NOT_EVIDENCED, said)
    published = made(measured("fairness.ll144_published", women, black_women))
    for groups in ("single", "crossed"):
        (counted,) = (
            one(published, clause(("fairness.ll144_published", ("rate",), groups))).sources[0].measures
        )
        assert counted.group == (women if groups == "single" else black_women).group


def test_without_named_sensitive_features_a_fairness_check_says_who_is_a_group() -> None:
    item = proportion("impact_ratio", 4, 5, group={"sex": "F"})
    for check, counts in (("fairness.ll144_published", True), ("reliability.slices", False)):
        assert (
            one(made(measured(check, item)), clause((check, ("impact_ratio",), True))).is_measured is counts
        )


def test_a_file_that_is_present_satisfies_nothing_that_it_does_not_measure() -> None:
    wanted = clause(("a.b", ("recall",), None))
    undefined = Measure(name="recall", value=None, reason="no one was positive")
    for finding, why in [
        (measured("a.b", proportion("precision", 1, 2)), "the check ran and did not measure it"),
        (measured("a.b", undefined), "not defined: no one was positive"),
        (measured("a.c", proportion("recall", 1, 2)), "this check was not run"),
        (Finding(check="a.b", version="1", title="t", status="broken", reason="it died"), "broken: it died"),
        (
            replace(measured("a.b", proportion("recall", 1, 2)), status="not_evaluable", reason="too few"),
            "not evaluable: too few",
        ),
    ]:
        found = one(made(finding), wanted)
        assert (found.status, found.sources[0].missing) == (Status.NOT_EVIDENCED, why)
    planned = made(plan=(Planned(check="a.b", asked="name"),))
    assert one(planned, wanted).sources[0].missing == "planned, and gave no finding"


def test_every_entry_is_needed_unless_one_is_enough() -> None:
    evidence = (("a.b", ("x",), None), ("a.c", ("y",), None))
    record = made(measured("a.b", proportion("x", 1, 2)))
    assert one(record, clause(*evidence)).status is Status.NOT_EVIDENCED
    assert one(record, clause(*evidence, any_of=True)).status is Status.MEASURED
    assert one(made(), clause(*evidence, any_of=True)).status is Status.NOT_EVIDENCED


def test_both_is_whole_only_when_measured_and_stated() -> None:
    wanted = clause(("a.b", ("x",), None), by="both", statement="Sign")
    record, said = made(measured("a.b", proportion("x", 1, 2))), [stated("1")]
    seen = {
        (bool(r.findings), bool(s)): (f.status, f.lacks_measurement, f.lacks_statement)
        for r in (made(), record)
        for s in ([], said)
        for f in [one(r, wanted, s)]
    }
    assert seen == {
        (False, False): (Status.NOT_EVIDENCED, True, True),
        (False, True): (Status.ATTESTED, True, False),
        (True, False): (Status.MEASURED, False, True),
        (True, True): (Status.MEASURED, False, False),
    }


def test_a_statement_counts_for_its_own_document_and_clause_only() -> None:
    assert statuses(made(), stated=[stated("1(a)")])["1(a)"] is Status.ATTESTED
    assert statuses(made(), stated=[stated("1(a)", document="other")]) == statuses(made())
    assert statuses(made(), stated=[stated("2(a)"), stated("3"), stated("9")]) == statuses(made())


@pytest.mark.parametrize(
    ("applies", "model", "data", "there"),
    [
        ("regression", {"task": "classification"}, {}, False),
        ("regression", {"task": "regression"}, {}, True),
        ("image", {"task": "regression"}, {"modality": "tabular"}, False),
        ("tabular", {}, {"modality": "tabular"}, True),
        ("tabular", {"task": "classification"}, {}, True),
        ("", {"task": "regression"}, {"modality": "image"}, True),
    ],
)
def test_a_clause_applies_unless_the_record_says_otherwise(applies, model, data, there) -> None:
    found = one(made(model=model, data=data), clause(("a.b", ("x",), None), applies=applies))
    assert (found.status is not Status.NOT_APPLICABLE) is there


def test_a_verdict_stands_with_the_clause_that_speaks_of_the_same_people() -> None:
    whole, women = proportion("accuracy", 90, 100), proportion("accuracy", 20, 100, group={"sex": "F"})
    limits = (
        Limit(check="a.b", measure="accuracy", at_least=0.5),
        Limit(check="a.b", measure="accuracy", at_least=0.5, group="each"),
        Limit(check="a.b", measure="accuracy", at_least=0.5, where={"epsilon": 0.1}),
    )
    bare = made(measured("a.b", whole, women), data={"sensitive": {"sex": []}})
    record = judge(bare, Policy(limits=limits))
    overall, by_group = (
        one(record, clause(("a.b", ("accuracy",), groups))).sources[0].counts for groups in (False, True)
    )
    assert dict(overall) == {Verdict.PASS: 1, Verdict.NOT_EVALUABLE: 1}, "a limit that found nothing is told"
    assert dict(by_group) == {Verdict.FAIL: 1, Verdict.NOT_EVALUABLE: 1}


def test_doubts_stand_with_the_evidence_that_they_speak_of() -> None:
    shaky = replace(proportion("robust_accuracy", 9, 10), unreliable="the attack failed")
    sound = proportion("share_moved", 9, 10)
    doubt = Doubt(checks=("a.b",), measures=("robust_accuracy",), reason="gradients are masked")
    other = Doubt(checks=("a.b",), measures=("accuracy",), reason="another thing")
    record = made(measured("a.b", shaky, sound), measured("a.c", doubts=(doubt, other)))
    found = one(record, clause(("a.b", ("robust_accuracy", "share_moved"), None)))
    assert found.status is Status.MEASURED
    assert found.sources[0].doubts == ("the attack failed", "gradients are masked")


@pytest.mark.parametrize("why", ["unreliable", "too_few"])
def test_a_number_that_its_own_check_does_not_let_stand_is_no_evidence_and_keeps_its_verdict(why) -> None:
    shaky = replace(proportion("robust_accuracy", 1, 100), **{why: "the attack failed"})
    sound = proportion("robust_accuracy", 90, 100, settings={"epsilon": 0.1})
    limits = Policy(limits=(Limit(check="a.b", measure="robust_accuracy", at_least=0.5),))
    asked = clause(("a.b", ("robust_accuracy",), None))
    alone = one(judge(made(measured("a.b", shaky)), limits), asked)
    assert alone.status is Status.NOT_EVIDENCED
    (source,) = alone.sources
    assert (source.missing, source.measures) == ("measured, and not to be relied on: the attack failed", ())
    assert sum(source.counts.values()) == 1
    beside = one(judge(made(measured("a.b", shaky, sound)), limits), asked)
    assert beside.status is Status.MEASURED
    assert beside.sources[0].doubts == ("the attack failed",)


@pytest.mark.parametrize("named", ["a.b", "*"])
def test_a_number_that_another_check_refutes_is_no_evidence(named) -> None:
    doubt = Doubt(checks=(named,), measures=("robust_accuracy",), reason="gradients are masked")
    number, asked = proportion("robust_accuracy", 9, 10), clause(("a.b", ("robust_accuracy",), None))
    found = one(made(measured("a.b", number), measured("a.c", doubts=(doubt,))), asked)
    assert (found.status, found.sources[0].measures) == (Status.NOT_EVIDENCED, ())
    assert found.sources[0].missing == "measured, and not to be relied on: gradients are masked"
    elsewhere = replace(doubt, checks=("a.d",))
    assert one(made(measured("a.b", number), measured("a.c", doubts=(elsewhere,))), asked).is_measured


def test_that_the_check_which_could_refute_a_number_did_not_run_stands_with_the_clause() -> None:
    number, asked = proportion("robust_accuracy", 9, 10), clause(("a.b", ("robust_accuracy",), None))
    could = {"a.c": ["robust_accuracy"], "a.d": ["accuracy"]}
    plan = (Planned(check="a.b", asked="name", doubted_by=could),)
    said = "no a.c was measured, so only the check itself speaks for these numbers."
    for others, expected in [
        ((), (said,)),
        ((replace(measured("a.c"), status="broken", reason="it died"),), (said,)),
        ((measured("a.c"),), ()),
    ]:
        found = one(made(measured("a.b", number), *others, plan=plan), asked)
        assert (found.status, found.sources[0].unproved) == (Status.MEASURED, expected)
    absent = one(made(plan=plan), asked)
    assert (absent.status, absent.sources[0].unproved) == (Status.NOT_EVIDENCED, ())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_no_number_is_no_evidence(value) -> None:
    found = one(made(measured("a.b", Measure(name="x", value=value))), clause(("a.b", ("x",), None)))
    assert found.status is Status.NOT_EVIDENCED


def test_open_items_are_the_statements_that_are_left(record) -> None:
    plain = replace(PACK, name="plain", clauses=())
    assert [c.id for c in open_items(record, [plain, PACK])[0][1]] == ["1(a)", "1(b)", "2(c)", "2(d)"]
    said = [stated(name) for name in ("1(a)", "2(c)", "2(d)")]
    assert [c.id for _, cs in open_items(record, [PACK], said) for c in cs] == ["1(b)"]
    assert open_items(record, [PACK], [*said, stated("1(b)")]) == []


def test_a_pack_that_is_overdue_or_superseded_by_the_records_own_date_warns(record) -> None:
    assert record_date(record) == date(2026, 11, 20)
    due = replace(PACK.framework, review_by=date(2026, 11, 19))
    gone = replace(PACK.framework, status="superseded", superseded_by="new-rules")
    assert warnings(record, PACK.framework) == ()
    assert warnings(record, replace(PACK.framework, review_by=date(2026, 11, 20))) == ()
    assert "overdue" in warnings(record, due)[0]
    assert "superseded by 'new-rules'" in warnings(record, gone)[0]
    assert "carries no date" in warnings(made(), PACK.framework)[0]
    ran = {"started": "2026-11-19T23:59:00+00:00", "finished": "2026-11-20T00:01:00+00:00"}
    assert record_date(replace(record, run=ran)) == date(2026, 11, 20), "the last number is of that day"
    assert record_date(replace(record, run={"started": ran["started"]})) == date(2026, 11, 19)


def test_every_status_has_a_word_and_none_is_a_yes() -> None:
    assert set(STATUS_WORDS) == set(Status)
    assert all(name == status.replace("_", " ") for status, (name, _) in STATUS_WORDS.items())


CHECKS = ("a.a", "a.b", "b.a")
NAMES = ("x", "y")
SOURCES = st.tuples(
    st.sampled_from(CHECKS), st.sets(st.sampled_from(NAMES), min_size=1).map(sorted).map(tuple), st.none()
)
CLAUSES = st.lists(
    st.builds(
        lambda evidence, any_of: (evidence, any_of), st.lists(SOURCES, min_size=1, max_size=3), st.booleans()
    ),
    min_size=1,
    max_size=5,
)
FINDINGS = st.lists(
    st.tuples(st.sampled_from(CHECKS), st.sampled_from(NAMES), st.booleans(), st.booleans()), max_size=6
)


@settings(deadline=None)
@given(CLAUSES, FINDINGS, st.sampled_from(CHECKS))
def test_coverage_as_it_is_defined_restated_slowly(clauses, findings, removed) -> None:
    """A clause is measured when each entry (one of them) has a defined number; removal moves only its own."""
    document = replace(
        PACK, clauses=tuple(replace(clause(*e, any_of=a), id=str(i)) for i, (e, a) in enumerate(clauses))
    )
    record = made(
        *(
            replace(
                measured(check, Measure(name=name, value=0.5 if defined else None)),
                status="measured" if ran else "broken",
            )
            for check, name, defined, ran in findings
        )
    )
    there = {(check, name) for check, name, defined, ran in findings if defined and ran}

    def expected(without: str = "") -> list[bool]:
        held = {(c, n) for c, n in there if c != without}
        return [
            (any if any_of else all)([any((c, n) in held for n in names) for c, names, _ in evidence])
            for evidence, any_of in clauses
        ]

    found = coverage(record, document)
    assert [item.is_measured for item in found.clauses] == expected()
    assert sum(found.totals.values()) == len(clauses)
    fewer = replace(record, findings=tuple(f for f in record.findings if f.check != removed))
    after = coverage(fewer, document)
    assert [item.is_measured for item in after.clauses] == expected(removed)
    for before, now in zip(found.clauses, after.clauses, strict=True):
        if removed not in {source.check for source in before.clause.evidence}:
            assert before.status is now.status
        assert not (now.is_measured and not before.is_measured), "less evidence never supports more"
