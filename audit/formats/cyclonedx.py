"""CycloneDX 1.6: a bill of materials of the model, with its model card and what the audit says for it.

The card holds every defined number with its interval. A number that is undefined has no value and is told
among the limitations, with its reason. A limit is a claim; a finding is evidence. Evidence that supports or
contradicts a claim is tied to it; where nothing was settled it is not. Nothing here declares conformity:
there is no attestation, no conformance score and no affirmation.
"""

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from audit.evidence import EVERY_CHECK, Doubt, Measure
from audit.formats.answers import Answer, answers, left_out, record_sha256, scope, told
from audit.formats.text import as_json, file_of, line, moment, number, sha256_of, where
from audit.policy import Verdict
from audit.record import Finding, Record
from audit.wording import sentence

FILE = "bom.cdx.json"
_MODEL = "model"
_DATA = "dataset"


def cyclonedx(record: Record) -> bytes:
    """The record as a CycloneDX 1.6 bill of materials in JSON.

    Verdicts: PASS is a claim with `evidence`, FAIL one with `counterEvidence`; INCONCLUSIVE, NOT_EVALUABLE,
    NOT_APPLICABLE and BROKEN are claims with neither, and their reasoning says why; NOT_JUDGED is evidence
    without a claim. The verdict, the exit code and the reasons stand in the properties of the metadata.
    """
    given, digest = answers(record), record_sha256(record)
    bom = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid5(NAMESPACE_URL, digest)}",
        "version": 1,
        "metadata": _metadata(record, digest),
        "components": [_model(record, given), _data(record)],
        "declarations": _declarations(record, given),
    }
    return as_json(bom)


def _metadata(record: Record, digest: str) -> dict[str, Any]:
    when = moment(record.run.get("finished"))
    outcome = record.verdict
    version = line(str(record.tool.get("version") or "unknown"))
    facts = [
        ("verdict", outcome.verdict.value),
        ("exit_code", str(outcome.exit_code)),
        ("planned", str(outcome.planned)),
        ("measured", str(outcome.measured)),
        ("waived", str(outcome.waived)),
        *((name, str(value)) for name, value in scope(record).items()),
        ("record_sha256", digest),
        *(("reason", reason) for reason in outcome.reasons),
    ]
    return {
        **({"timestamp": when} if when else {}),
        "tools": {"components": [{"type": "application", "name": "model-audit", "version": version}]},
        "properties": [{"name": f"model-audit:{name}", "value": value} for name, value in facts],
    }


def _model(record: Record, given: Sequence[Answer]) -> dict[str, Any]:
    facts = record.model
    run = facts.get("loader") != "none"
    return {
        "type": "machine-learning-model",
        "bom-ref": _MODEL,
        "name": file_of(facts, "model"),
        **({} if run else {"description": "No model was run: its answers were read from the data file."}),
        **(_hashes(sha256_of(facts)) if run else {}),
        "modelCard": {
            "modelParameters": _parameters(record),
            "quantitativeAnalysis": {"performanceMetrics": list(_metrics(record))},
            "considerations": _considerations(record, given),
        },
    }


def _hashes(digest: str | None) -> dict[str, Any]:
    return {"hashes": [{"alg": "SHA-256", "content": digest}]} if digest else {}


def _parameters(record: Record) -> dict[str, Any]:
    named = {"inputs": record.data.get("modality"), "outputs": record.model.get("output")}
    formats = {key: [{"format": line(str(value))}] for key, value in named.items() if value}
    task = record.model.get("task")
    return {**({"task": line(str(task))} if task else {}), "datasets": [{"ref": _DATA}], **formats}


def _data(record: Record) -> dict[str, Any]:
    name = file_of(record.data, "data")
    about = f"{record.data.get('rows', 'an unknown number of')} rows that the model was audited on"
    return {
        "type": "data",
        "bom-ref": _DATA,
        "name": name,
        "description": about,
        **_hashes(sha256_of(record.data)),
        "data": [{"type": "dataset", "name": name}],
    }


def _metrics(record: Record) -> Iterator[dict[str, Any]]:
    for finding in record.findings:
        for item in finding.measures:
            if number(item.value):
                yield _metric(finding, item)


def _metric(finding: Finding, item: Measure) -> dict[str, Any]:
    low, high = number(item.low), number(item.high)
    interval = {"confidenceInterval": {"lowerBound": low, "upperBound": high}} if low and high else {}
    value = {"type": line(item.name), "value": number(item.value), "slice": _slice(finding, item)}
    return {**value, **interval}


