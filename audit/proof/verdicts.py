"""Verdicts: every judgement that follows from a record's numbers and its policy, derived again.

A record is plain JSON here. Written from the published rules, and not from the code that judged: the limits
of a check form one family, Holm's step-down settles them, and a number in doubt cannot pass.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from audit.proof.methods import interval_at, same, tolerance
from audit.proof.proportions import known, split, wilson

Json = Mapping[str, Any]
_UNMEASURED = {
    "broken": "BROKEN",
    "not_applicable": "NOT_APPLICABLE",
    "not_evaluable": "NOT_EVALUABLE",
}
_WORST = ("FAIL", "INCONCLUSIVE", "PASS")
_EMPTY: dict[str, Any] = {
    "bound": None, "at_least": None, "at_most": None, "low": None, "high": None, "level": None,
    "comparisons": 0, "group": {}, "settings": {}, "value": None, "matched": True,
}  # fmt: skip


def judgements(record: Json, finding: Json) -> list[dict[str, Any]]:
    """What the verdicts of a finding must be: one a limit and measure, in their order.

    Ends of intervals are those in the record where they agree with the derived ones but for rounding, so
    that rounding alone decides no verdict.
    """
    limits = [limit for limit in record["policy"]["limits"] if limit["check"] == finding["check"]]
    if finding["status"] != "measured":
        verdict = _UNMEASURED[finding["status"]]
        return [
            {**_EMPTY, "limit": in_words(limit), "measure": limit["measure"], "verdict": verdict}
            for limit in limits
        ]
    asked = [(part, pool) for limit in limits for part, pool in _parts(record, finding, limit)]
    pairs = [(limit, item) for limit, pool in asked for item in _meant(pool or (), limit)]
    absent = [(limit, pool) for limit, pool in asked if not _meant(pool or (), limit)]
    return [*_family(pairs, record["policy"], finding["verdicts"]), *(_absent(*item) for item in absent)]


def _parts(record: Json, finding: Json, limit: Json) -> list[tuple[Json, list[Json] | None]]:
    """What a limit asks of the number, and what of its change since the baseline, with the numbers meant."""
    bounded = limit["at_least"] is not None or limit["at_most"] is not None
    baseline = record.get("baseline")
    parts: list[tuple[Json, list[Json] | None]] = []
    if bounded or not limit.get("no_worse_than"):
        plain = {**limit, "no_worse_than": "", "margin": 0}
        parts.append((plain, [_doubted(item, record, finding) for item in finding["measures"]]))
    if limit.get("no_worse_than"):
        changes = None
        if baseline is not None:
            own = [item["measure"] for item in baseline["changes"] if item["check"] == finding["check"]]
            changes = [_doubted(item, record, finding) for item in own]
        parts.append(({**limit, "at_least": None, "at_most": None}, changes))
    return parts


def _doubted(item: Json, record: Json, finding: Json) -> Json:
    against = [
        doubt["reason"]
        for other in record["findings"]
        for doubt in other["doubts"]
        if {finding["check"], "*"} & set(doubt["checks"]) and item["name"] in doubt["measures"]
    ]
    # One reason may come by two ways, and is said once.
    said = list(dict.fromkeys(text for text in [item["unreliable"], *against] if text))
    return {**item, "unreliable": "; ".join(said)}


def _meant(pool: Sequence[Json], limit: Json) -> list[Json]:
    """The measures a limit speaks of: of all rows, or of every group where there is none of all rows."""
    found = [
        item
        for item in pool
        if item["name"] == limit["measure"]
        and all(
            key in item["settings"] and _alike(item["settings"][key], wanted)
            for key, wanted in limit["where"].items()
        )
    ]
    if limit["group"] == "whole":
        whole = [item for item in found if not item["group"]]
        return whole or found
    if limit["group"] == "each":
        return [item for item in found if item["group"]]
    return [item for item in found if item["group"] == limit["group"]]


def _alike(a: Any, b: Any) -> bool:
    if any(isinstance(one, bool | str) for one in (a, b)):
        return bool(a == b)
    return math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-12)


def _family(
    pairs: Sequence[tuple[Json, Json]], policy: Json, recorded: Sequence[Json]
) -> list[dict[str, Any]]:
    """Holm's step-down over all comparisons that can be made at all."""
    level = policy["family_wise_level"]
    able = [at for at, (_, item) in enumerate(pairs) if item["value"] is not None and not item["too_few"]]
    taken = [recorded[at] if at < len(recorded) else {} for at in range(len(pairs))]

    def answer(at: int, each: float) -> dict[str, Any]:
        limit, item = pairs[at]
        return {**_one(limit, item, each, taken[at]), "comparisons": len(able)}

    settled: dict[int, dict[str, Any]] = {}
    rest, before = able, 0
    while rest and len(rest) != before:
        settled |= {at: answer(at, split(level, len(rest))) for at in rest}
        rest, before = [at for at in rest if settled[at]["verdict"] == "INCONCLUSIVE"], len(rest)

    final = {at: answer(at, level) for at in range(len(pairs)) if at not in able} | settled
    return [final[at] for at in range(len(pairs))]


