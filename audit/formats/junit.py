"""JUnit XML, as continuous integration shows it: a suite a check, a case an answer, and one case for all.

PASS is a case that passed. FAIL is a `failure`, BROKEN an `error`, and all the others, a waived FAIL among
them, are `skipped` with their reason. Since a skipped case stops nobody, the first suite holds one case for
the whole audit, which fails or errs whenever the exit code is not 0, and passes on a PASS alone. Its
properties tell the profile and how many checks were left out.
"""

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any
from xml.etree import ElementTree as ET

from audit.errors import EXIT_LIMIT_BROKEN, EXIT_OK
from audit.formats.answers import Answer, advice, answers, exit_words, numbers, scope, told
from audit.formats.text import line, moment
from audit.policy import Verdict
from audit.record import Record
from audit.wording import visible

FILE = "junit.xml"
_MESSAGE = 1000
_TAGS = {Verdict.PASS: "", Verdict.FAIL: "failure", Verdict.BROKEN: "error"}


def junit(record: Record) -> bytes:
    """The record as JUnit XML, after the schema that Jenkins publishes (`junit-10.xsd`, MIT).

    Verdicts: PASS passes; FAIL is a failure, skipped where it is waived; BROKEN an error; INCONCLUSIVE,
    NOT_EVALUABLE, NOT_APPLICABLE and NOT_JUDGED are skipped, each with its reason.
    """
    given = answers(record)
    suites = [_whole(record)]
    for check, group in groupby(given, key=lambda answer: answer.check):
        suites.append(_suite(check, list(group), record))
    root = ET.Element("testsuites", name="model-audit")
    for key in ("tests", "failures", "errors"):
        root.set(key, str(sum(int(suite.get(key, "0")) for suite in suites)))
    root.extend(suites)
    ET.indent(root)
    text = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'.encode()


def _whole(record: Record) -> ET.Element:
    """The suite of one case that tells the exit code."""
    code = record.verdict.exit_code
    suite = ET.Element("testsuite", name="audit", tests="1")
    suite.append(_properties(scope(record)))
    yes = "" if record.verdict.verdict is Verdict.PASS else "skipped"
    tag = {EXIT_OK: yes, EXIT_LIMIT_BROKEN: "failure"}.get(code, "error")
    words = exit_words(record)
    case = ET.SubElement(suite, "testcase", name="the audit says yes", classname="audit")
    reasons = "\n".join(visible(reason) for reason in record.verdict.reasons)
    _outcome(case, tag, record.verdict.verdict, words, reasons or words)
    return _counted(suite)


def _suite(check: str, given: list[Answer], record: Record) -> ET.Element:
    finding = given[0].finding
    suite = ET.Element("testsuite", name=line(check), tests=str(len(given)))
    suite.set("package", line(check.partition(".")[0]))
    if finding is not None:
        suite.set("time", f"{max(finding.cost.seconds, 0.0):.3f}")
        facts = {"title": finding.title, "version": finding.version, "status": finding.status}
        suite.append(_properties(facts))
    started = moment(record.run.get("started"))
    if started:
        suite.set("timestamp", started)
    for answer in given:
        case = ET.SubElement(suite, "testcase", name=answer.name, classname=line(check))
        tag = "skipped" if _is_waived(answer) else _TAGS.get(answer.verdict, "skipped")
        _outcome(case, tag, answer.verdict, line(told(answer), _MESSAGE), "\n".join(_details(answer)))
    return _counted(suite)


def _properties(facts: Mapping[str, Any]) -> ET.Element:
    holder = ET.Element("properties")
    for name, value in facts.items():
        ET.SubElement(holder, "property", name=name, value=visible(str(value)))
    return holder


def _is_waived(answer: Answer) -> bool:
    """A broken limit that somebody answers for stops no pipeline, and is not shown as one that held."""
    return bool(answer.judgement and answer.judgement.waived)


def _details(answer: Answer) -> Iterator[str]:
    asked = answer.judgement.limit if answer.judgement else answer.name
    yield visible(f"{answer.check}: {asked}")
    yield visible(told(answer))
    yield advice(answer)
    yield from (f"{name} = {text}" for name, text in numbers(answer).items())


def _outcome(case: ET.Element, tag: str, verdict: Verdict, message: str, text: str) -> None:
    if tag:
        ET.SubElement(case, tag, type=verdict.value, message=message).text = text
    else:
        ET.SubElement(case, "system-out").text = text


def _counted(suite: ET.Element) -> ET.Element:
    for key, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(key, str(len(suite.findall(f"testcase/{tag}"))))
    return suite