def _slice(finding: Finding, item: Measure) -> str:
    around = where(item.group, item.settings) or "the whole"
    level = f", interval at {item.level:g}" if item.level is not None else ""
    rows = f", {item.n} rows" if item.n is not None else ""
    return f"{finding.check}: {around}{rows}{level}"


def _considerations(record: Record, given: Sequence[Answer]) -> dict[str, Any]:
    known: dict[str, Any] = {"technicalLimitations": list(dict.fromkeys(_limitations(record, given)))}
    purpose = record.system.get("purpose")
    if purpose:
        known["useCases"] = [str(purpose)]
    known["fairnessAssessments"] = list(_fairness(given))
    return known


def _limitations(record: Record, given: Sequence[Answer]) -> Iterator[str]:
    """What a reader of the numbers must know: caveats, numbers that are undefined or in doubt, gaps."""
    for facts in (record.model, record.data):
        yield from (sentence(str(text)) for text in facts.get("caveats", ()))
    for finding in record.findings:
        yield from (f"{finding.check}: {sentence(text)}" for text in finding.caveats)
        yield from (text for item in finding.measures for text in _doubts(finding, item))
        yield from (_against(doubt) for doubt in finding.doubts)
    for answer in given:
        if answer.verdict is Verdict.BROKEN and answer.judgement is None:
            yield f"{answer.check}: {told(answer)}"
    yield from left_out(record)


def _doubts(finding: Finding, item: Measure) -> Iterator[str]:
    named = f"{finding.check}: {item.name} ({where(item.group, item.settings) or 'the whole'})"
    if not number(item.value):
        yield f"{named} is not evaluable: {sentence(item.reason)}"
    if item.unreliable:
        yield f"{named} is unreliable: {sentence(item.unreliable)}"
    if item.too_few:
        yield f"{named} is shown and not judged: {sentence(item.too_few)}"


def _against(doubt: Doubt) -> str:
    """What a finding says against numbers of other checks."""
    checks = ("every check" if name == EVERY_CHECK else name for name in doubt.checks)
    named = f"{', '.join(doubt.measures)} of {', '.join(checks)}"
    return f"{named} must not be relied on: {sentence(doubt.reason)}"


def _fairness(given: Sequence[Answer]) -> Iterator[dict[str, str]]:
    """What was asked for each group and what came of it. Benefits and remedies are for a person to state."""
    said: dict[str, list[str]] = {}
    for answer in given:
        item = answer.judgement
        if answer.check.startswith("fairness.") and item is not None and item.group:
            said.setdefault(where(item.group, {}), []).append(f"{item.limit}: {told(answer)}")
    for group, sentences in said.items():
        yield {"groupAtRisk": group, "harms": " ".join(sentences)}


def _declarations(record: Record, given: Sequence[Answer]) -> dict[str, Any]:
    places = {id(finding): place for place, finding in enumerate(record.findings)}
    judged = [answer for answer in given if answer.asked and answer.finding is not None]
    version = record.tool.get("version") or "unknown"
    return {
        "assessors": [
            {"bom-ref": "assessor", "organization": {"name": line(f"model-audit {version}, automatic")}}
        ],
        "claims": [_claim(index, answer, places[id(answer.finding)]) for index, answer in enumerate(judged)],
        "evidence": [_evidence(place, finding) for place, finding in enumerate(record.findings)],
    }


def _claim(index: int, answer: Answer, place: int) -> dict[str, Any]:
    words, key = {
        Verdict.PASS: ("The evidence supports the claim.", "evidence"),
        Verdict.FAIL: ("The evidence contradicts the claim.", "counterEvidence"),
    }.get(answer.verdict, ("The evidence neither supports nor contradicts the claim.", ""))
    return {
        "bom-ref": f"claim-{index}",
        "target": _MODEL,
        "predicate": f"{answer.check}: {answer.name}",
        "reasoning": f"{told(answer)} {words}",
        **({key: [f"evidence-{place}"]} if key else {}),
    }


def _evidence(place: int, finding: Finding) -> dict[str, Any]:
    status = finding.status.replace("_", " ")
    counts = f"{len(finding.measures)} numbers, {finding.cost.forward_rows} rows through the model"
    reason = f" {sentence(finding.reason)}" if finding.reason else ""
    return {
        "bom-ref": f"evidence-{place}",
        "propertyName": f"model-audit:{finding.check}",
        "description": f"{sentence(finding.title)} Status: {status}; {counts}.{reason}",
        "data": [{"name": finding.check, "contents": {"url": f"record.json#/findings/{place}"}}],
    }
