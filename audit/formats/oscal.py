"""OSCAL assessment results (NIST, model version 1.2.1) in JSON.

An observation a finding of the audit, an OSCAL finding for everything that was asked, a risk for every limit
that was broken. The state of an OSCAL finding is `satisfied` or `not-satisfied` and nothing between, so
whatever is not a PASS is `not-satisfied`, and its reason tells `fail` from `other`. No control of any
catalog is said to be reviewed. Every UUID follows from the record.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from audit.formats.answers import Answer, answers, exit_words, left_out, numbers, record_sha256, scope, told
from audit.formats.text import as_json, file_of, line, moment, sha256_of
from audit.policy import Verdict
from audit.record import Finding, Record
from audit.wording import sentence, visible

FILE = "assessment-results.oscal.json"
_VERSION = "1.2.1"
_NO_TIME = "1970-01-01T00:00:00Z"
_NOT_NAME = re.compile(r"[^A-Za-z0-9_.-]+")
# OSCAL text is Markdown: a record's text must not become a link, an image or a tag.
_MARKDOWN = (("&", "&amp;"), ("<", "&lt;"), ("](", "]\\("), ("]:", "]\\:"))


@dataclass(frozen=True)
class _Ids:
    """UUIDs of one record: the same record and the same name give the same UUID."""

    digest: str

    def of(self, name: str) -> str:
        return str(uuid5(NAMESPACE_URL, f"{self.digest}/{name}"))


def oscal(record: Record) -> bytes:
    """The record as OSCAL assessment results.

    Verdicts: PASS is `satisfied` (reason `pass`); FAIL `not-satisfied` (`fail`) with an open risk;
    INCONCLUSIVE, NOT_EVALUABLE, NOT_APPLICABLE and BROKEN `not-satisfied` (`other`) with remarks; NOT_JUDGED,
    and a check that a pattern named and that does not fit, is an observation without a finding.
    """
    ids = _Ids(record_sha256(record))
    plan = ids.of("plan")
    document = {
        "uuid": ids.of("document"),
        "metadata": {
            "title": "Results of a model audit",
            "last-modified": _time(record, "finished"),
            "version": ids.digest,
            "oscal-version": _VERSION,
            **_untimed(record),
        },
        "import-ap": {"href": f"#{plan}", "remarks": "No OSCAL assessment plan exists."},
        "results": [_results(record, ids)],
        "back-matter": {"resources": [_plan(record, plan)]},
    }
    return as_json({"assessment-results": document})


def _time(record: Record, key: str) -> str:
    return moment(record.run.get(key)) or _NO_TIME


def _untimed(record: Record) -> dict[str, str]:
    if all(moment(record.run.get(key)) for key in ("started", "finished")):
        return {}
    return {"remarks": f"The record does not state all its times; {_NO_TIME} stands for one that is unknown."}


def _plan(record: Record, uuid: str) -> dict[str, Any]:
    names = ", ".join(item.check for item in record.plan) or "nothing"
    return {
        "uuid": uuid,
        "title": "Plan of the audit",
        "description": _text(f"The checks that were planned: {names}."),
        "rlinks": [{"href": "record.json"}],
    }


def _results(record: Record, ids: _Ids) -> dict[str, Any]:
    given = answers(record)
    asked = [answer for answer in given if answer.asked]
    places = {id(finding): place for place, finding in enumerate(record.findings)}
    lists = {
        "observations": [_observation(i, item, record, ids) for i, item in enumerate(record.findings)],
        "findings": [_finding(answer, places, ids) for answer in asked],
        "risks": [_risk(answer, places, ids) for answer in asked if answer.verdict is Verdict.FAIL],
    }
    return {
        "uuid": ids.of("result"),
        "title": f"Audit verdict: {record.verdict.verdict.replace('_', ' ')}",
        "description": _text("\n\n".join(record.verdict.reasons) or exit_words(record)),
        "start": _time(record, "started"),
        "end": _time(record, "finished"),
        "props": _outcome(record, ids),
        "local-definitions": {"components": _components(record, ids)},
        "reviewed-controls": {"control-selections": [_selection(record)]},
        **{key: entries for key, entries in lists.items() if entries},
        **({"remarks": _text("\n\n".join(left_out(record)))} if record.left_out else {}),
    }


def _outcome(record: Record, ids: _Ids) -> list[dict[str, str]]:
    said = {"verdict": record.verdict.verdict, "exit_code": record.verdict.exit_code}
    return _props(**said, waived=record.verdict.waived, record_sha256=ids.digest, **scope(record))


_NO_CONTROLS = (
    "No control of a catalog was reviewed. What stands for controls here are the planned checks; "
    "the policy of the audited system's owner sets their limits."
)


def _selection(record: Record) -> dict[str, Any]:
    checks = dict.fromkeys(_token(item.check) for item in record.plan) or ["none"]
    return {"description": _NO_CONTROLS, "include-controls": [{"control-id": check} for check in checks]}


def _token(check: str) -> str:
    """A name as OSCAL's tokens allow it: letters, digits, points and hyphens, not too long."""
    return "check." + _NOT_NAME.sub("-", line(check, 100))


