"""Every answer is there once, with the weight that the judge gives it."""

import itertools
import json
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
import records
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.formats.answers import advice, answers, derived, exit_words, left_out, numbers, record_sha256, told
from audit.formats.cyclonedx import cyclonedx
from audit.formats.in_toto import in_toto
from audit.formats.junit import junit
from audit.formats.oscal import oscal
from audit.formats.sarif import sarif
from audit.judge import judge
from audit.policy import Limit, Policy, Verdict
from audit.record import Finding, LeftOut, Planned, read_record, write_record
from audit.stats import proportion
from audit.wording import FINDING_WORDS

LENIENT = st.sampled_from(["fail", "warn", "pass"])
# Of 100 rows: 99 keep a limit of .8, 80 span it, 10 break it; 0 of 0 is undefined.
RIGHT = {"passes": (99, 100), "spans": (80, 100), "fails": (10, 100), "undefined": (0, 0)}


def finding(name, status, measures):
    reason = "" if status == "measured" else "because"
    found = tuple(proportion(measure, *RIGHT[measure]) for measure in measures) if not reason else ()
    return Finding(check=name, version="1", title=name, status=status, reason=reason, measures=found)


@st.composite
def any_record(draw):
    """Up to four checks of any outcome, asked for in any way, some absent, under any policy."""
    names = ["a.one", "a.two", "b.three", "b.four"]
    statuses = st.sampled_from(["measured", "not_applicable", "not_evaluable", "broken"])
    found, limits, plan = [], [], []
    for name in names:
        measures = draw(st.lists(st.sampled_from(sorted(RIGHT)), unique=True, max_size=3))
        asked = draw(st.sampled_from(["name", "pattern", None]))
        if asked:
            plan.append(Planned(check=name, asked=asked))
        if draw(st.booleans()):
            found.append(finding(name, draw(statuses), measures))
        wanted = draw(st.lists(st.sampled_from([*sorted(RIGHT), "absent"]), unique=True, max_size=2))
        limits += [Limit(check=name, measure=measure, at_least=0.8) for measure in wanted]
    kinds = ("inconclusive", "not_evaluable", "broken", "not_applicable")
    policy = Policy(limits=tuple(limits), **{f"on_{kind}": draw(LENIENT) for kind in kinds})
    return records.made(tuple(found), plan=tuple(plan), policy=policy)


@given(any_record())
@settings(max_examples=300, deadline=None)
def test_the_answers_lead_to_the_exit_code_of_the_judge(record):
    """The rule of the README, restated over answers: 1 broken limit, 2 nothing judged or a no, else 0."""
    got = answers(record)
    verdicts = [item.verdict for item in got]
    if Verdict.FAIL in verdicts:
        code = 1
    elif not {Verdict.PASS, Verdict.INCONCLUSIVE} & set(verdicts):
        code = 2
    else:
        code = 2 if any(item.leniency == "fail" for item in got if item.verdict is not Verdict.PASS) else 0
    # PASS and NOT_JUDGED never weigh anything.
    free = (Verdict.PASS, Verdict.NOT_JUDGED)
    assert all(item.leniency == "pass" for item in got if item.verdict in free)
    assert record.verdict.exit_code == code


@given(any_record())
@settings(max_examples=100, deadline=None)
def test_nothing_is_left_out_and_nothing_stands_twice(record):
    got = answers(record)
    judged = sum(len(item.verdicts) for item in record.findings)
    silent = sum(not item.verdicts for item in record.findings)
    spoken = {item.check for item in record.plan} | {item.check for item in record.policy.limits}
    absent = spoken - {item.check for item in record.findings}
    assert len(got) == judged + silent + len(absent)
    assert len({(item.check, item.name) for item in got}) == len(got)
    assert len({item.key for item in got}) == len(got)


