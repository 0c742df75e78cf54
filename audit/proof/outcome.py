"""Outcome: the answer of the whole audit and what was waived, derived again from the judgements."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Json = Mapping[str, Any]
_ORDER = ("FAIL", "BROKEN", "NOT_EVALUABLE", "NOT_APPLICABLE", "INCONCLUSIVE", "PASS", "NOT_JUDGED")
_RELAXED = {
    "INCONCLUSIVE": "on_inconclusive",
    "NOT_EVALUABLE": "on_not_evaluable",
    "BROKEN": "on_broken",
    "NOT_APPLICABLE": "on_not_applicable",
}
_STATUS = {"broken": "BROKEN", "not_applicable": "NOT_APPLICABLE", "not_evaluable": "NOT_EVALUABLE"}
_CODES = (0, 1, 2)


def outcome(record: Json) -> dict[str, Any]:
    """Verdict, exit code, counts and the beginnings of the reasons that a record's judgements lead to.

    Args:
        record: with judgements that were found to follow from its numbers.

    Returns:
        The fields of the record's `verdict`; of `reasons` only how each must begin.
    """
    policy, entries = record["policy"], list(_entries(record))
    effects = [(entry, _effect(entry, policy)) for entry in sorted(entries, key=lambda e: _ORDER.index(e[0]))]
    counts = Counter(entry[0] for entry in entries)
    ok, broken, unsure = _CODES
    judged = counts["PASS"] + counts["INCONCLUSIVE"] + counts["FAIL"]
    stopped = any(effect == "fail" for _, effect in effects)
    code = (
        broken
        if any(e[0] == "FAIL" and not e[3] for e in entries)
        else unsure
        if stopped or not judged
        else ok
    )
    misfit = any(effect == "fail" and entry[0] == "NOT_APPLICABLE" for entry, effect in effects)
    told = [verdict for verdict in _ORDER if counts[verdict] and (verdict != "NOT_APPLICABLE" or misfit)]
    starts = [entry[1] for entry, effect in effects if effect == "fail"]
    starts += [f"Warning: {entry[1]}" for entry, effect in effects if effect == "warn"]
    starts += [] if judged else ["No limit was judged"]
    starts += ["Warning: the waiver of "] * len(_idle(record))
    starts += [f"Warning: no {other} was measured" for other in _unasked(record)]
    return {
        "verdict": told[0] if told else "NOT_JUDGED",
        "exit_code": code,
        "counts": {verdict: counts[verdict] for verdict in _ORDER},
        "planned": len({item["check"] for item in record["plan"]}),
        "measured": sum(item["status"] == "measured" for item in record["findings"]),
        "waived": sum(bool(entry[3]) for entry in entries),
        "reasons": starts,
    }


def _unasked(record: Json) -> Iterator[str]:
    """For each check with a limit that holds: who might have spoken against its number and was not run."""
    measured = [item["check"] for item in record["findings"] if item["status"] == "measured"]
    for finding in record["findings"]:
        plans = [item.get("doubted_by", {}) for item in record["plan"] if item["check"] == finding["check"]]
        holds = [item["measure"] for item in finding["verdicts"] if item["verdict"] == "PASS"]
        speakers = plans[-1] if plans else {}
        for other in sorted(speakers):
            if other not in measured and any(name in holds for name in speakers[other]):
                yield other


Entry = tuple[str, str, bool, bool]


def _entries(record: Json) -> Iterator[Entry]:
    """Every answer: verdict, how its sentence begins, whether no policy relaxes it, whether it is waived."""
    limited = {limit["check"] for limit in record["policy"]["limits"]}
    named = limited | {item["check"] for item in record["plan"] if item["asked"] == "name"}
    for finding in record["findings"]:
        check, status = finding["check"], finding["status"]
        if status == "measured":
            for item in finding["verdicts"]:
                waived = bool(item.get("waived"))
                yield item["verdict"], f"{check}: ", not item.get("matched", True), waived
            if not finding["verdicts"]:
                yield "NOT_JUDGED", "", False, False
        elif status != "not_applicable" or check in named:
            yield _STATUS[status], f"{check}: ", False, False
    wanted = limited | {item["check"] for item in record["plan"]}
    for check in sorted(wanted - {item["check"] for item in record["findings"]}):
        yield "BROKEN", f"{check} was asked for and not measured", True, False


def _effect(entry: Entry, policy: Json) -> str:
    verdict, _, always, waived = entry
    if waived:
        return "warn"
    if always or verdict == "FAIL":
        return "fail"
    return str(policy[_RELAXED[verdict]]) if verdict in _RELAXED else "pass"


def waived(record: Json, check: str, judgement: Json) -> str:
    """What a judgement must say of who answers for it: empty unless it fails and a waiver holds."""
    if judgement["verdict"] != "FAIL":
        return ""
    holding = [item for item in _given(record) if _holds(record, item)]
    mine = [item for item in holding if item["finding"] == fingerprint(check, judgement)]
    return f"waived by {mine[-1]['owner']} until {mine[-1]['expires']}: {mine[-1]['reason']}" if mine else ""


def fingerprint(check: str, judgement: Json) -> str:
    """The 16 digits by which a waiver names a judgement."""
    group = sorted((str(key), str(value)) for key, value in judgement.get("group", {}).items())
    where = sorted((str(key), _setting(value)) for key, value in judgement.get("settings", {}).items())
    asked = repr((check, judgement["limit"], judgement["measure"], group, where))
    return hashlib.sha256(asked.encode(errors="backslashreplace")).hexdigest()[:16]


def _setting(value: Any) -> str:
    whole = isinstance(value, float) and value.is_integer()
    return repr(int(value)) if whole else repr(value)


def _given(record: Json) -> Sequence[Json]:
    given: Sequence[Json] = (record.get("waivers") or {}).get("given", ())
    return given


def _holds(record: Json, waiver: Json) -> bool:
    model, today = record["model"], (record.get("waivers") or {}).get("day")
    digest, factory = str(model.get("sha256") or ""), str(model.get("factory_sha256") or "")
    if factory:
        digest = hashlib.sha256(f"{digest} {factory}".encode()).hexdigest()
    settings = waiver.get("settings", "")
    same = bool(digest) and waiver["model"] == digest and settings in ("", _called(model))
    return same and bool(today) and waiver["expires"] >= str(today)


def _called(model: Json) -> str:
    """The digest of how a model was called, as a waiver names it."""
    keys = ("classes", "input_range", "normalize", "output", "predictions", "task")
    facts = {key: _rounded(model[key]) for key in keys if model.get(key) is not None}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest() if facts else ""


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _idle(record: Json) -> list[Json]:
    """The waivers that do nothing: for another model, past their day, or for a limit that is not broken."""
    failed = {
        fingerprint(finding["check"], item)
        for finding in record["findings"]
        for item in finding["verdicts"]
        if item["verdict"] == "FAIL"
    }
    return [item for item in _given(record) if not (_holds(record, item) and item["finding"] in failed)]
