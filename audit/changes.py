"""Changes: what a comparison of two runs says to a reader, in sentences and tables of texts."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from audit.judge import on_change
from audit.record import Baseline, Change, Record
from audit.wording import NONE, condition, count, interval, number, sentence, words

_MOVED = ("worse", "changed", "better")
_STATES = (
    "new", "worse", "changed", "fixed", "better", "unchanged", "added", "no longer tested", "not comparable",
    "not compared",
)  # fmt: skip
_ALWAYS = ("accuracy", "robust_accuracy")
_NAMED = 5
_COLUMNS = ("group", "measure", "rows", "base", "new", "difference", "interval", "verdict", "check")


@dataclass(frozen=True)
class Table:
    """One table of texts.

    Attributes:
        title: what it shows, in words.
        columns: headings.
        rows: a text for each heading.
        empty: what is said where there are no rows; nothing is said where it is empty.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    empty: str = ""


@dataclass(frozen=True)
class Comparison:
    """Everything that is said of a record and its baseline.

    Attributes:
        title: which models.
        said: sentences, the most important first.
        tables: groups first, then the whole, the limits, and what was not compared.
    """

    title: str
    said: tuple[str, ...]
    tables: tuple[Table, ...]


def comparison_of(record: Record) -> Comparison:
    """What the comparison of a record with its baseline says.

    Raises:
        ValueError: the record has no baseline.
    """
    baseline = record.baseline
    if baseline is None:
        raise ValueError("the record has no baseline")
    names = [str(model.get("file") or "a model without a file") for model in (record.model, baseline.model)]
    return Comparison(
        title=f"{names[0]} against {names[1]}",
        said=tuple(_said(baseline)),
        tables=(
            _groups(baseline.changes),
            _whole(baseline.changes),
            _verdicts(baseline.changes),
            _limits(record),
            _left(baseline.changes),
        ),
    )


def _said(baseline: Baseline) -> list[str]:
    counts = Counter(item.moved for item in baseline.changes)
    chance = number(1 - baseline.level, 2)
    told = ", ".join(f"{counts[moved]} {moved}" for moved in ("worse", "better", "changed", "unchanged"))
    alike = f"; {number(baseline.alike)} more rest on rows that both answer alike" if baseline.alike else ""
    apart = sum(item.measure.method == "two_intervals" for item in baseline.changes if item.moved)
    but = f" Of all differences, {number(apart)} rest on the intervals of the two records alone."
    paired = f"{'Paired' if baseline.paired else 'Not paired'}: {sentence(baseline.why)}"
    wrong = f"the chance of any wrong one among them is at most {chance} (Holm)"
    return [
        _first(baseline.changes),
        f"{told}. {count(baseline.comparisons, 'difference')} share one level, so {wrong}{alike}.",
        f"{paired}{but if baseline.paired and apart else ''}",
    ]


def _first(changes: Sequence[Change]) -> str:
    """Who lost: groups by name, the surest loss first, and whether the whole shows it."""
    if not any(item.moved for item in changes):
        return "Nothing could be compared."
    worse = [item for item in changes if item.moved == "worse"]
    if not worse:
        return "Nothing is worse by more than chance."
    by_group: dict[str, Change] = {}
    for item in sorted((item for item in worse if item.measure.group), key=_sureness, reverse=True):
        by_group.setdefault(who(item), item)
    whole = any(not item.measure.group for item in worse)
    if not by_group:
        return "The whole is worse; no group by itself is worse by more than chance."
    named = "; ".join(_loss(item) for item in list(by_group.values())[:_NAMED])
    more = f"; and {len(by_group) - _NAMED} more" if len(by_group) > _NAMED else ""
    also = (
        "The whole is worse too." if whole else "No number of the whole is worse: only these groups show it."
    )
    groups = "1 group or class" if len(by_group) == 1 else f"{number(len(by_group))} groups or classes"
    return f"Worse for {groups}: {named}{more}. {also}"


def _loss(item: Change) -> str:
    name = words(item.measure.name).lower()
    return f"{who(item)} ({name} {number(item.base)} to {number(item.new)})"


def _sureness(item: Change) -> float:
    """How far from 0 the nearer end of the interval lies, in widths of it: units differ between measures."""
    low, high = item.measure.low, item.measure.high
    if low is None or high is None:
        return 0.0
    nearer = min(abs(low), abs(high))
    return nearer / (high - low) if high > low else math.inf


def who(item: Change) -> str:
    """The group of a change in words, with what it is compared with where it is."""
    group = ", ".join(f"{key} = {value}" for key, value in item.measure.group.items())
    kept = {key: value for key, value in item.measure.settings.items() if key != "mean_score"}
    where = condition(kept) if kept else ""
    return f"{group or 'everyone'}{f' ({where})' if where else ''}"


def _row(item: Change) -> tuple[str, ...]:
    measure = item.measure
    return (
        who(item),
        words(measure.name).lower(),
        NONE if measure.n is None else number(measure.n),
        number(item.base),
        number(item.new),
        number(measure.value, 4),
        interval(measure.low, measure.high, 4),
        item.moved,
        item.check,
    )


def _ranked(items: Sequence[Change]) -> tuple[tuple[str, ...], ...]:
    """Worse first, the surest of each first; what did not move as it stands."""
    order = {moved: place for place, moved in enumerate(_MOVED)}

    def rank(item: Change) -> tuple[int, float]:
        return order.get(item.moved, len(order)), -_sureness(item) if item.moved in order else 0.0

    return tuple(_row(item) for item in sorted(items, key=rank))


def _groups(changes: Sequence[Change]) -> Table:
    shown = [
        item
        for item in changes
        if item.measure.group and item.moved and (item.moved in _MOVED or item.measure.name in _ALWAYS)
    ]
    title = "By group, what got worse first"
    return Table(title, _COLUMNS, _ranked(shown), "No number by group was compared.")


def _whole(changes: Sequence[Change]) -> Table:
    shown = [item for item in changes if item.moved and not item.measure.group]
    return Table("The whole", _COLUMNS, _ranked(shown), "No number of the whole was compared.")


def _verdicts(changes: Sequence[Change]) -> Table:
    rows = [
        (
            item.state,
            who(item),
            words(item.measure.name).lower(),
            item.was or NONE,
            item.now or NONE,
            item.check,
        )
        for item in changes
        if item.state in ("new", "fixed")
    ]
    columns = ("state", "group", "measure", "was", "is", "check")
    return Table("Limits broken now and not before, and the other way round", columns, tuple(rows))


def _limits(record: Record) -> Table:
    rows = [
        (
            judged.verdict.value,
            check,
            judged.limit,
            ", ".join(f"{key} = {value}" for key, value in judged.group.items()) or "everyone",
            judged.reason,
        )
        for check, judged in on_change(record)
    ]
    return Table("Limits on change", ("verdict", "check", "limit", "group", "why"), tuple(rows))


def _left(changes: Sequence[Change]) -> Table:
    """What was not compared, with the reason; many of one kind in one row."""
    kinds: Counter[tuple[str, str, str]] = Counter()
    for item in changes:
        if not item.moved:
            kinds[item.state, item.check, item.reason] += 1
    ranked = sorted(kinds, key=lambda kind: (_STATES.index(kind[0]), kind))
    rows = tuple((state, check, number(kinds[state, check, why]), why) for state, check, why in ranked)
    return Table("Not compared", ("state", "check", "numbers", "why"), rows)