def test_every_verdict_is_told_as_the_record_has_it():
    got = {(item.check, item.name): item for item in answers(records.every_verdict())}
    verdicts = {check + ": " + name: item.verdict for (check, name), item in got.items()}
    assert verdicts == {
        "a.measured: fails at least 0.8": "FAIL",
        "a.measured: spans at least 0.8": "INCONCLUSIVE",
        "a.measured: passes at least 0.8": "PASS",
        "a.measured: undefined at least 0.8": "NOT_EVALUABLE",
        "a.unjudged: not judged": "NOT_JUDGED",
        "b.broken: measured at all": "BROKEN",
        "b.misfit: rate at most 0.5": "NOT_APPLICABLE",
        "b.pattern: measured at all": "NOT_APPLICABLE",
        "b.silent: measured at all": "NOT_EVALUABLE",
    }
    asked = {item.check for item in got.values() if not item.asked}
    assert asked == {"a.unjudged", "b.pattern"}


def test_a_planned_check_without_a_finding_is_broken_and_no_policy_forgives_it():
    policy = Policy(on_broken="pass")
    (absent,) = answers(replace(records.stopped(), policy=policy))
    assert (absent.verdict, absent.leniency, absent.finding) == (Verdict.BROKEN, "fail", None)
    assert told(absent) == "BROKEN: it was asked for and not measured."


def test_a_limit_that_found_no_measure_is_forgiven_by_no_policy():
    policy = Policy(limits=(Limit(check="a.one", measure="absent", at_least=0.5),), on_not_evaluable="pass")
    (item,) = answers(records.made((finding("a.one", "measured", ["passes"]),), policy=policy))
    assert (item.verdict, item.leniency) == (Verdict.NOT_EVALUABLE, "fail")


def test_a_name_says_of_whom_and_where_it_was_asked_and_says_it_once():
    measures = tuple(
        proportion("rate", 90, 100, group={"sex": sex}, settings={"epsilon": eps})
        for sex, eps in itertools.product(["F", "M"], [0.1, 0.2])
    )
    found = Finding(check="a.b", version="1", title="t", status="measured", measures=measures)
    limit = Limit(check="a.b", measure="rate", at_least=0.5, group="each", where={"epsilon": 0.1})
    got = [item.name for item in answers(records.made((found,), policy=Policy(limits=(limit,))))]
    assert got == [
        "rate at least 0.5 where epsilon = 0.1 for each group (sex = F)",
        "rate at least 0.5 where epsilon = 0.1 for each group (sex = M)",
    ]


def test_what_is_asked_twice_gets_a_number_and_a_key_of_its_own():
    limit = Limit(check="a.one", measure="passes", at_least=0.8)
    record = records.made((finding("a.one", "measured", ["passes"]),), policy=Policy(limits=(limit, limit)))
    first, second = answers(record)
    assert (first.name, second.name) == ("passes at least 0.8", "passes at least 0.8 #2")
    assert first.key != second.key


def test_a_key_is_that_of_the_question_and_not_of_the_answer():
    limit = Policy(limits=(Limit(check="a.one", measure="rate", at_least=0.8),))
    one, other = (
        Finding(
            check="a.one", version="1", title="t", status="measured", measures=(proportion("rate", x, 100),)
        )
        for x in (99, 10)
    )
    first, second = (answers(records.made((item,), policy=limit))[0] for item in (one, other))
    assert (first.verdict, second.verdict) == ("PASS", "FAIL")
    assert first.key == second.key


def test_a_verdict_written_over_is_derived_again():
    record = records.every_verdict()
    lenient = replace(record, verdict=replace(record.verdict, verdict=Verdict.PASS, exit_code=0))
    assert derived(lenient).verdict == record.verdict
    measured = record.findings[0]
    passed = tuple(replace(item, verdict=Verdict.PASS) for item in measured.verdicts)
    forged = replace(record, findings=(replace(measured, verdicts=passed), *record.findings[1:]))
    assert [item.verdict for item in answers(derived(forged))] == [item.verdict for item in answers(record)]
    assert derived(record) is record


