"""What is asked of a model, and the answer: limits, verdicts, and how one follows from the other.

A verdict is taken on the bound of an interval, never on the point:

    at_least L   PASS when low >= L, FAIL when high < L, else INCONCLUSIVE
    at_most  L   PASS when high <= L, FAIL when low > L, else INCONCLUSIVE

A limit on change (`no_worse_than = "baseline"`) asks the same of the difference from an earlier run: that it
is no more than `margin` in the bad direction.

All comparisons that a policy makes within one check form a family. They are judged by Holm's step-down
procedure (1979), so that the chance of even one wrong PASS or FAIL in the family is at most
1 - `family_wise_level`. The interval shown is the one at which a comparison was settled.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal

from audit.evidence import Measure, Scalar
from audit.stats import bonferroni, interval_at, rows_needed

Leniency = Literal["fail", "warn", "pass"]
_EXACT = ".15g"  # a waiver names a limit by its words: no two limits may be told alike


class Verdict(StrEnum):
    """The seven answers. Only PASS is a yes."""

    PASS = "PASS"  # noqa: S105 - not a password
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    NOT_EVALUABLE = "NOT_EVALUABLE"
    NOT_APPLICABLE = "NOT_APPLICABLE"
    BROKEN = "BROKEN"
    NOT_JUDGED = "NOT_JUDGED"


@dataclass(frozen=True, kw_only=True)
class Limit:
    """One thing asked of one measure of one check.

    Attributes:
        check: full name of the check, e.g. `robustness.pgd`.
        measure: name of the measure, e.g. `robust_accuracy`.
        at_least: the lower limit, in the unit of the measure.
        at_most: the upper limit.
        where: settings the measure must have, e.g. `{"epsilon": 0.03}`.
        group: which groups it speaks of: `whole` (the default: the measure of all rows, or every group
            where the measure exists only by group), `each` group, or one group such as `{"sex": "Female"}`.
        no_worse_than: `baseline` asks that the measure is no worse than in the run this one is compared with.
        margin: by how much it may be worse, in the unit of the measure.
    """

    check: str
    measure: str
    at_least: float | None = None
    at_most: float | None = None
    where: Mapping[str, Scalar] = field(default_factory=dict)
    group: Literal["whole", "each"] | Mapping[str, str] = "whole"
    no_worse_than: Literal["", "baseline"] = ""
    margin: float = 0

    def __str__(self) -> str:
        """The limit as a reader says it: `robust_accuracy at least 0.4 where epsilon = 0.03`."""
        bounds = []
        if self.at_least is not None:
            bounds.append(f"at least {self.at_least:{_EXACT}}")
        if self.at_most is not None:
            bounds.append(f"at most {self.at_most:{_EXACT}}")
        if self.no_worse_than:
            by = f" by more than {self.margin:{_EXACT}}" if self.margin else ""
            bounds.append(f"no worse than the {self.no_worse_than}{by}")
        text = f"{self.measure} {' and '.join(bounds)}"
        if self.where:
            text += " where " + ", ".join(f"{k} = {v}" for k, v in self.where.items())
        if self.group == "each":
            text += " for each group"
        elif self.group != "whole":
            text += " for " + ", ".join(f"{k} = {v}" for k, v in self.group.items())
        return text


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What is asked of a model and how strict the answer is.

    Attributes:
        limits: what is asked.
        family_wise_level: one minus the chance of any wrong PASS or FAIL among the comparisons of a check.
        on_inconclusive: what an interval that spans its limit does to the exit code.
        on_not_evaluable: what a limit on an undefined number does.
        on_broken: what a check that crashed or did not load does.
        on_not_applicable: what a check that was asked for by its full name, or that a limit speaks of,
            does when it does not fit the model.
    """

    limits: tuple[Limit, ...] = ()
    family_wise_level: float = 0.95
    on_inconclusive: Leniency = "fail"
    on_not_evaluable: Leniency = "fail"
    on_broken: Leniency = "fail"
    on_not_applicable: Leniency = "fail"


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """One limit held against one measure.

    Attributes:
        limit: the limit in words.
        measure: name of the measure judged.
        verdict: the answer.
        bound: the end of the family-wise interval that decided, in the unit of the measure.
        reason: one sentence for the reader.
        needed_n: about how many rows would settle an INCONCLUSIVE one.
        at_least: the lower limit, for the picture.
        at_most: the upper limit, for the picture.
        low: lower end of the interval that was judged.
        high: upper end of it.
        level: its confidence level after the family-wise adjustment.
        comparisons: how many comparisons the family holds.
        group: the group of the measure.
        settings: the settings of the measure.
        value: the point estimate of the measure.
        matched: whether the limit found a measure at all; one that did not forbids a yes under any policy.
        waived: who answers for a FAIL, until when and why; empty where nobody does. It stays a FAIL.
    """

    limit: str
    measure: str
    verdict: Verdict
    bound: float | None = None
    reason: str = ""
    needed_n: int | None = None
    at_least: float | None = None
    at_most: float | None = None
    low: float | None = None
    high: float | None = None
    level: float | None = None
    comparisons: int = 0
    group: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Scalar] = field(default_factory=dict)
    value: float | None = None
    matched: bool = True
    waived: str = ""


