"""JUnit XML: held to `junit-10.xsd` of the Jenkins xUnit plugin, restated here; a skip is never a pass."""

import re
from collections import Counter
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
import records

from audit.formats.answers import answers
from audit.formats.junit import junit
from audit.policy import Policy, Verdict
from audit.record import LeftOut

TIME = re.compile(r"(([0-9]{0,3},)*[0-9]{3}|[0-9]{0,3})*(\.[0-9]*)?")
OUTCOME = ({"type", "message"}, set(), True)
# element: (allowed attributes, required attributes, may hold text), then its children
ELEMENTS = {
    "testsuites": ({"name", "time", "tests", "failures", "errors"}, set(), False),
    "testsuite": (
        {"name", "tests", "failures", "errors", "group", "time", "skipped", "timestamp", "hostname", "id",
         "package", "file", "log", "url"},
        {"name", "tests", "failures", "errors"},
        False,
    ),
    "properties": (set(), set(), False),
    "property": ({"name", "value"}, {"name", "value"}, False),
    "testcase": ({"name", "time", "classname", "group"}, {"name"}, False),
    "failure": OUTCOME,
    "error": OUTCOME,
    "skipped": OUTCOME,
    "system-out": (set(), set(), True),
    "system-err": (set(), set(), True),
}  # fmt: skip
CHILDREN = {
    "testsuites": {"testsuite"},
    "testsuite": {"testsuite", "properties", "testcase", "system-out", "system-err"},
    "properties": {"property"},
    "testcase": {"skipped", "error", "failure", "system-out", "system-err"},
}


def read(content):
    return ET.fromstring(content)  # noqa: S314 - it is our own


def faults(element):
    """What the schema has against an element and all below it."""
    if element.tag not in ELEMENTS:
        return [f"{element.tag} is unknown"]
    allowed, required, text = ELEMENTS[element.tag]
    found = [
        f"{element.tag} @{name}" for name in set(element.attrib) - allowed | required - set(element.attrib)
    ]
    found += [f"{element.tag} time"] if not TIME.fullmatch(element.get("time", "")) else []
    found += [f"{element.tag} holds text"] if not text and (element.text or "").strip() else []
    for child in element:
        if child.tag not in CHILDREN.get(element.tag, set()):
            found.append(f"{child.tag} below {element.tag}")
        found += faults(child) + ([f"text after {child.tag}"] if (child.tail or "").strip() else [])
    return found


def outcomes(root):
    """(suite, case): `passed` or the tag that says otherwise, as a reader of JUnit counts it."""
    marks = ("failure", "error", "skipped")
    return {
        (suite.get("name"), case.get("name")): next((m for m in marks if case.find(m) is not None), "passed")
        for suite in root
        for case in suite.findall("testcase")
    }


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    return records.golden(tmp_path_factory.mktemp("golden"))


@pytest.mark.parametrize("make", [records.empty, records.stopped, records.every_verdict, records.relaxed])
def test_it_keeps_the_schema(make):
    assert faults(read(junit(make()))) == []


def test_the_golden_record_keeps_the_schema(golden):
    assert faults(read(junit(golden))) == []


@pytest.mark.parametrize("text", records.HOSTILE)
def test_hostile_texts_keep_the_schema_and_add_no_case(text):
    root = read(junit(records.hostile(text)))
    assert faults(root) == []
    assert len(root.findall(".//testcase")) == 1 + len(answers(records.hostile(text)))


def test_the_validator_finds_planted_faults():
    planted = {
        "<testsuites><testcase name='x'/></testsuites>": "testcase below testsuites",
        "<testsuites><testsuite name='x' tests='0' failures='0'/></testsuites>": "testsuite @errors",
        "<testsuites skipped='0'/>": "testsuites @skipped",
        "<testsuites time='1e5'/>": "testsuites time",
        "<testsuites>words</testsuites>": "testsuites holds text",
    }
    for text, fault in planted.items():
        assert fault in faults(read(text))


def test_every_verdict_has_its_outcome():
    got = outcomes(read(junit(records.every_verdict())))
    assert got == {
        ("audit", "the audit says yes"): "failure",
        ("a.measured", "fails at least 0.8"): "failure",
        ("a.measured", "spans at least 0.8"): "skipped",
        ("a.measured", "passes at least 0.8"): "passed",
        ("a.measured", "undefined at least 0.8"): "skipped",
        ("a.unjudged", "not judged"): "skipped",
        ("b.broken", "measured at all"): "error",
        ("b.misfit", "rate at most 0.5"): "skipped",
        ("b.pattern", "measured at all"): "skipped",
        ("b.silent", "measured at all"): "skipped",
    }


def test_what_is_skipped_says_why():
    root = read(junit(records.every_verdict()))
    skipped = {case.get("name"): case.find("skipped") for case in root.iter("testcase")}
    spans = skipped["spans at least 0.8"]
    assert spans.get("type") == "INCONCLUSIVE"
    assert "spans the limit of 0.8" in spans.get("message")
    assert "value = 0.8" in spans.text
    assert skipped["not judged"].get("type") == "NOT_JUDGED"


@pytest.mark.parametrize("make", [records.empty, records.stopped])
def test_an_audit_that_cannot_say_yes_is_never_green(make):
    root = read(junit(make()))
    assert make().verdict.exit_code == 2
    assert outcomes(root)["audit", "the audit says yes"] == "error"
    assert int(root.get("errors")) > 0


def test_an_audit_that_says_yes_is_green():
    record = records.every_verdict()
    kept = tuple(limit for limit in record.policy.limits if limit.measure == "passes")
    yes = records.made((replace(record.findings[0], verdicts=()),), policy=Policy(limits=kept))
    assert yes.verdict.verdict is Verdict.PASS
    assert set(outcomes(read(junit(yes))).values()) == {"passed"}


def test_the_counts_are_those_of_the_cases(golden):
    root = read(junit(golden))
    total = Counter()
    for suite in root:
        seen = Counter(outcomes([suite]).values())
        total += seen
        assert int(suite.get("tests")) == seen.total()
        assert [int(suite.get(key)) for key in ("failures", "errors", "skipped")] == [
            seen["failure"], seen["error"], seen["skipped"]
        ]  # fmt: skip
    assert int(root.get("tests")) == total.total()
    assert (int(root.get("failures")), int(root.get("errors"))) == (total["failure"], total["error"])


@pytest.mark.parametrize(("run", "profile"), [({"profile": "quick"}, "quick"), ({}, "standard")])
def test_the_first_suite_tells_the_profile_and_counts_what_was_left_out(run, profile):
    out = tuple(LeftOut(check=name, reason="no time") for name in ("a.b", "c.d"))
    content = junit(replace(records.every_verdict(), run=run, left_out=out))
    assert faults(read(content)) == []
    told = {item.get("name"): item.get("value") for item in read(content)[0].find("properties")}
    assert told == {"profile": profile, "leftOut": "2"}


def test_a_suite_is_a_check_in_the_order_of_the_record(golden):
    names = [suite.get("name") for suite in read(junit(golden))]
    assert names == ["audit", *(item.check for item in golden.findings), "robustness.autoattack"]