def test_the_fingerprint_of_a_record_is_that_of_its_file(tmp_path):
    import hashlib

    record = records.golden(tmp_path)
    path = write_record(record, tmp_path)
    assert record_sha256(record) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert record_sha256(read_record(tmp_path)) == record_sha256(record)


@pytest.mark.parametrize("text", records.HOSTILE)
def test_every_record_has_a_fingerprint(text):
    first, second = records.hostile(text), records.hostile(text)
    assert record_sha256(first) == record_sha256(second)
    assert record_sha256(first) != record_sha256(records.hostile(text + "!"))


def test_numbers_are_those_of_the_judgement(tmp_path):
    given_answers = answers(records.golden(tmp_path))
    spans = next(item for item in given_answers if item.name.startswith("expected_calibration_error"))
    assert numbers(spans)["value"] == "0.044"
    assert numbers(spans)["needed_n"] == str(spans.judgement.needed_n)
    assert told(spans).endswith(f"about {spans.judgement.needed_n} rows would settle it.")
    silent = next(item for item in given_answers if item.check == "robustness.noise")
    assert numbers(silent) == {}


def test_every_exit_code_of_a_record_has_words_and_only_a_pass_says_that_all_held():
    lenient = dict.fromkeys(("on_inconclusive", "on_not_evaluable", "on_broken", "on_not_applicable"), "pass")
    spans = replace(records.every_verdict(**lenient), findings=records.every_verdict().findings[:1])
    limits = {limit.measure: limit for limit in spans.policy.limits if limit.check == "a.measured"}

    def said(*names, waived=False):
        policy = replace(spans.policy, limits=tuple(limits[name] for name in names))
        record = judge(replace(spans, plan=spans.plan[:1]), policy)
        record = records.waived(record) if waived else record
        return record.verdict.exit_code, record.verdict.verdict, exit_words(record)

    code, verdict, words = said("passes")
    assert (code, verdict) == (0, Verdict.PASS)
    assert words.startswith("every limit that was judged held")
    for names, waived in ((("passes", "spans"), False), (("passes", "fails"), True)):
        code, verdict, words = said(*names, waived=waived)
        assert code == 0
        assert verdict is not Verdict.PASS
        assert "no yes" in words
        assert "held" not in words
    assert said("fails", "passes")[::2] == (1, "a limit was broken")
    assert exit_words(records.empty()) == "no limit was broken, but the audit cannot say yes"
    strict = records.waived(records.every_verdict())
    assert (strict.verdict.exit_code, strict.verdict.waived) == (2, 1)
    assert exit_words(strict) == "the audit cannot say yes, and every limit that was broken is waived"


@pytest.mark.parametrize("write", [junit, sarif, cyclonedx, oscal, in_toto])
def test_what_was_left_out_stands_in_every_format(write):
    out = (LeftOut(check="shift.noise", reason="the profile 'quick' has no room for it"),)
    record = replace(records.every_verdict(), left_out=out)
    assert left_out(record) == (
        "shift.noise was left out of this run: The profile 'quick' has no room for it.",
    )
    assert b"shift.noise" in write(record)
    assert b"shift.noise" not in write(records.every_verdict())