def judge_measures(
    measures: Sequence[Measure],
    limits: Sequence[Limit],
    level: float,
    changes: Sequence[Measure] | None = None,
) -> tuple[Judgement, ...]:
    """Hold the measures of one check against the limits that speak of it.

    Args:
        measures: everything the check measured.
        limits: the limits on this check.
        level: the family-wise level of all comparisons made here.
        changes: how each measure differs from the baseline; None where there is no baseline.

    Returns:
        One judgement for each limit and measure; a limit that finds no measure is NOT_EVALUABLE.
    """
    asked = [
        (limit, changes if limit.no_worse_than else measures) for item in limits for limit in parts_of(item)
    ]
    pairs = [(limit, item) for limit, found in asked for item in _spoken_of(found or (), limit)]
    judgements = _step_down(pairs, level)
    unmet = [(limit, found) for limit, found in asked if not _spoken_of(found or (), limit)]
    return (*judgements, *(_no_measure(limit, found) for limit, found in unmet))


def parts_of(limit: Limit) -> list[Limit]:
    """What a limit asks of the number, and what it asks of its change, each as a limit of its own."""
    if not limit.no_worse_than:
        return [limit]
    change = replace(limit, at_least=None, at_most=None)
    still = limit.at_least is not None or limit.at_most is not None
    return [replace(limit, no_worse_than="", margin=0), change] if still else [change]


def _bounded(limit: Limit, item: Measure) -> Limit:
    """A limit on change as bounds of the difference, by the direction that is better for it."""
    if not limit.no_worse_than:
        return limit
    if item.better == "higher":
        return replace(limit, at_least=0.0 - limit.margin)
    return replace(limit, at_most=limit.margin) if item.better == "lower" else limit


def _step_down(pairs: Sequence[tuple[Limit, Measure]], level: float) -> list[Judgement]:
    """Holm's procedure: what is settled at the level of the whole family leaves it, and so on.

    A comparison settled with m still open was settled at error (1 - level) / m; that is its interval.
    """
    open_ones = [place for place, (_, item) in enumerate(pairs) if _comparable(item)]
    comparisons = len(open_ones)
    final = {
        place: _judge_one(item, limit, level, comparisons)
        for place, (limit, item) in enumerate(pairs)
        if not _comparable(item)
    }
    while open_ones:
        each = bonferroni(level, len(open_ones))
        tried = {p: _judge_one(pairs[p][1], pairs[p][0], each, comparisons) for p in open_ones}
        final |= tried
        still = [p for p in open_ones if tried[p].verdict is Verdict.INCONCLUSIVE]
        if len(still) == len(open_ones):
            break
        open_ones = still
    return [final[place] for place in range(len(pairs))]


def _comparable(item: Measure) -> bool:
    """Whether it can be held against a limit at all: what cannot takes no part in the family."""
    return item.value is not None and not item.too_few


def _spoken_of(measures: Sequence[Measure], limit: Limit) -> list[Measure]:
    named = [m for m in measures if m.name == limit.measure and _settings_match(m, limit)]
    if limit.group == "each":
        return [m for m in named if m.group]
    if limit.group == "whole":
        return [m for m in named if not m.group] or named
    return [m for m in named if dict(m.group) == dict(limit.group)]


def _settings_match(item: Measure, limit: Limit) -> bool:
    return all(key in item.settings and _same(item.settings[key], v) for key, v in limit.where.items())


def _same(a: Scalar, b: Scalar) -> bool:
    if isinstance(a, bool | str) or isinstance(b, bool | str):
        return a == b
    return math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-12)