def _one(limit: Json, item: Json, level: float, recorded: Json) -> dict[str, Any]:
    low, high = interval_at(item, level)
    if recorded.get("level") is not None and same(recorded["level"], level):
        low, high = (
            recorded[key] if same(recorded[key], end, tolerance(item["method"])) else end
            for key, end in (("low", low), ("high", high))
        )
    at_least, at_most = _bounds(limit, item)
    verdict, bound, asked = _answer(item, at_least, at_most, low, high)
    return {
        "limit": in_words(limit),
        "measure": item["name"],
        "verdict": verdict,
        "bound": bound,
        "at_least": at_least,
        "at_most": at_most,
        "low": low,
        "high": high,
        "level": level,
        "group": item["group"],
        "settings": item["settings"],
        "value": item["value"],
        "matched": True,
        "asked": asked if verdict == "INCONCLUSIVE" and not item["unreliable"] else None,
        "item": item,
    }


def _bounds(limit: Json, item: Json) -> tuple[float | None, float | None]:
    """The bounds of a limit; one on change bounds the difference on the side that is worse."""
    if not limit.get("no_worse_than"):
        return limit["at_least"], limit["at_most"]
    margin = limit.get("margin", 0)
    return (-margin if item["better"] == "higher" else None), (margin if item["better"] == "lower" else None)


def _answer(
    item: Json, at_least: float | None, at_most: float | None, low: float | None, high: float | None
) -> tuple[str, float | None, float | None]:
    """Verdict, the end of the interval that decided, and the bound it was held against."""
    unbounded = at_least is None and at_most is None
    if item["value"] is None or item["too_few"] or unbounded or low is None or high is None:
        return "NOT_EVALUABLE", None, None
    sides: list[tuple[str, float, float]] = []
    if at_least is not None:
        verdict = "PASS" if low >= at_least else "FAIL" if high < at_least else "INCONCLUSIVE"
        sides.append((verdict, high if verdict == "FAIL" else low, at_least))
    if at_most is not None:
        verdict = "PASS" if high <= at_most else "FAIL" if low > at_most else "INCONCLUSIVE"
        sides.append((verdict, low if verdict == "FAIL" else high, at_most))
    verdict, bound, asked = min(sides, key=lambda side: _WORST.index(side[0]))
    return ("INCONCLUSIVE" if verdict == "PASS" and item["unreliable"] else verdict), bound, asked


def _absent(limit: Json, pool: Sequence[Json] | None) -> dict[str, Any]:
    """A limit that finds no number; one on change without a baseline is only not evaluable."""
    words = {"limit": in_words(limit), "measure": limit["measure"], "verdict": "NOT_EVALUABLE"}
    return {**_EMPTY, **words, "matched": pool is None}


def in_words(limit: Json) -> str:
    """The limit as a record says it."""
    said = [
        f"at {side} {limit[f'at_{side}']:.15g}"
        for side in ("least", "most")
        if limit[f"at_{side}"] is not None
    ]
    if limit.get("no_worse_than"):
        margin = limit.get("margin", 0)
        said.append(
            f"no worse than the {limit['no_worse_than']}" + (f" by more than {margin:.15g}" if margin else "")
        )
    text = f"{limit['measure']} {' and '.join(said)}"
    if limit["where"]:
        text += " where " + ", ".join(f"{key} = {value}" for key, value in limit["where"].items())
    if limit["group"] == "each":
        return f"{text} for each group"
    if limit["group"] == "whole":
        return text
    return f"{text} for " + ", ".join(f"{key} = {value}" for key, value in limit["group"].items())


def needed_holds(expected: Json, needed: int | None) -> bool:
    """Whether so many rows would settle a comparison, and hardly fewer: the number is given to a percent.

    Args:
        expected: what `judgements` gives.
        needed: the number in the record.
    """
    item, asked = expected.get("item", {}), expected.get("asked")
    low, high, value, n = expected["low"], expected["high"], expected["value"], item.get("n")
    if asked is None or low is None or high is None or not n:
        return needed is None
    distance = abs(value - asked)
    if distance <= 1e-12 * max(1.0, abs(asked)):
        return needed is None
    if needed is None:
        return False
    if item["method"] == "wilson":
        step = max(1, needed // 100)
        before = needed - step <= 1 or not _settled(value, asked, expected["level"], needed - step, -1e-9)
        return before and _settled(value, asked, expected["level"], needed, 1e-9)
    half = value - low if value > asked else high - value
    return bool(abs(needed - max(n, n * (half / distance) ** 2)) <= 1.0 + 1e-6 * needed)


def _settled(p: float, limit: float, level: float, n: int, slack: float) -> bool:
    found = known(wilson({"x": p * n, "n": n}, level))
    return found is not None and (found[1] >= limit - slack or found[2] <= limit + slack)
