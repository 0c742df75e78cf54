"""Changes: what a comparison with an earlier run says, derived again from the differences that it holds.

A record is plain JSON here. Written from the published rules, and not from the code that compared: all
differences share one family-wise level by Holm's procedure, and one that rests on rows which both models
answer alike takes no part. The earlier run itself is not looked at.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from audit.proof.methods import interval_at, same, tolerance
from audit.proof.numbers import place
from audit.proof.proportions import split
from audit.proof.statement import Statements, counted, noted, proved, wrong
from audit.proof.verdicts import judgements

Json = Mapping[str, Any]
_WORST = ("FAIL", "NOT_EVALUABLE", "INCONCLUSIVE", "PASS")
_UNMOVED = frozenset({"added", "no longer tested", "not comparable", "not compared"})
_SIDES = {"higher": ("worse", "better"), "lower": ("better", "worse")}
_NOTHING_LEFT = {
    "exact": (),
    "paired_proportions": ("base_only", "new_only"),
    "paired_auc": ("value", "sd_positives", "sd_negatives"),
    "student_t": ("mean", "sd"),
    "two_intervals": ("differ",),
}
"""By method the statistics that are all 0 where no row says anything about a difference."""


def changes(record: Json) -> Statements:
    """Everything that the comparison in a record says, against what was measured and the rules."""
    baseline = record.get("baseline")
    if baseline is None:
        return
    faults = [*_measured(record, baseline), *_settled(record, baseline), *_stated(record, baseline)]
    yield from faults
    if baseline["changes"] and not faults:
        said = f"{counted(len(baseline['changes']), 'change')} since the baseline: each called what its "
        yield proved("record", f"{said}interval says, at the level that all of them share.")
    said = (
        f"The baseline, run {baseline['run']}, is named by its sha256 and not looked at; verify it by itself."
    )
    yield noted("record", said, place("baseline"))


def _key(check: str, item: Json) -> bytes:
    """What tells one measure of a record from another."""
    import rfc8785

    return rfc8785.dumps([check, item["name"], item["group"], item["settings"]])


def _measured(record: Json, baseline: Json) -> Statements:
    """Every measure of the record stands among the changes, with the value that was measured."""
    known: dict[bytes, list[Any]] = {}
    for finding in record["findings"]:
        for item in finding["measures"] if finding["status"] == "measured" else ():
            known.setdefault(_key(finding["check"], item), []).append(item["value"])
    told: Counter[bytes] = Counter()
    for at, change in enumerate(baseline["changes"]):
        key = _key(change["check"], change["measure"])
        told[key] += change["state"] != "no longer tested"
        measured = known.get(key, [change["new"]])
        if change["new"] is not None and change["new"] not in measured:
            said = f"'{change['measure']['name']}' is said to be {change['new']} now; the record measured "
            yield wrong("record", f"{said}{measured[0]}.", place("baseline", "changes", at, "new"))
    for key in (key for key, values in known.items() if told[key] < len(values)):
        said = f"the measure {key.decode()} stands in the record and not among the changes."
        yield wrong("record", said, place("baseline", "changes"))


def _settled(record: Json, baseline: Json) -> Statements:
    """The level, who shares it, at which part of it each was settled, and what it is called for that."""
    items = [change["measure"] for change in baseline["changes"]]
    level = record["policy"]["family_wise_level"]
    compared = [at for at, item in enumerate(items) if item["value"] is not None]
    family = [at for at in compared if not _says_nothing(items[at]["method"], items[at]["statistics"])]
    must = {"level": level, "comparisons": len(family), "alike": len(compared) - len(family)}
    for key, value in must.items():
        if not same(baseline[key], value):
            yield wrong("record", f"it is {baseline[key]}, and must be {value}.", place("baseline", key))
    final = dict.fromkeys(compared, (level, False)) | _holm(items, family, level)
    for at, change in enumerate(baseline["changes"]):
        own, significant = final.get(at, (None, False))
        called = "" if own is None else _called(items[at], significant=significant)
        if change["moved"] != called:
            said = f"it is called '{change['moved']}'; by its statistics and the level it is '{called}'."
            yield wrong("record", said, place("baseline", "changes", at, "moved"))
        elif own is not None and not same(items[at]["level"], own):
            said = f"its interval has level {items[at]['level']}, and was settled at {own}."
            yield wrong("record", said, place("baseline", "changes", at, "measure", "level"))


def _says_nothing(method: str, statistics: Json) -> bool:
    """Whether both models answer every row alike that stands behind a difference."""
    if method == "mean_of_paired":
        return all(_says_nothing("paired_proportions", part) for part in statistics["strata"])
    if method not in _NOTHING_LEFT:
        return False
    return all(statistics.get(key) == 0 for key in _NOTHING_LEFT[method])


def _holm(items: Sequence[Json], family: Sequence[int], level: float) -> dict[int, tuple[float, bool]]:
    """Level and significance of each of the family: Holm's step-down."""
    final: dict[int, tuple[float, bool]] = {}
    rest, found = list(family), set(family)
    while rest and found:
        each = split(level, len(rest))
        found = {at for at in rest if _leaves_out_zero(items[at], each)}
        final |= {at: (each, at in found) for at in rest}
        rest = [at for at in rest if at not in found]
    return final


def _leaves_out_zero(item: Json, level: float) -> bool:
    """Whether the interval does, by the ends in the record where only rounding tells them from ours."""
    low, high = interval_at(item, level)
    if item["level"] is not None and same(item["level"], level):
        within = tolerance(item["method"])
        low = item["low"] if same(item["low"], low, within) else low
        high = item["high"] if same(item["high"], high, within) else high
    return low is not None and high is not None and (low > 0 or high < 0)


def _called(item: Json, *, significant: bool) -> str:
    if not significant:
        return "unchanged"
    return _SIDES.get(item["better"], ("changed", "changed"))[item["value"] > 0]


def _stated(record: Json, baseline: Json) -> Statements:
    """The verdict of this run on each number, change aside, and what a reader is told first."""
    verdicts = _verdicts(record)
    for at, change in enumerate(baseline["changes"]):
        now = _worst(verdicts.get(change["check"], ()), change["measure"])
        if change["now"] != now:
            said = f"its verdict is said to be '{change['now']}' now, and is '{now}'."
            yield wrong("record", said, place("baseline", "changes", at, "now"))
        must = {change["moved"]} if change["moved"] else _UNMOVED
        if now == "FAIL" and change["was"] != "FAIL":
            must = {"new"}
        elif change["was"] == "FAIL" and now == "PASS" and change["moved"]:
            must = {"fixed"}
        if change["state"] not in must:
            said = f"its state is said to be '{change['state']}', and is {' or '.join(sorted(must))}."
            yield wrong("record", said, place("baseline", "changes", at, "state"))


def _verdicts(record: Json) -> dict[str, list[dict[str, Any]]]:
    """By check what the limits give that ask nothing of a change."""
    policy = record["policy"]
    limits = [
        {**limit, "no_worse_than": "", "margin": 0}
        for limit in policy["limits"]
        if limit["at_least"] is not None or limit["at_most"] is not None
    ]
    alone = {**record, "policy": {**policy, "limits": limits}, "baseline": None}
    return {finding["check"]: judgements(alone, finding) for finding in record["findings"]}


def _worst(judged: Sequence[Json], item: Json) -> str:
    about = {
        one["verdict"]
        for one in judged
        if (one["measure"], one["group"], one["settings"]) == (item["name"], item["group"], item["settings"])
    }
    return next((verdict for verdict in _WORST if verdict in about), "")