def _no_measure(limit: Limit, measures: Sequence[Measure] | None) -> Judgement:
    if measures is None:
        reason = "no baseline was given; --baseline RUN names one"
        none = Verdict.NOT_EVALUABLE
        return Judgement(limit=str(limit), measure=limit.measure, verdict=none, reason=reason)
    names = sorted({m.name for m in measures})
    same = [m for m in measures if m.name == limit.measure]
    if same:
        seen = sorted({_where(m) for m in same})[:8]
        reason = f"no measure '{limit.measure}' matches this limit; measured were: {'; '.join(seen)}"
    else:
        what = "changed" if limit.no_worse_than else "measured"
        reason = f"the check {what} no '{limit.measure}'; it {what} {', '.join(names) or 'nothing'}"
    unmatched = Verdict.NOT_EVALUABLE
    return Judgement(limit=str(limit), measure=limit.measure, verdict=unmatched, reason=reason, matched=False)


def _where(item: Measure) -> str:
    parts = [f"{k} = {v}" for k, v in {**item.group, **item.settings}.items()]
    return ", ".join(parts) or "the whole"


def _judge_one(item: Measure, limit: Limit, level: float, comparisons: int) -> Judgement:
    low, high = interval_at(item, level)
    words, limit = str(limit), _bounded(limit, item)
    verdict, bound, asked, reason = _decide(item, limit, low, high)
    if item.left_out:
        reason += f"; left out: {item.left_out}"
    # No number of rows repairs an attack that failed its own checks.
    settles = verdict is Verdict.INCONCLUSIVE and not item.unreliable
    needed = rows_needed(item, asked, level) if settles else None
    return Judgement(
        limit=words,
        measure=item.name,
        verdict=verdict,
        bound=bound,
        reason=reason,
        needed_n=needed,
        at_least=limit.at_least,
        at_most=limit.at_most,
        low=low,
        high=high,
        level=level,
        comparisons=comparisons,
        group=item.group,
        settings=item.settings,
        value=item.value,
    )


def _decide(
    item: Measure, limit: Limit, low: float | None, high: float | None
) -> tuple[Verdict, float | None, float, str]:
    """Verdict, the bound that decided, the limit it was held against, and the sentence."""
    asked = limit.at_least if limit.at_least is not None else limit.at_most
    asked = 0.0 if asked is None else asked
    if item.value is None or not math.isfinite(item.value):
        return Verdict.NOT_EVALUABLE, None, asked, item.reason or "the value is undefined"
    if item.too_few:
        return Verdict.NOT_EVALUABLE, None, asked, item.too_few
    if limit.at_least is None and limit.at_most is None:
        return Verdict.NOT_EVALUABLE, None, asked, f"neither direction of '{item.name}' is the worse one"
    if low is None or high is None:
        return Verdict.NOT_EVALUABLE, None, asked, "the measure carries no interval"
    verdict, bound, asked = _against(limit, low, high)
    if verdict is Verdict.PASS and item.unreliable:
        return Verdict.INCONCLUSIVE, bound, asked, f"the measure is unreliable: {item.unreliable}"
    of = " of the change" if limit.no_worse_than else ""
    words = {
        Verdict.PASS: f"the whole interval{of} [{low:.4g}, {high:.4g}] keeps the limit",
        Verdict.FAIL: f"the whole interval{of} [{low:.4g}, {high:.4g}] breaks the limit of {asked:g}",
        Verdict.INCONCLUSIVE: f"the interval{of} [{low:.4g}, {high:.4g}] spans the limit of {asked:g}",
    }
    return verdict, bound, asked, words[verdict]


def _against(limit: Limit, low: float, high: float) -> tuple[Verdict, float, float]:
    """The worse of the two sides: FAIL before INCONCLUSIVE before PASS."""
    sides: list[tuple[Verdict, float, float]] = []
    if limit.at_least is not None:
        sides.append(_side(low >= limit.at_least, high < limit.at_least, low, high, limit.at_least))
    if limit.at_most is not None:
        sides.append(_side(high <= limit.at_most, low > limit.at_most, high, low, limit.at_most))
    order = (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS)
    return min(sides, key=lambda side: order.index(side[0]))


def _side(
    holds: bool, broken: bool, bound_held: float, bound_broken: float, asked: float
) -> tuple[Verdict, float, float]:
    if holds:
        return Verdict.PASS, bound_held, asked
    if broken:
        return Verdict.FAIL, bound_broken, asked
    return Verdict.INCONCLUSIVE, bound_held, asked
