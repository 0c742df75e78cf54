"""An in-toto statement of a test result, to be signed and stored beside the model.

Statement v1 with the predicate `test-result/v0.1` (in-toto attestation framework). The predicate knows
PASSED, WARNED and FAILED, and calls WARNED "passed with warnings". So an answer that is no yes is FAILED,
unless the policy itself says that it only warns or lets it go: then it is WARNED.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from audit.errors import EXIT_OK
from audit.formats.answers import Answer, answers, record_sha256, scope
from audit.formats.text import as_json, file_of, line, ordered, sha256_of
from audit.policy import Verdict
from audit.record import Record

FILE = "test-result.intoto.json"
_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://in-toto.io/attestation/test-result/v0.1"
_LISTS = ("passedTests", "warnedTests", "failedTests")


def in_toto(record: Record) -> bytes:
    """The record as an unsigned in-toto statement.

    The subjects are the model, where one was run and its sha256 is known, and the record. The configuration
    is the data, the settings and the policy, by their sha256. What was measured and not judged is no test;
    the annotations of the record count it, and name what is waived and what was left out.
    """
    given = answers(record)
    tests = {name: [_name(item) for item in given if _list(item) == name] for name in _LISTS}
    itself = {"name": "record.json", "digest": {"sha256": record_sha256(record)}}
    statement = {
        "_type": _STATEMENT,
        "subject": [*_model(record), itself],
        "predicateType": _PREDICATE,
        "predicate": {
            "result": _result(record, tests),
            "configuration": [*_asked(record), {**itself, "annotations": _outcome(record, given)}],
            **tests,
        },
    }
    return as_json(statement)


def _list(answer: Answer) -> str:
    """The list an answer belongs to; empty where no yes or no was asked for."""
    if not answer.asked:
        return ""
    if answer.verdict is Verdict.PASS:
        return "passedTests"
    return "failedTests" if answer.leniency == "fail" else "warnedTests"


def _result(record: Record, tests: Mapping[str, list[str]]) -> str:
    if record.verdict.exit_code != EXIT_OK or tests["failedTests"]:
        return "FAILED"
    return "WARNED" if tests["warnedTests"] else "PASSED"


def _name(answer: Answer) -> str:
    return f"{line(answer.check)}: {answer.name}"


def _model(record: Record) -> list[dict[str, Any]]:
    digest = sha256_of(record.model) if record.model.get("loader") != "none" else None
    return [{"name": file_of(record.model, "model"), "digest": {"sha256": digest}}] if digest else []


def _asked(record: Record) -> list[dict[str, Any]]:
    known = (
        (file_of(record.data, "data"), sha256_of(record.data)),
        ("configuration", sha256_of(record.run, "config_sha256")),
        ("policy", sha256_of(record.run, "policy_sha256")),
    )
    return [{"name": name, "digest": {"sha256": digest}} for name, digest in known if digest]


def _outcome(record: Record, given: Sequence[Answer]) -> dict[str, Any]:
    outcome = record.verdict
    return {
        "verdict": outcome.verdict,
        "exitCode": outcome.exit_code,
        "counts": ordered(outcome.counts),
        "planned": outcome.planned,
        "measured": outcome.measured,
        "waived": outcome.waived,
        "waivedTests": [_name(item) for item in given if item.judgement and item.judgement.waived],
        "profile": scope(record)["profile"],
        "leftOut": [line(item.check) for item in record.left_out],
    }
