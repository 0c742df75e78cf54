"""Numbers: each measure of a finding as a row of evidence, and the way from a printed number to its row."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from audit.evidence import Measure
from audit.policy import Judgement
from audit.reading import counts_in_words, method_in_words
from audit.record import Finding, Record
from audit.wording import CHANGE, NONE, condition, interval, is_change, name_of, number, words

Key = tuple[Any, ...]
_WHOLE = 2.0**53


def key_of(name: str, item: Measure | Judgement) -> Key:
    """What a measure and a judgement on it have in common."""
    return (
        name,
        tuple(sorted(item.group.items())),
        tuple(sorted((k, str(v)) for k, v in item.settings.items())),
    )


@dataclass(frozen=True, kw_only=True)
class Proof:
    """One number and what stands behind it.

    Attributes:
        measure: the number with its interval.
        anchor: where its row stands on the page; empty where it stands on none.
        where: of whom or under which settings.
        counts: the counts that it follows from.
        method: how its interval was found.
        remark: why it is undefined or must be read with care; empty where there is nothing to say.
    """

    measure: Measure
    anchor: str
    where: str
    counts: str
    method: str
    remark: str


def key_judged(item: Judgement) -> Key:
    """The same for what a judgement is on: the number itself, or its change since an earlier run."""
    return key_of(name_of(item), item)


def changes_judged(finding: Finding, record: Record) -> list[Measure]:
    """The changes of a finding's numbers that a limit speaks of, each named as the change that it is."""
    judged = {key_judged(item) for item in finding.verdicts if is_change(item)}
    changes = record.baseline.changes if record.baseline else ()
    mine = [item.measure for item in changes if judged and item.check == finding.check]
    named = [replace(item, name=f"{CHANGE}{item.name}") for item in mine]
    return [item for item in named if key_of(item.name, item) in judged]


def proofs_of(given: Sequence[Measure], anchor: str, most: int, first: Sequence[Key] = ()) -> list[Proof]:
    """The rows of evidence of some measures: those of `first` first, in its order, at most `most`."""
    places = {key: place for place, key in reversed(list(enumerate(first)))}
    measures = list(enumerate(given, 1))
    measures.sort(key=lambda entry: places.get(key_of(entry[1].name, entry[1]), len(places) + len(first)))
    return [
        Proof(
            measure=item,
            anchor=f"n{index}-{anchor}" if anchor else "",
            where=condition({**item.group, **item.settings}),
            counts=counts_in_words(item.statistics),
            method=method_in_words(item),
            remark=item.reason or item.too_few or item.unreliable or _left_out(item),
        )
        for index, item in measures[:most]
    ]


def value_in_words(item: Measure, places: int = 3) -> str:
    """The value of a measure; one that was counted in full is printed as the whole number that it is."""
    return number(int(item.value) if item.value is not None and _is_count(item) else item.value, places)


def interval_in_words(item: Measure, places: int = 3) -> str:
    """The interval of a measure; a dash for one that was counted in full."""
    return NONE if _is_count(item) else interval(item.low, item.high, places)


def _is_count(item: Measure) -> bool:
    return item.method == "exact" and item.value is not None and float(item.value).is_integer()


def _left_out(item: Measure) -> str:
    return f"left out: {item.left_out}" if item.left_out else ""


@dataclass(frozen=True, kw_only=True)
class _Known:
    """What tells one number from another of the same value."""

    group: frozenset[str]
    settings: frozenset[str]
    name: str
    anchor: str

    def fit(self, said: frozenset[str], called: str) -> tuple[bool, int, int]:
        return self.name == called, len(self.group), len(self.settings & said)


class Ways:
    """From a number that is printed somewhere in a finding to the row of its evidence."""

    def __init__(self, proofs: Iterable[Proof]) -> None:
        self.by_key: dict[Key, str] = {}
        self._by_value: dict[str, list[_Known]] = {}
        self._by_count: dict[int, list[_Known]] = {}
        for proof in proofs:
            if proof.anchor:
                self._learn(proof)

    def _learn(self, proof: Proof) -> None:
        item = proof.measure
        self.by_key.setdefault(key_of(item.name, item), proof.anchor)
        entry = _Known(
            group=frozenset(map(str, item.group.values())),
            settings=frozenset(map(str, item.settings.values())),
            name=words(item.name).lower(),
            anchor=proof.anchor,
        )
        if item.value is not None:
            self._by_value.setdefault(_same(item.value), []).append(entry)
        for name in ("n", "x", "n1", "x1"):
            count = item.statistics.get(name)
            if isinstance(count, int) and entry.group:
                self._by_count.setdefault(count, []).append(entry)

    def to(self, value: Any, texts: Iterable[Any] = (), column: str = "") -> str:
        """The row of the measure with this value, or counted from it; empty where none is sure.

        Args:
            value: the number that is printed.
            texts: what is printed beside it; a measure of a group is meant only where its group is named.
            column: the heading above it, which decides between measures that are equal.
        """
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _WHOLE:
            return ""
        said, called = frozenset(map(str, texts)), column.replace("_", " ").lower()
        found = [entry for entry in self._by_value.get(_same(value), ()) if entry.group <= said]
        if float(value).is_integer():
            # So round a number may be anything; only its heading or its group say what it is.
            found = [entry for entry in found if entry.name == called]
            found = found or [entry for entry in self._by_count.get(int(value), ()) if entry.group <= said]
        best = max(found, key=lambda entry: entry.fit(said, called), default=None)
        return best.anchor if best else ""


def _same(value: float) -> str:
    """Numbers that differ by no more than the last bits, or were stored with fewer digits, are one."""
    return f"{value:.6g}"


def ways_of_row(ways: Ways, columns: Sequence[str], row: Sequence[Any]) -> list[str]:
    """For each cell of a table the row of evidence behind it; empty where there is none."""
    texts = [cell for cell in row if isinstance(cell, str)]
    return [ways.to(cell, texts, column) for cell, column in zip(row, columns, strict=False)]


def groups_of(measures: Iterable[Measure], most: int) -> list[str]:
    """The groups that numbers speak of, each as `sex: Female`, in their order."""
    found: dict[str, None] = {}
    for item in measures:
        for name, value in _items(item.group):
            found[f"{name}: {value}"] = None
        if len(found) >= most:
            break
    return list(found)[:most]


def _items(group: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(_line(name.replace("_", " ")), _line(str(value))) for name, value in group.items()]


def _line(text: str) -> str:
    return " ".join(text.split())[:60]
