"""Consistency: whether a record agrees with itself, with its journal and with its artifacts."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from audit.plainfile import real_path
from audit.proof.changes import changes
from audit.proof.files import sha256_of
from audit.proof.numbers import RECORD, place
from audit.proof.statement import Statements, counted, noted, proved, unproved, wrong

Json = Mapping[str, Any]
JOURNAL = "journal.jsonl"
_FACTS = ("model", "data", "environment")


def canonical(value: Any) -> bytes:
    """Canonical JSON (RFC 8785) of plain JSON values."""
    import rfc8785

    return rfc8785.dumps(value)


def parsed(content: bytes) -> Any:
    """The JSON value of some bytes, which must be its canonical ones.

    Raises:
        ValueError: no JSON, a number that is none, or bytes that are not the canonical ones.
    """

    def refuse(word: str) -> Any:
        raise ValueError(f"{word} is not a number")

    value = json.loads(content, parse_constant=refuse, parse_int=_whole)
    if canonical(value) != content:
        raise ValueError("these are not the canonical bytes of their value (RFC 8785)")
    return value


def _whole(text: str) -> float:
    """A whole number; beyond 2**53 the float that it was written from."""
    return int(text) if len(text) < len(str(2**53)) else float(text)


def digest(value: Any) -> str:
    """sha256, in hex, of the canonical JSON of a value."""
    return hashlib.sha256(canonical(value)).hexdigest()


def consistency(record: Json, folder: Path) -> Statements:
    """Everything in a run folder that says the same thing twice."""
    yield from _plan(record)
    yield from _artifacts(record, folder)
    yield from changes(record)
    yield from _hashes(record)
    path = folder / JOURNAL
    if not path.is_file():
        said = "There is no journal, so nothing shows that the policy was fixed before the first measurement."
        claimed = record["run"].get("policy_fixed") is not None
        yield (unproved if claimed else noted)("journal", said, JOURNAL)
        return
    events, damage = _events(path.read_bytes())
    yield from damage
    if not damage:
        yield from _journal(record, events)


def _plan(record: Json) -> Statements:
    planned = {item["check"]: item for item in record["plan"]}
    seen = Counter(finding["check"] for finding in record["findings"])
    sound = True
    for at, finding in enumerate(record["findings"]):
        check, asked = finding["check"], planned.get(finding["check"])
        if asked is None or seen[check] > 1:
            said = "was not planned" if asked is None else f"stands here {seen[check]} times"
            yield wrong("record", f"'{check}' {said}.", place("findings", at))
        elif dict(asked["settings"]) != dict(finding["settings"]):
            yield wrong(
                "record",
                f"'{check}' ran with other settings than planned.",
                place("findings", at, "settings"),
            )
        else:
            continue
        sound = False
    both = set(planned) & {item["check"] for item in record.get("left_out", ())}
    for check in sorted(both):
        yield wrong("record", f"'{check}' is both planned and left out.", place("left_out"))
    if sound and not both:
        yield proved(
            "record",
            f"{counted(len(seen), 'finding')}: those of the plan of {counted(len(planned), 'check')}.",
        )


def _artifacts(record: Json, folder: Path) -> Statements:
    total, sound = 0, True
    for at, finding in enumerate(record["findings"]):
        for number, item in enumerate(finding["artifacts"]):
            where, path = place("findings", at, "artifacts", number), folder / item["path"]
            total += 1
            if not real_path(path).is_relative_to(real_path(folder)):
                yield wrong("artifacts", f"'{item['path']}' lies outside the run folder.", where)
            elif not path.is_file():
                yield wrong("artifacts", f"'{finding['check']}' names it, and it is not there.", item["path"])
            elif sha256_of(path) != item["sha256"]:
                yield wrong(
                    "artifacts", f"its sha256 is not the one that '{finding['check']}' gives.", item["path"]
                )
            else:
                continue
            sound = False
    if total and sound:
        yield proved(
            "artifacts", f"{counted(total, 'artifact')}: each has the sha256 that its finding gives."
        )


def _hashes(record: Json) -> Statements:
    config, told = record["run"].get("config"), record["run"].get("config_sha256")
    if config is not None and digest(config) != told:
        said = "the configuration does not have the sha256 that the record gives for it."
        yield wrong("record", said, place("run", "config_sha256"))


def _events(content: bytes) -> tuple[list[Json], list[Any]]:
    """The lines of a journal, and what is wrong with them. A killed run may leave a torn last line."""
    *lines, torn = content.split(b"\n")
    events: list[Json] = []
    for number, line in enumerate(lines, start=1):
        try:
            event = parsed(line)
        except (ValueError, RecursionError) as error:
            return events, [wrong("journal", f"it is damaged: {error}.", f"{JOURNAL}:{number}")]
        if not isinstance(event, dict) or "event" not in event or (events and event["event"] == "begin"):
            said = "it tells of no event, or of a second beginning."
            return events, [wrong("journal", said, f"{JOURNAL}:{number}")]
        events.append(event)
    if torn:
        return events, [wrong("journal", "its last line is torn.", f"{JOURNAL}:{len(lines) + 1}")]
    if not events or events[0].get("event") != "begin":
        return events, [wrong("journal", "it does not begin with the beginning of a run.", f"{JOURNAL}:1")]
    return events, []


def _journal(record: Json, events: Sequence[Json]) -> Statements:
    faults = [*_same_findings(record, events), *_same_facts(record, events), *_same_hashes(record, events)]
    faults += [*_same_plan(record, events), *_unstarted(events)]
    yield from faults
    if not faults:
        said = f"The journal ({counted(len(events), 'line')}) tells of the same facts and findings."
        yield proved("journal", said, JOURNAL)
    yield from _policy_first(record, events)


def _same_findings(record: Json, events: Sequence[Json]) -> Statements:
    """The last finding that the journal holds of each check, verdicts aside."""
    last = {
        event["finding"]["check"]: (number, event["finding"])
        for number, event in enumerate(events, start=1)
        if event["event"] == "finding"
    }
    for at, finding in enumerate(record["findings"]):
        number, told = last.pop(finding["check"], (0, None))
        if told is None and finding["status"] == "broken":
            continue  # a check that no new process could be started for leaves no line
        if told is None:
            yield wrong(
                "journal",
                f"'{finding['check']}' stands in the record and not in the journal.",
                place("findings", at),
            )
            continue
        keys = sorted({*told, *finding} - {"verdicts"})
        for key in (key for key in keys if told.get(key) != finding.get(key)):
            said = f"'{finding['check']}' has another {key} than line {number} of the journal."
            yield wrong("journal", said, place("findings", at, key))
    for check, (number, _) in last.items():
        yield wrong("journal", f"'{check}' was measured and is not in the record.", f"{JOURNAL}:{number}")


def _unstarted(events: Sequence[Json]) -> Statements:
    """Numbers of a check that the journal never tells was started."""
    started = set()
    for number, event in enumerate(events, start=1):
        if event["event"] == "start":
            started.add(event["check"])
        told = event.get("finding", {})
        if told.get("status") == "measured" and told["check"] not in started:
            said = f"'{told['check']}' was measured, and no line before tells that it was started."
            yield wrong("journal", said, f"{JOURNAL}:{number}")


def _same_plan(record: Json, events: Sequence[Json]) -> Statements:
    """The plan against the one that the journal was begun with, less what a budget took out since."""
    planned = [item["check"] for item in record["plan"]]
    fitted = next((list(event["plan"]) for event in events if event["event"] == "budget"), None)
    late = {event["check"] for event in events if event["event"] == "left_out"}
    if fitted is not None and planned != [check for check in fitted if check not in late]:
        said = "the journal tells of another plan, after what did not fit into the budget was left out."
        yield wrong("journal", said, place("plan"))
    versions = {finding["check"]: finding["version"] for finding in record["findings"]}
    told = events[0].get("plan_sha256")
    if told is None or fitted is not None or late or not versions.keys() >= set(planned):
        return
    left_out, budget = record.get("left_out", ()), record["run"].get("budget_seconds")
    options = [*([budget] if budget is not None else []), *([left_out] if left_out else [])]
    if digest([record["plan"], [versions[check] for check in planned], *options]) != told:
        said = "the journal was begun with another plan, with other versions of its checks or more left out."
        yield wrong("journal", said, place("plan"))


def _same_facts(record: Json, events: Sequence[Json]) -> Statements:
    ready = next((event for event in events if event["event"] == "ready"), None)
    for key in _FACTS:
        if ready is not None and ready[key] != record[key]:
            yield wrong("journal", f"the journal tells of another {key}.", place(key))


def _same_hashes(record: Json, events: Sequence[Json]) -> Statements:
    run, begin = record["run"], events[0]
    # a run that was gone on with may have been so by a later version
    resumed = any(event["event"] == "resume" for event in events)
    if not resumed and begin.get("tool") != record["tool"]:
        yield wrong("journal", "the journal was begun by another tool or version.", place("tool"))
    for key in ("config_sha256", "policy_sha256"):
        if key in run and begin.get(key) != run[key]:
            yield wrong("journal", "the journal was begun under another one.", place("run", key))
    if run.get("policy_fixed") not in (None, begin.get("time")):
        yield wrong("journal", "the journal was begun at another time.", place("run", "policy_fixed"))


def _policy_first(record: Json, events: Sequence[Json]) -> Statements:
    """Whether the policy that judged is the one that the journal fixed before anything was measured."""
    begin, started = events[0], next((event for event in events if event["event"] == "start"), None)
    given = record["run"].get("first_measured")
    if started is not None and given not in (None, started["time"]):
        yield wrong(
            "journal", "the journal tells of another first measurement.", place("run", "first_measured")
        )
    if started is not None and str(begin.get("time")) > str(started["time"]):
        said = f"The first check started at {started['time']}, before the policy was written, by these times."
        yield unproved("policy", said, f"{JOURNAL}:1")
        return
    if digest(record["policy"]) == begin.get("policy_sha256"):
        when = (
            f" and the first check started at {started['time']}" if started else ", and no check was started"
        )
        said = f"The policy that judged was written to the journal at {begin['time']}{when}."
        yield proved("policy", said, f"{JOURNAL}:1")
        return
    said = (
        "The verdicts were given under another policy than the one fixed before the first measurement: they "
        "follow from the numbers, but the limits may have been chosen after these were known."
    )
    yield unproved("policy", said, place("policy"))


def readable(content: bytes) -> tuple[Any, list[Any]]:
    """A record as JSON, and what is wrong with its bytes."""
    try:
        value = parsed(content)
    except (ValueError, RecursionError) as error:
        return None, [wrong("record", f"it cannot be read: {error}.", RECORD)]
    return value, []
