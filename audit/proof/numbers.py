"""Numbers: every measure and every verdict of a record, held against what is derived again."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from audit.proof.methods import TOLERANCE, can_derive, derive, same, tolerance
from audit.proof.outcome import outcome, waived
from audit.proof.statement import Statements, counted, noted, proved, unproved, wrong
from audit.proof.verdicts import judgements, needed_holds

Json = Mapping[str, Any]
RECORD = "record.json"
_EXACT = ("measure", "verdict", "matched", "comparisons", "group", "settings")
_NUMBERS = ("value", "level", "bound", "low", "high", "at_least", "at_most")
_COUNTED = frozenset({"wilson", "clopper_pearson", "student_t"})


def place(*keys: object) -> str:
    """A place in the record, as a JSON pointer (RFC 6901)."""
    told = (str(key).replace("~", "~0").replace("/", "~1") for key in keys)
    return f"{RECORD}#/{'/'.join(told)}"


def numbers(record: Json) -> Statements:
    """Derive the value and the interval of every measure from its counts or sums."""
    total, sound, left = 0, True, Counter[str]()
    for where, item in _measures(record):
        try:
            derivable = can_derive(item)
            faults = list(_faults(item, where)) if derivable else []
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            derivable = True
            faults = [wrong("numbers", f"'{item.get('name')}' cannot be derived: {error}.", where)]
        yield from faults
        sound = sound and not faults
        total += derivable
        if not derivable:
            left["undefined" if item["value"] is None else str(item["method"] or "no method")] += 1
    if sound:
        yield proved(
            "numbers",
            f"{counted(total, 'number')} derived again, interval and all, from counts by other code; "
            f"each agrees to {TOLERANCE:g} of itself (1e-06 for Cramer's V).",
        )
    yield from _not_derived(left)


def _not_derived(left: Counter[str]) -> Statements:
    undefined = left.pop("undefined", 0)
    if undefined:
        said = f"{counted(undefined, 'number')} undefined, without counts: there is nothing to derive."
        yield noted("numbers", said)
    if left:
        by = ", ".join(f"{name}: {count}" for name, count in sorted(left.items()))
        said = f"{counted(left.total(), 'number')} not derived again: the record holds no sums for it ({by})."
        yield noted("numbers", said)


def _measures(record: Json) -> Iterator[tuple[str, Json]]:
    for at, finding in enumerate(record["findings"]):
        for number, item in enumerate(finding["measures"]):
            yield place("findings", at, "measures", number), item
    for number, change in enumerate((record.get("baseline") or {}).get("changes", ())):
        yield place("baseline", "changes", number, "measure"), change["measure"]


def _faults(item: Json, where: str) -> Statements:
    found = dict(zip(("value", "low", "high"), derive(item, item["level"]), strict=True))
    for key, number in found.items():
        if not same(item[key], number, tolerance(item["method"])):
            said = f"'{item['name']}' has {key} {item[key]}; its statistics give {number}."
            yield wrong("numbers", said, f"{where}/{key}")
    if item["method"] in _COUNTED and item["n"] != item["statistics"]["n"]:
        said = f"'{item['name']}' says n = {item['n']}; its statistics are of {item['statistics']['n']} rows."
        yield wrong("numbers", said, f"{where}/n")
    if found["value"] is None and not item["reason"]:
        yield wrong("numbers", f"'{item['name']}' is undefined and gives no reason.", f"{where}/reason")


def verdicts(record: Json) -> Statements:
    """Derive every judgement and the outcome."""
    total, loose, sound = 0, 0, True
    for at, finding in enumerate(record["findings"]):
        expected = judgements(record, finding)
        faults = list(_judged(record, finding, expected, at))
        yield from faults
        sound, total = sound and not faults, total + len(expected)
        loose += sum(
            "item" in must and must["value"] is not None and not can_derive(must["item"]) for must in expected
        )
    if sound:
        said = f"{counted(total, 'judgement')}: each follows from numbers, policy and waivers."
        yield proved("verdicts", said)
    if loose:
        said = f"{counted(loose, 'judgement')} on numbers that the record gives without the sums behind them."
        yield unproved("verdicts", said)
    yield from _let_through(record)
    yield from _outcome(record)


def _let_through(record: Json) -> Statements:
    """Who answers for what is broken; the day on which that was asked may not lie before the run."""
    waivers = record.get("waivers") or {}
    day, began = waivers.get("day"), record["run"].get("started")
    if day is not None and began is not None and str(day) < str(began)[:10]:
        said = f"the waivers were held against it as of {day}, and the run began on {str(began)[:10]}."
        yield wrong("verdicts", said, place("waivers", "day"))
    told = [
        f"{finding['check']}, {item['waived']}"
        for finding in record["findings"]
        for item in finding["verdicts"]
        if item.get("waived")
    ]
    if told:
        many = counted(len(told), "broken limit")
        said = (
            f"{many} let through as of {day} by waivers that may have been given when the numbers were known"
        )
        yield noted("verdicts", f"{said}: {'; '.join(told)}.")
    today = datetime.now(UTC).date().isoformat()
    past = sum(str(item["expires"]) < today for item in waivers.get("given", ()))
    if told and past:
        said = f"{counted(past, 'waiver')} of the record ended before today: judged again, it may say no."
        yield noted("verdicts", said)


def _judged(record: Json, finding: Json, expected: Sequence[Json], at: int) -> Statements:
    given = finding["verdicts"]
    if len(expected) != len(given):
        said = f"'{finding['check']}' has {len(given)} judgements; its limits make {len(expected)}."
        yield wrong("verdicts", said, place("findings", at, "verdicts"))
        return
    for number, (must, has) in enumerate(zip(expected, given, strict=True)):
        where = place("findings", at, "verdicts", number)
        yield from _differences(must, has, where)
        yield from _waiver(record, finding["check"], has, where)


def _differences(must: Json, has: Json, where: str) -> Statements:
    for key in _EXACT:
        if has.get(key, must[key] if key == "matched" else None) != must[key]:
            yield wrong("verdicts", f"{key} is {has.get(key)!r}; {must[key]!r} follows.", f"{where}/{key}")
    within = tolerance(must["item"]["method"]) if "item" in must else TOLERANCE
    for key in _NUMBERS:
        if not same(has.get(key), must[key], within):
            yield wrong("verdicts", f"{key} is {has.get(key)}; {must[key]} follows.", f"{where}/{key}")
    if _tokens(has["limit"]) != _tokens(must["limit"]):
        yield wrong(
            "verdicts",
            f"the limit is told as '{has['limit']}'; the policy says '{must['limit']}'.",
            f"{where}/limit",
        )
    if not needed_holds(must, has.get("needed_n")):
        yield wrong("verdicts", f"needed_n = {has.get('needed_n')} would not settle it.", f"{where}/needed_n")


def _tokens(words: str) -> list[str]:
    """The parts of a limit in words, in any order; a file may sort them and write 1.0 as 1."""
    return sorted(re.sub(r"^(-?\d+)\.0$", r"\1", part) for part in re.split(r",? ", words))


def _waiver(record: Json, check: str, has: Json, where: str) -> Statements:
    must = waived(record, check, has)
    if has.get("waived", "") != must:
        said = f"it says '{has.get('waived', '')}'; the waivers of the record give '{must}'."
        yield wrong("verdicts", said, f"{where}/waived")


def _outcome(record: Json) -> Statements:
    must, has = outcome(record), record["verdict"]
    reasons, sound = must.pop("reasons"), True
    for key, value in must.items():
        found = has.get(key, 0 if key == "waived" else None)
        if found != value:
            sound = False
            yield wrong(
                "verdicts", f"{key} is {found!r}; {value!r} follows from the findings.", place("verdict", key)
            )
    fits = len(reasons) == len(has["reasons"]) and all(map(str.startswith, has["reasons"], reasons))
    if not fits:
        said = f"its {len(has['reasons'])} reasons are not those of the {len(reasons)} answers that need one."
        yield wrong("verdicts", said, place("verdict", "reasons"))
    elif sound:
        yield proved(
            "verdicts",
            f"The answer {has['verdict']} with exit code {has['exit_code']} follows from the judgements.",
        )
