"""SARIF 2.1.0, as code scanning shows it: a rule a check, a result an answer.

The kinds of a result are the standard's own: `pass`, `fail`, `open` (not enough to decide), `review` (for a
person to decide) and `notApplicable`. Its section 3.27.10 allows a level only where the kind is `fail`. The
properties of the run tell its profile and how many checks were left out.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from audit.formats.answers import Answer, advice, answers, exit_words, scope, told
from audit.formats.taxonomies import Reference, Taxonomies, taxonomies
from audit.formats.text import as_json, file_of, line, moment, ordered, sha256_of
from audit.policy import Verdict
from audit.record import Finding, Record
from audit.wording import visible

FILE = "audit.sarif"
_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_KINDS = {
    Verdict.PASS: "pass",
    Verdict.FAIL: "fail",
    Verdict.INCONCLUSIVE: "open",
    Verdict.NOT_EVALUABLE: "open",
    Verdict.NOT_APPLICABLE: "notApplicable",
    Verdict.BROKEN: "fail",
    Verdict.NOT_JUDGED: "review",
}
# Square brackets and braces are links and placeholders in a message (sections 3.11.5 and 3.11.6).
_BRACKETS = str.maketrans("[]{}", "()()")


def sarif(record: Record) -> bytes:
    """The record as one SARIF run.

    Verdicts: PASS is kind `pass`; FAIL `fail` at level error; INCONCLUSIVE and NOT_EVALUABLE `open`;
    NOT_APPLICABLE `notApplicable`; NOT_JUDGED `review`; BROKEN `fail` at level error, with a notification
    and `executionSuccessful` false. The exit code stands in the invocation. Frameworks are taxonomies: a rule
    is relevant to the clauses that name its check, and a result carries those that its number evidences.
    """
    given = answers(record)
    findings = {answer.check: answer.finding for answer in given}
    places = {check: place for place, check in enumerate(findings)}
    frameworks = taxonomies(record, findings)
    location = {"artifactLocation": {"uri": quote(_audited(record)), "index": 0}}
    run = {
        "tool": {"driver": _driver(record, findings, frameworks)},
        "automationDetails": {"id": f"model-audit/{quote(line(str(record.run.get('id', ''))))}"},
        "invocations": [_invocation(record, given, places)],
        "artifacts": _artifacts(record),
        "taxonomies": frameworks.components,
        "results": [
            {**_result(answer, places[answer.check], location), **_taxa(frameworks.evidenced_by(answer))}
            for answer in given
        ],
        "properties": {
            "verdict": record.verdict.verdict,
            "counts": ordered(record.verdict.counts),
            **scope(record),
        },
    }
    return as_json({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]})


def _driver(record: Record, findings: Mapping[str, Finding | None], frameworks: Taxonomies) -> dict[str, Any]:
    rules = [
        {**_rule(check, finding), **_relationships(frameworks.relevant[check])}
        for check, finding in findings.items()
    ]
    named = [{"name": item["name"], "index": i} for i, item in enumerate(frameworks.components)]
    return {**_tool(record), "rules": rules, **({"supportedTaxonomies": named} if named else {})}


def _relationships(clauses: Sequence[Reference]) -> dict[str, Any]:
    found = [{"target": clause, "kinds": ["relevant"]} for clause in clauses]
    return {"relationships": found} if found else {}


def _taxa(clauses: Sequence[Reference]) -> dict[str, Any]:
    return {"taxa": list(clauses)} if clauses else {}


def _tool(record: Record) -> dict[str, str]:
    return {"name": "model-audit", "version": line(str(record.tool.get("version") or "unknown"))}


def _rule(check: str, finding: Finding | None) -> dict[str, Any]:
    title = finding.title if finding else check
    text = finding.text if finding else ""
    return {
        "id": check,
        "shortDescription": _message(line(title)),
        "help": _message(text or title),
        "properties": {
            "tags": [check.partition(".")[0]],
            "version": finding.version if finding else "",
            "settings": ordered(finding.settings) if finding else {},
        },
    }


def _message(text: str) -> dict[str, str]:
    return {"text": visible(text).translate(_BRACKETS).strip() or "unnamed"}


def _invocation(record: Record, given: Sequence[Answer], places: Mapping[str, int]) -> dict[str, Any]:
    broken = [answer for answer in given if answer.verdict is Verdict.BROKEN]
    code = record.verdict.exit_code
    times = {"startTimeUtc": record.run.get("started"), "endTimeUtc": record.run.get("finished")}
    return {
        "executionSuccessful": not broken and not record.run.get("interrupted", False),
        "exitCode": code,
        "exitCodeDescription": exit_words(record),
        **{key: moment(value) for key, value in times.items() if moment(value)},
        "toolExecutionNotifications": [_notification(answer, places[answer.check]) for answer in broken],
    }


def _notification(answer: Answer, place: int) -> dict[str, Any]:
    return {
        "level": "error",
        "message": _message(f"{answer.check}: {told(answer)}"),
        "associatedRule": {"id": answer.check, "index": place},
    }


def _suppressed(answer: Answer) -> dict[str, Any]:
    """A waived limit is one that somebody outside the code suppressed (section 3.35)."""
    item = answer.judgement
    if item is None or not item.waived:
        return {}
    waiver = {"kind": "external", "status": "accepted", "justification": line(item.waived)}
    return {"suppressions": [waiver]}


def _artifacts(record: Record) -> list[dict[str, Any]]:
    """The audited file first, which results point to, and then the data."""
    entries = [(record.model, _audited(record), "analysisTarget")]
    if file_of(record.data, ""):
        entries.append((record.data, file_of(record.data, ""), "referencedOnCommandLine"))
    described = []
    for facts, name, role in entries:
        digest = sha256_of(facts)
        hashes = {"hashes": {"sha-256": digest}} if digest else {}
        described.append({"location": {"uri": quote(name)}, "roles": [role], **hashes})
    return described


def _audited(record: Record) -> str:
    return file_of(record.model, "") or file_of(record.data, "audit.toml")


def _result(answer: Answer, place: int, location: Mapping[str, Any]) -> dict[str, Any]:
    kind = _KINDS[answer.verdict]
    logical = {"name": answer.name, "fullyQualifiedName": line(f"{answer.check}/{answer.name}")}
    return {
        "ruleId": answer.check,
        "ruleIndex": place,
        "kind": kind,
        "level": "error" if kind == "fail" else "none",
        "message": _message(f"{answer.name}. {told(answer)} {advice(answer)}"),
        "locations": [{"physicalLocation": location, "logicalLocations": [logical]}],
        "partialFingerprints": {"asked/v1": answer.key},
        **_suppressed(answer),
        "properties": {
            "verdict": answer.verdict,
            "blocks": answer.asked and answer.verdict is not Verdict.PASS and answer.leniency == "fail",
            "judgement": ordered(answer.judgement),
        },
    }