def test_a_waived_limit_is_a_pass_in_no_format():
    record = records.waived(records.every_verdict(on_inconclusive="warn", on_not_evaluable="pass",
        on_broken="warn", on_not_applicable="pass"))  # fmt: skip
    assert (record.verdict.exit_code, record.verdict.waived) == (0, 1)
    suites = ET.fromstring(junit(record))  # noqa: S314 - written here
    cases = {case.get("name"): case for case in suites.iter("testcase")}
    for name in ("the audit says yes", "fails at least 0.8", "spans at least 0.8"):
        assert cases[name].find("skipped") is not None
    (run,) = json.loads(sarif(record))["runs"]
    (result,) = [item for item in run["results"] if item.get("suppressions")]
    assert (result["kind"], result["level"]) == ("fail", "error")
    assert "A. Lee" in result["suppressions"][0]["justification"]
    claims = json.loads(cyclonedx(record))["declarations"]["claims"]
    (claim,) = [item for item in claims if "waived by A. Lee" in item["reasoning"]]
    assert "counterEvidence" in claim
    assert "evidence" not in claim
    (results,) = json.loads(oscal(record))["assessment-results"]["results"]
    (risk,) = results["risks"]
    assert risk["status"] == "deviation-approved"
    (found,) = [item for item in results["findings"] if item.get("related-risks")]
    assert found["target"]["status"]["state"] == "not-satisfied"
    predicate = json.loads(in_toto(record))["predicate"]
    assert predicate["result"] == "WARNED"
    assert "a.measured: fails at least 0.8" in predicate["warnedTests"]
    assert predicate["configuration"][-1]["annotations"]["waived"] == 1


def test_each_answer_is_followed_by_what_it_means_and_what_could_be_done():
    """In the two formats that people read in another program; only a PASS asks for nothing for now."""
    found = answers(records.every_verdict())
    assert {answer.verdict for answer in found} == set(Verdict)
    (run,) = json.loads(sarif(records.every_verdict()))["runs"]
    suites = ET.fromstring(junit(records.every_verdict()))  # noqa: S314 - it is our own
    cases = {
        (case.get("classname"), case.get("name")): " ".join(case.itertext())
        for case in suites.iter("testcase")
    }
    for answer, result in zip(found, run["results"], strict=True):
        means, then = FINDING_WORDS[answer.verdict]
        said = advice(answer)
        assert said == f"{means} What could be done: {then}"
        assert result["message"]["text"].endswith(said)
        assert said in cases[answer.check, answer.name]
        assert then.startswith("Nothing for now") == (answer.verdict is Verdict.PASS)


def test_what_was_left_out_is_told_and_weighs_only_where_a_limit_speaks_of_it():
    left_out = tuple(LeftOut(check=name, reason=f"why {name}") for name in ("a.free", "a.limited"))
    limits = (Limit(check="a.limited", measure="m", at_least=0.5),)
    record = judge(replace(records.made(policy=Policy(limits=limits)), left_out=left_out))
    limited, free = answers(record)
    assert (limited.check, limited.verdict, limited.leniency, limited.asked) == (
        "a.limited", Verdict.BROKEN, "fail", True,
    )  # fmt: skip
    assert limited.reason == "it was asked for and not measured: why a.limited"
    assert (free.check, free.verdict, free.leniency, free.asked) == (
        "a.free", Verdict.NOT_APPLICABLE, "pass", False,
    )  # fmt: skip
    assert free.reason == "it was left out of this run: why a.free"
    assert record.verdict.exit_code == 2
    assert advice(free).startswith("It was not tested in this run.")
    suites = ET.fromstring(junit(record))  # noqa: S314 - written here
    (case,) = suites.findall(".//testcase[@classname='a.free']")
    assert case.find("skipped") is not None


@pytest.mark.parametrize(("asked", "forbids"), [("name", True), ("pattern", False)])
def test_a_check_that_does_not_fit_forbids_a_yes_only_where_it_was_asked_for_by_name(asked, forbids):
    misfit = Finding(check="a.b", version="1", title="t", status="not_applicable", reason="no images")
    record = records.made((misfit,), plan=(Planned(check="a.b", asked=asked),))
    (answer,) = answers(record)
    assert (answer.asked, answer.leniency) == (forbids, "fail" if forbids else "pass")


def test_a_check_that_was_left_out_and_has_a_finding_all_the_same_is_answered_once():
    ran = Finding(check="a.b", version="1", title="t", status="broken", reason="it crashed")
    record = records.made((ran,), left_out=(LeftOut(check="a.b", reason="no time"),))
    assert [(item.check, item.verdict) for item in answers(record)] == [("a.b", Verdict.BROKEN)]