def _components(record: Record, ids: _Ids) -> list[dict[str, Any]]:
    about = {
        "model": (record.model, "The model that was audited."),
        "data": (record.data, "The data that it was audited on."),
    }
    return [
        {
            "uuid": ids.of(f"component/{name}"),
            "type": name,
            "title": _line(file_of(facts, name)),
            "description": text,
            "props": _props(sha256=sha256_of(facts) or "unknown"),
            "status": {"state": "other", "remarks": "Its operational state is not known to the audit."},
        }
        for name, (facts, text) in about.items()
    ]


def _props(**values: Any) -> list[dict[str, str]]:
    return [{"name": name.replace("_", "-"), "value": line(str(value))} for name, value in values.items()]


def _text(text: str) -> str:
    """A text that may hold Markdown, without links, images and tags of its own."""
    safe = visible(text)
    for mark, instead in _MARKDOWN:
        safe = safe.replace(mark, instead)
    return safe


def _line(text: str) -> str:
    return _text(line(text))


def _observation(place: int, finding: Finding, record: Record, ids: _Ids) -> dict[str, Any]:
    status = finding.status.replace("_", " ")
    found = f"Status: {status}; {len(finding.measures)} numbers measured. {sentence(finding.reason)}"
    return {
        "uuid": ids.of(f"observation/{place}"),
        "title": _line(f"{finding.check}: {finding.title}"),
        "description": _text("\n\n".join(filter(None, [finding.text, found.strip()]))),
        "props": _props(check=finding.check, status=finding.status, verdict=finding.verdict),
        "methods": ["TEST"],
        "subjects": [
            {"subject-uuid": ids.of(f"component/{name}"), "type": "component"} for name in ("model", "data")
        ],
        "relevant-evidence": [
            {"href": f"record.json#/findings/{place}", "description": "Numbers, counts and intervals."}
        ],
        "collected": _time(record, "finished"),
        **({"remarks": _text("\n\n".join(finding.caveats))} if finding.caveats else {}),
    }


def _finding(answer: Answer, places: dict[int, int], ids: _Ids) -> dict[str, Any]:
    state = "satisfied" if answer.verdict is Verdict.PASS else "not-satisfied"
    reason = {Verdict.PASS: "pass", Verdict.FAIL: "fail"}.get(answer.verdict, "other")
    risk = {"related-risks": [{"risk-uuid": ids.of(f"risk/{answer.key}")}]}
    return {
        "uuid": ids.of(f"finding/{answer.key}"),
        "title": _line(f"{answer.check}: {answer.name}"),
        "description": _text(told(answer)),
        "props": _props(
            check=answer.check, verdict=answer.verdict, fingerprint=answer.key, **numbers(answer)
        ),
        "target": {
            "type": "objective-id",
            "target-id": f"{_token(answer.check)}.{answer.key[:16]}",
            "title": _line(answer.name),
            "status": {"state": state, "reason": reason, "remarks": _text(told(answer))},
        },
        **_observed(answer, places, ids),
        **(risk if answer.verdict is Verdict.FAIL else {}),
    }


def _observed(answer: Answer, places: dict[int, int], ids: _Ids) -> dict[str, Sequence[Any]]:
    if answer.finding is None:
        return {}
    uuid = ids.of(f"observation/{places[id(answer.finding)]}")
    return {"related-observations": [{"observation-uuid": uuid}]}


def _risk(answer: Answer, places: dict[int, int], ids: _Ids) -> dict[str, Any]:
    return {
        "uuid": ids.of(f"risk/{answer.key}"),
        "title": _line(f"Limit broken: {answer.check}: {answer.name}"),
        "description": _text(told(answer)),
        "statement": "A limit that the policy sets is broken. What follows from it is for a person to state.",
        "status": "deviation-approved" if answer.judgement and answer.judgement.waived else "open",
        **_observed(answer, places, ids),
    }
