"""Page: what the templates ask of a record. Its findings in order, its gaps, and what is left to a person."""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

from audit import pictures
from audit.attestation import Attestation
from audit.coverage import WHOM, Coverage, Covered, Source, Status, coverage, record_date, warnings
from audit.document import Document, Pillar, read_document
from audit.errors import LoadError
from audit.evidence import Figure, Measure, Table
from audit.judge import judge
from audit.numbers import (
    Proof,
    Ways,
    changes_judged,
    groups_of,
    interval_in_words,
    key_judged,
    key_of,
    proofs_of,
    value_in_words,
    ways_of_row,
)
from audit.policy import Judgement, Verdict
from audit.profile import STANDARD
from audit.reading import Reading, how_to_read
from audit.record import Finding, LeftOut, Planned, Record, as_read, canonical
from audit.waiver import Waiver, fingerprint, holds, idle
from audit.wording import (
    CHANGE,
    NONE,
    OTHER_POLICY,
    UNDER_PROFILE,
    VERDICT_WORDS,
    condition,
    count,
    exactly,
    fixed_when,
    interval,
    limit_in_words,
    name_of,
    number,
    roughly,
    setting,
    short,
    slug,
    words,
)

GRAVEST_FIRST = (
    Verdict.FAIL,
    Verdict.BROKEN,
    Verdict.NOT_EVALUABLE,
    Verdict.NOT_APPLICABLE,
    Verdict.INCONCLUSIVE,
    Verdict.NOT_JUDGED,
    Verdict.PASS,
)
_OVERVIEW_ROWS = 24
_PANEL_ROWS = 200
_PANELS = 40
_PLAIN_ROWS = 6
_TABLE_ROWS = 200
_PROOF_ROWS, _PROOF_ROWS_SHORT = 400, 3
_OPEN_TABLES, _OPEN_TABLE_ROWS = 3, 12
_MOST_GROUPS = 60
_FULL_BYTES, _LEAST_FULL_BYTES, _SHORT_BYTES = 2_500_000, 500_000, 2500
_ROW_BYTES, _CELL_BYTES, _POINT_BYTES, _FINDING_BYTES, _PROOF_BYTES = 800, 45, 160, 5000, 520
_SWARM_ROWS = 4
_PICTURE_BYTES = 1_200_000
_MOST_PICTURE_BYTES = 600_000
_MOST_DECIMALS = 6
_SAID_MEASURES = 4
_UNSEEN = "it was asked for and has no finding"
_GONE = ("Planned and not measured", "Started and broken", "Could not be answered with this data")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One judgement, or one measure that was not judged, as a line of a picture."""

    label: str
    verdict: Verdict
    asked: str
    value: str
    interval: str
    reason: str
    n: int | None
    strip: pictures.Strip
    needed: int | None = None
    check: str = ""
    anchor: str = ""
    unreliable: str = ""
    without: str = ""
    waived: str = ""
    to: str = ""

    @property
    def spoken(self) -> str:
        """The picture in words."""
        limit = f", limit {self.asked}" if self.asked else ""
        where = f", interval {self.interval}" if self.interval != NONE else ""
        return f"{short(self.label)}: {self.value}{where}{limit}: {VERDICT_WORDS[self.verdict][0]}"


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Rows that share a scale: one measure against one limit."""

    measure: str
    asked: str
    title: str
    note: str
    scale: pictures.Scale
    limits: tuple[tuple[float, str], ...]
    rows: tuple[Row, ...]
    left_out: int


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure with its geometry, or the sentence that stands in its place."""

    figure: Figure
    shape: pictures.Shape | None
    missing: str = ""
    source: str = ""


@dataclass(frozen=True)
class Shown:
    """A finding and what is drawn of it. One that is not `full` is shown in short, to keep the page small."""

    finding: Finding
    anchor: str
    page: "Page"
    full: bool = True
    table_rows: int = _TABLE_ROWS

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of the finding."""
        return self.finding.verdict

    @cached_property
    def panels(self) -> list[Panel]:
        """The judged measures as pictures; those of the whole, where nothing was judged."""
        return _panels(self)

    @property
    def left_out(self) -> int:
        """Comparisons with a limit for which there was no room."""
        drawn = sum(len(panel.rows) for panel in self.panels)
        return len(self.finding.verdicts) - len(self.unmatched) - drawn if self.finding.verdicts else 0

    @cached_property
    def proofs(self) -> list[Proof]:
        """Its numbers with what stands behind each: those held against a limit first, by their verdict."""
        judged = sorted(self.finding.verdicts, key=lambda item: GRAVEST_FIRST.index(item.verdict))
        first = [key_judged(item) for item in judged]
        most = _PROOF_ROWS if self.full else _PROOF_ROWS_SHORT
        return proofs_of(self.numbers, self.anchor, most, first)

    @cached_property
    def numbers(self) -> list[Measure]:
        """Its numbers, and the changes of them that were held against a limit."""
        return [*self.finding.measures, *changes_judged(self.finding, self.page.record)]

    @cached_property
    def ways(self) -> Ways:
        """From a number to the row of its evidence."""
        return Ways(self.proofs)

    def ways_of(self, columns: Sequence[str], row: Sequence[Any]) -> list[str]:
        """For each cell of a table the row of its evidence, or nothing."""
        return ways_of_row(self.ways, columns, row)

    @cached_property
    def verdict_of(self) -> dict[tuple[Any, ...], Verdict]:
        """The gravest verdict on each measure that was judged."""
        found: dict[tuple[Any, ...], Verdict] = {}
        for item in sorted(self.finding.verdicts, key=lambda item: GRAVEST_FIRST.index(item.verdict)):
            found.setdefault(key_judged(item), item.verdict)
        return found

    def verdict_on(self, item: Measure) -> Verdict | None:
        """The gravest verdict on a measure; None where no limit speaks of it."""
        return self.verdict_of.get(key_of(item.name, item))

    @cached_property
    def _places(self) -> dict[tuple[Any, ...], int]:
        """Decimals of each measure that was judged, so that no end looks equal to a limit that it is not."""
        found: dict[tuple[Any, ...], int] = {}
        for item in self.finding.verdicts:
            key = key_judged(item)
            found[key] = max(found.get(key, 0), _decimals(item))
        return found

    def places(self, item: Measure) -> int:
        """Decimals that a measure is printed with."""
        return self._places.get(key_of(item.name, item), 3)

    @cached_property
    def readings(self) -> list[Reading]:
        """How to read each measure that it holds, once for each name."""
        first: dict[str, Measure] = {}
        for item in self.numbers:
            known = first.get(item.name)
            if known is None or (known.low is None and item.low is not None):
                first[item.name] = item
        return [how_to_read(item) for item in first.values()]

    @cached_property
    def groups(self) -> list[str]:
        """The groups that its numbers speak of."""
        return groups_of(self.finding.measures, _MOST_GROUPS)

    @property
    def folded(self) -> bool:
        """Whether the body is folded: no clause of this document asks for its check, and nothing is wrong."""
        if not self.page.document.clauses or self.finding.check in self.page.asked_checks:
            return False
        return self.verdict not in (Verdict.FAIL, Verdict.BROKEN)

    @cached_property
    def open_tables(self) -> list[Table]:
        """Its tables that stand open: small ones that this document asks for. The others are unfolded."""
        if self.finding.check not in self.page.asked_checks:
            return []
        small = [table for table in self.finding.tables if 0 < len(table.rows) <= _OPEN_TABLE_ROWS]
        return small[:_OPEN_TABLES]

    @property
    def folded_tables(self) -> list[Table]:
        """Its other tables."""
        return [table for table in self.finding.tables if all(table is not item for item in self.open_tables)]

    @property
    def summary(self) -> str:
        """The first paragraph of its text."""
        return self.finding.text.strip().partition("\n\n")[0]

    @property
    def rest(self) -> str:
        """Its text without the first paragraph."""
        return self.finding.text.strip().partition("\n\n")[2]

    @cached_property
    def unmatched(self) -> list[Judgement]:
        """Judgements without a number: shown as sentences."""
        return [item for item in self.finding.verdicts if item.value is None]

    @cached_property
    def measure_of(self) -> dict[tuple[Any, ...], Measure]:
        """The measures by what a judgement knows of them."""
        return {key_of(item.name, item): item for item in self.numbers}

    @cached_property
    def drawings(self) -> list[Drawing]:
        """Its figures, drawn."""
        return [self.page.draw(self.finding, figure) for figure in self.finding.figures]


def _panels(shown: Shown) -> list[Panel]:
    groups: dict[tuple[Any, ...], list[tuple[Row, pictures.Span]]] = {}
    for item in shown.finding.verdicts:
        if item.value is not None:
            key = (name_of(item), item.at_least, item.at_most)
            groups.setdefault(key, []).append(_judged_row(item, shown))
    if not groups and shown.finding.status == "measured":
        whole = [item for item in shown.finding.measures if not item.group and item.value is not None]
        for measure in whole[:_PLAIN_ROWS]:
            row, span = _plain_row(measure, shown)
            key = ("" if _is_share(span) else measure.name, None, None)
            groups.setdefault(key, []).append((row, span))
    panels = [_panel(key, rows, shown) for key, rows in groups.items()]
    if len(panels) > _PANELS:
        panels.sort(key=lambda panel: min(GRAVEST_FIRST.index(row.verdict) for row in panel.rows))
    return panels[:_PANELS]


def _judged_row(item: Judgement, shown: Shown) -> tuple[Row, pictures.Span]:
    measure = shown.measure_of.get(key_judged(item))
    decimals = _decimals(item)
    known = measure if measure and measure.value == item.value else None
    row = Row(
        label=condition({**item.group, **item.settings}) or "All rows",
        verdict=item.verdict,
        asked=limit_in_words(item),
        value=value_in_words(known, decimals) if known else number(item.value, decimals),
        interval=interval(item.low, item.high, decimals) if item.low != item.high else NONE,
        reason=item.reason,
        n=measure.n if measure else None,
        needed=item.needed_n,
        strip=pictures.Strip(dot=None),
        check=shown.finding.check,
        anchor=shown.anchor,
        unreliable=(measure.too_few or measure.unreliable) if measure else "",
        without=measure.left_out if measure else "",
        waived=item.waived,
        to=shown.ways.by_key.get(key_judged(item), ""),
    )
    return row, _span(item)


def _span(item: Judgement) -> pictures.Span:
    return pictures.Span(
        value=item.value, low=item.low, high=item.high, at_least=item.at_least, at_most=item.at_most
    )


def _is_share(span: pictures.Span) -> bool:
    """Whether it can stand on a scale from 0 to 1 with others of its kind."""
    return all(end is None or 0 <= end <= 1 for end in (span.value, span.low, span.high))


def _plain_row(item: Measure, shown: Shown) -> tuple[Row, pictures.Span]:
    row = Row(
        label=", ".join(part for part in (words(item.name), condition(item.settings)) if part),
        verdict=Verdict.NOT_JUDGED,
        asked="",
        value=value_in_words(item),
        interval=interval_in_words(item),
        reason="",
        n=item.n,
        strip=pictures.Strip(dot=None),
        unreliable=item.too_few or item.unreliable,
        without=item.left_out,
        to=shown.ways.by_key.get(key_of(item.name, item), ""),
    )
    return row, pictures.Span(value=item.value, low=item.low, high=item.high)


def _decimals(item: Judgement) -> int:
    """Enough places that an end of the interval never looks equal to a limit that it is not equal to."""
    ends = [end for end in (item.value, item.low, item.high) if end is not None and math.isfinite(end)]
    limits = [limit for limit in (item.at_least, item.at_most) if limit is not None]
    for places in range(3, _MOST_DECIMALS):
        if all(
            end == limit or round(end, places) != round(limit, places) for end in ends for limit in limits
        ):
            return places
    return _MOST_DECIMALS


def _panel(key: tuple[Any, ...], rows: list[tuple[Row, pictures.Span]], shown: Shown) -> Panel:
    measure, at_least, at_most = key
    if len(rows) > _PANEL_ROWS:
        rows = sorted(rows, key=lambda entry: GRAVEST_FIRST.index(entry[0].verdict))
    spans = [span for _, span in rows]
    scale = pictures.scale_over(spans, whole=not rows[0][0].asked)
    drawn = tuple(replace(row, strip=pictures.strip_on(scale, span)) for row, span in rows[:_PANEL_ROWS])
    bounds = (("at least", at_least), ("at most", at_most))
    counts = Counter(row.verdict for row, _ in rows)
    return Panel(
        measure=measure,
        asked=rows[0][0].asked,
        title=_panel_title(measure, rows[0][0], counts),
        note=_panel_note(shown, rows),
        scale=scale,
        limits=tuple((scale.at(v), f"{word} {exactly(v)}") for word, v in bounds if v is not None),
        rows=drawn,
        left_out=len(rows) - len(drawn),
    )


def _panel_title(measure: str, first: Row, counts: Counter[Verdict]) -> str:
    """What the picture says, in words: `Selection rate ratio: 2 of 5 break the limit`."""
    name, total = short(words(measure)), sum(counts.values())
    if not first.asked:
        what = name or (short(first.label) if total == 1 else "")
        return (
            f"{what or f'{total} numbers'} {'was' if what else 'were'} measured and not held against a limit"
        )
    limit = f"limit{':' if measure.startswith(CHANGE) else ' of'} {first.asked}"
    if total == 1:
        said = {Verdict.PASS: "keeps the", Verdict.FAIL: "breaks the"}
        return f"{name} {said.get(first.verdict, 'is not settled against the')} {limit}"
    broken, kept = counts[Verdict.FAIL], counts[Verdict.PASS]
    if kept == total:
        return f"{name}: all {total} keep the {limit}"
    if broken:
        return f"{name}: {broken} of {total} {'breaks' if broken == 1 else 'break'} the {limit}"
    verb = "is" if total - kept == 1 else "are"
    return f"{name}: {total - kept} of {total} {verb} not settled against the {limit}"


def _panel_note(shown: Shown, rows: Sequence[tuple[Row, pictures.Span]]) -> str:
    """Source and n, as under every figure."""
    sizes = sorted({row.n for row, _ in rows if row.n is not None})
    n = ""
    if sizes:
        n = f", n = {sizes[0]:,}" + (f" to {sizes[-1]:,} rows a line" if len(sizes) > 1 else " rows")
    family = next((item for item in shown.finding.verdicts if item.level is not None), None)
    level = ""
    if family is not None and family.level is not None:
        level = f" Whiskers: {_percent(family.level)} intervals."
        if family.comparisons > 1:
            held = _percent(shown.page.record.policy.family_wise_level)
            level = (
                f" Whiskers: widened for {family.comparisons} comparisons made by this check, "
                f"by Holm's procedure, at {held} for all of them together."
            )
    else:
        own = next((m.level for m in shown.finding.measures if m.level is not None), None)
        level = f" Whiskers: {_percent(own)} intervals." if own is not None else ""
    return f"Source: {short(shown.finding.check)}{n}.{level}"


def _percent(level: float) -> str:
    return f"{100 * level:.4g} %"


@dataclass(frozen=True, kw_only=True)
class Support:
    """One capability of a clause as a reader sees it: where it stands, what it says, and its verdicts."""

    title: str
    anchor: str
    pieces: tuple[tuple[str, str], ...]
    counts: tuple[tuple[Verdict, int], ...] = ()
    waived: int = 0
    doubts: tuple[str, ...] = ()
    unproved: tuple[str, ...] = ()
    missing: str = ""

    @property
    def said(self) -> str:
        """What it says, without the ways to the evidence."""
        return "".join(text for text, _ in self.pieces)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A clause as a line of the matrix."""

    covered: Covered
    anchor: str
    supports: tuple[Support, ...]

    @property
    def is_judged(self) -> bool:
        """Whether any of its numbers was held against a limit."""
        return any(support.counts for support in self.supports)


def _support(source: Source, page: "Page") -> Support:
    finding = page.findings[source.findings[0]] if source.findings else None
    counts = source.counts
    names = ", ".join(words(name).lower() for name in source.capability.measures)
    ways = [page.findings[place].ways for place in source.findings]
    pieces = tuple(_measures_in_words(source.measures, ways)) if source.measures else ((names, ""),)
    if source.measures and isinstance(source.capability.groups, str):
        pieces = ((f"{WHOM[source.capability.groups]}, ", ""), *pieces)
    return Support(
        title=(finding.finding.title if finding else "") or source.capability.check,
        anchor=finding.anchor if finding else "",
        pieces=pieces,
        counts=tuple((verdict, counts[verdict]) for verdict in GRAVEST_FIRST if verdict in counts),
        waived=sum(bool(item.waived) for item in source.verdicts),
        doubts=source.doubts,
        unproved=source.unproved,
        missing=source.missing,
    )


def _measures_in_words(measures: Sequence[Measure], ways: Sequence[Ways]) -> Iterator[tuple[str, str]]:
    """`Accuracy 0.836 (0.815 to 0.855); selection rate, 5 numbers from 0.21 to 0.44`, with the rows."""
    by_name: dict[str, list[Measure]] = {}
    for item in measures:
        by_name.setdefault(item.name, []).append(item)
    for place, (name, items) in enumerate(by_name.items()):
        if place == _SAID_MEASURES:
            yield f"; and {count(len(by_name) - place, 'other measure')}", ""
            return
        if place:
            yield "; ", ""
        yield from _one_in_words(name, items, ways)


def _one_in_words(name: str, items: Sequence[Measure], ways: Sequence[Ways]) -> Iterator[tuple[str, str]]:
    if len(items) == 1:
        only = items[0]
        where = condition({**only.group, **only.settings})
        between = interval_in_words(only)
        yield f"{words(name).lower()} ", ""
        yield value_in_words(only), _way(only, ways)
        yield (f" ({between})" if between != NONE else "") + (f" at {where}" if where else ""), ""
        return
    valued = sorted((item for item in items if item.value is not None), key=lambda item: item.value or 0.0)
    yield f"{words(name).lower()}, {len(items)} numbers from ", ""
    yield value_in_words(valued[0]), _way(valued[0], ways)
    yield " to ", ""
    yield value_in_words(valued[-1]), _way(valued[-1], ways)


def _named(item: Finding | LeftOut | Planned | None, check: str) -> str:
    """What a check calls itself, and its name in a configuration file."""
    title = item.title if item else ""
    return f"{title} ({check})" if title and title != check else check


def _asked(item: Judgement) -> str:
    """What a limit asks, of which number and where."""
    where = condition({**item.group, **item.settings})
    return f"{words(name_of(item)).lower()} {limit_in_words(item)}" + (f", {where}" if where else "")


def _way(item: Measure, ways: Sequence[Ways]) -> str:
    key = key_of(item.name, item)
    return next((way.by_key[key] for way in ways if key in way.by_key), "")


@dataclass(frozen=True, kw_only=True)
class Page:
    """What the templates ask of a record: its findings in order, its gaps, and what is left to a person."""

    record: Record
    document: Document
    folder: Path | None = None
    altered: bool = False
    attestations: tuple[Attestation, ...] = ()

    @cached_property
    def coverage(self) -> Coverage | None:
        """Which clauses are supported; None for a document without clauses."""
        return coverage(self.record, self.document, self.attestations) if self.document.clauses else None

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """What speaks against using this document at all."""
        found = warnings(self.record, self.document.framework) if self.document.framework else ()
        late = self.fixed if " after the first measurement " in self.fixed else ""
        return (*found, *([OTHER_POLICY] if self.judged_again else []), *([late] if late else []))

    @cached_property
    def judged_again(self) -> bool:
        """Whether the policy of the verdicts is another than the one fixed before measuring."""
        fixed = self.record.run.get("policy_sha256")
        if not fixed or not self.record.run.get("policy_fixed"):
            return False
        try:
            return bool(hashlib.sha256(canonical(self.record.policy)).hexdigest() != fixed)
        except ValueError:
            return True

    @cached_property
    def fixed(self) -> str:
        """When the limits were fixed and when measuring began; empty where the record does not say."""
        run = self.record.run
        return "" if self.judged_again else fixed_when(run.get("policy_fixed"), run.get("first_measured"))

    @property
    def audited(self) -> date | None:
        """The day of the audit, by the record."""
        return record_date(self.record)

    @cached_property
    def parts(self) -> list[tuple[str, list[Entry]]]:
        """The clauses under their headings, each with its anchor and what supports it."""
        used: Counter[str] = Counter()
        parts: list[tuple[str, list[Entry]]] = []
        for part, items in self.coverage.parts if self.coverage else ():
            entries = []
            for item in items:
                anchor = _numbered(f"clause-{slug(item.clause.id)}", used)
                supports = tuple(_support(source, self) for source in item.sources)
                entries.append(Entry(covered=item, anchor=anchor, supports=supports))
            parts.append((part, entries))
        return parts

    @property
    def entries(self) -> list[Entry]:
        """All clauses as lines."""
        return [entry for _, entries in self.parts for entry in entries]

    @cached_property
    def coverage_title(self) -> str:
        """What the matrix says, in words."""
        if self.coverage is None:
            return ""
        asked = [item for item in self.coverage.clauses if item.applies]
        whole = [item for item in asked if not (item.lacks_statement or item.lacks_measurement)]
        clauses = count(len(asked), "clause") + (" that applies" if len(asked) == 1 else " that apply")
        full = "has all the evidence it asks for" if len(whole) == 1 else "have all the evidence they ask for"
        return f"{len(whole)} of {clauses} {full}"

    @property
    def totals(self) -> list[tuple[Status, int]]:
        """How many clauses have each status; those that nobody has are left out, gaps never."""
        totals = self.coverage.totals if self.coverage else {}
        return [(status, n) for status, n in totals.items() if n or status is Status.NOT_EVIDENCED]

    @cached_property
    def asked_checks(self) -> frozenset[str]:
        """The checks that clauses of this document name."""
        return frozenset(item.check for clause in self.document.clauses for item in clause.evidence)

    @cached_property
    def reasons(self) -> list[tuple[str, str]]:
        """Why the answer is not yes, in words, each with the row of the number that it speaks of."""
        return [self._reason(reason) for reason in self.record.verdict.reasons]

    def _reason(self, reason: str) -> tuple[str, str]:
        warning = "Warning: " if reason.startswith("Warning: ") else ""
        plain = reason.removeprefix("Warning: ")
        ends = [found.start() for found in re.finditer(": ", plain[: self._longest_name + 2])]
        check = next((plain[:end] for end in reversed(ends) if plain[:end] in self._by_check), None)
        if check is None:
            return reason, ""
        shown, said = self._by_check[check], plain.removeprefix(f"{check}: ")
        title = short(shown.finding.title or check)
        item = next((item for item in shown.finding.verdicts if _is_spoken_of(item, said)), None)
        if item is None:
            return f"{warning}{title}: {said}", shown.anchor
        rest = said.removeprefix(_spoken_of(item))
        way = "" if self.elsewhere else shown.ways.by_key.get(key_judged(item), "")
        return f"{warning}{title}: {_asked(item)}: {rest}", way or shown.anchor

    @cached_property
    def _by_check(self) -> dict[str, Shown]:
        return {shown.finding.check: shown for shown in reversed(self.findings)}

    @cached_property
    def _longest_name(self) -> int:
        return max(map(len, self._by_check), default=0)

    @property
    def reasons_title(self) -> str:
        """What the reasons explain."""
        is_yes = self.record.verdict.verdict is Verdict.PASS and not self.record.verdict.exit_code
        return "What else must be known" if is_yes else "Why the answer is not yes"

    @property
    def is_single(self) -> bool:
        """Whether the document is one page: what does not fit it stands in the other documents."""
        return len(self.document.sections) == 1

    @property
    def elsewhere(self) -> str:
        """The file beside this one that its numbers lead to, where they do not stand in it."""
        return "technical-report.html" if self.is_single and not self.has_findings else ""

    @cached_property
    def has_findings(self) -> bool:
        """Whether the findings stand in this document, so that they can be linked to."""
        return any(section.template == "findings" for section in self.document.sections)

    def section(self, template: str) -> str:
        """Anchor of the first section that a template sets; empty where there is none."""
        return next((item.id for item in self.document.sections if item.template == template), "")

    @cached_property
    def name(self) -> str:
        """What was audited: the name that a person gave the system, else the model's file."""
        return str(self.record.system.get("name") or self.file)

    @cached_property
    def file(self) -> str:
        """The model's file."""
        return _file_of(self.record.model) or "a model"

    @cached_property
    def decisions(self) -> bool:
        """Whether decisions that a file states were audited, and no model was run."""
        return self.record.model.get("loader") == "none"

    @cached_property
    def data_name(self) -> str:
        """On what it was audited: the data's file."""
        return _file_of(self.record.data)

    @cached_property
    def findings(self) -> list[Shown]:
        """Every finding with its anchor, in the order of the record."""
        used: Counter[str] = Counter()
        full = self._full
        shown = []
        for index, finding in enumerate(self.record.findings):
            anchor = _numbered(f"finding-{slug(finding.check)}", used)
            linked = self.has_findings or self.elsewhere
            shown.append(Shown(finding, anchor if linked else "", self, full=index in full))
        return shown

    @property
    def _full(self) -> set[int]:
        """Which findings are shown in full: the gravest ones, as many as keep the page small."""
        findings = self.record.findings
        order = sorted(range(len(findings)), key=lambda i: GRAVEST_FIRST.index(findings[i].verdict))
        full, used = set(), 0
        most = max(_LEAST_FULL_BYTES, _FULL_BYTES - _SHORT_BYTES * len(findings))
        for index in order:
            used += _weight(findings[index])
            if used <= most:
                full.add(index)
        return full

    @cached_property
    def pillars(self) -> list[tuple[Pillar, list[Shown]]]:
        """Findings by pillar; those of a stranger's pillar under its own name, last."""
        by_pillar: dict[str, list[Shown]] = {pillar.id: [] for pillar in self.document.pillars}
        for shown in self.findings:
            by_pillar.setdefault(shown.finding.check.partition(".")[0], []).append(shown)
        known = {pillar.id: pillar for pillar in self.document.pillars}
        strangers = {key: Pillar(id=key, title=words(key), question="") for key in by_pillar}
        return [({**strangers, **known}[key], found) for key, found in by_pillar.items() if found]

    @cached_property
    def overview(self) -> list[Row]:
        """Every judgement as a line whose limit stands in the middle, the gravest first."""
        rows = []
        for shown in self.findings:
            for item in shown.finding.verdicts:
                row, span = _judged_row(item, shown)
                where = "" if row.label == "All rows" else f", {row.label}"
                label = f"{words(name_of(item))}{where}"
                rows.append(replace(row, label=label, strip=pictures.aligned(span)))
        return sorted(rows, key=lambda row: GRAVEST_FIRST.index(row.verdict))

    @property
    def overview_rows(self) -> list[Row]:
        """As much of the overview as fits a page."""
        return self.overview[:_OVERVIEW_ROWS]

    @cached_property
    def overview_title(self) -> str:
        """What the overview says, in words."""
        total, held = len(self.overview), self.counts.get(Verdict.PASS, 0)
        broken = self.counts.get(Verdict.FAIL, 0)
        if held == total:
            return f"{'The comparison' if total == 1 else f'All {total} comparisons'} with a limit held"
        if broken:
            verb = "breaks its limit" if broken == 1 else "break their limit"
            return f"{broken} of {count(total, 'comparison')} {verb}"
        return f"{held} of {count(total, 'comparison')} held; the others are not settled"

    @cached_property
    def counts(self) -> dict[Verdict, int]:
        """How many limits ended in each verdict."""
        return Counter(row.verdict for row in self.overview)

    @cached_property
    def tested(self) -> list[str]:
        """How much was tested, in sentences."""
        outcome = self.record.verdict
        said = [f"{outcome.measured} of {count(outcome.planned, 'planned check')} gave numbers."]
        left_out = len(self.record.left_out)
        said += [f"{count(left_out, 'check')} left out of this run."] if left_out else []
        profile = self.record.run.get("profile", STANDARD)
        said += [] if profile == STANDARD else [UNDER_PROFILE.format(profile)]
        said += [self.fixed] if " before the first measurement " in self.fixed else []
        if not self.overview:
            return [*said, "No limit was set, so no number was judged."]
        words_of = ((Verdict.PASS, "held"), (Verdict.FAIL, "broken"), (Verdict.INCONCLUSIVE, "not settled"))
        parts = [f"{self.counts[verdict]} {word}" for verdict, word in words_of if self.counts.get(verdict)]
        rest = len(self.overview) - sum(self.counts.get(verdict, 0) for verdict, _ in words_of)
        parts += [f"{rest} without an answer"] if rest else []
        return [*said, f"{count(len(self.overview), 'comparison')} with a limit: {', '.join(parts)}."]

    @cached_property
    def gaps(self) -> list[tuple[str, list[tuple[str, str, str]]]]:
        """What was not tested: a heading and its entries of name, reason and anchor."""
        found = {shown.finding.check for shown in self.findings}
        planned = {item.check: item for item in self.record.plan}
        asked = sorted(({limit.check for limit in self.record.policy.limits} | planned.keys()) - found)
        out = {item.check: item for item in self.record.left_out}
        absent = [
            (_named(out.get(name, planned.get(name)), name), out[name].reason if name in out else _UNSEEN, "")
            for name in asked
        ]
        others = [(_named(item, name), item.reason, "") for name, item in out.items() if name not in asked]
        groups = [
            ("Planned and not measured", absent),
            ("Left out of this run", others),
            ("Started and broken", self._of(Verdict.BROKEN)),
            ("Could not be answered with this data", self._of(Verdict.NOT_EVALUABLE) + self._undefined()),
            ("Does not fit this model or this data", self._of(Verdict.NOT_APPLICABLE)),
            ("Measured, but not held against any limit", self._of(Verdict.NOT_JUDGED)),
            ("Ruled out when the model was loaded", [("", text, "") for text in self._ruled_out()]),
            ("Questions that no check asked", self._unasked()),
        ]
        return [group for group in groups if group[1]]

    def _of(self, verdict: Verdict) -> list[tuple[str, str, str]]:
        default = {Verdict.NOT_JUDGED: "the policy sets no limit on it"}.get(verdict, "")
        meant = [
            shown
            for shown in self.findings
            if shown.verdict is verdict
            and (shown.finding.status != "measured" or verdict is Verdict.NOT_JUDGED)
        ]
        return [
            (_named(shown.finding, shown.finding.check), shown.finding.reason or default, shown.anchor)
            for shown in meant
        ]

    def _undefined(self) -> list[tuple[str, str, str]]:
        return [
            (f"{shown.finding.title or shown.finding.check}: {_asked(item)}", item.reason, shown.anchor)
            for shown in self.findings
            if shown.finding.status == "measured"
            for item in shown.finding.verdicts
            if item.verdict is Verdict.NOT_EVALUABLE
        ]

    def _ruled_out(self) -> list[str]:
        value = self.record.model.get("ruled_out") or ()
        if isinstance(value, Mapping):
            return [f"{key}: {setting(item)}" for key, item in value.items()]
        return [value] if isinstance(value, str) else [setting(item) for item in value]

    def _unasked(self) -> list[tuple[str, str, str]]:
        found = {shown.finding.check.partition(".")[0] for shown in self.findings}
        return [(p.title, p.question, "") for p in self.document.pillars if p.id not in found]

    @cached_property
    def duties(self) -> list[str]:
        """What a person must still do, the most urgent first."""
        counts = self.counts
        needed = max((row.needed for row in self.overview if row.needed), default=None)
        rows = f", for example by testing on about {roughly(needed)} rows" if needed else ""
        gone = sum(len(entries) for title, entries in self.gaps if title in _GONE)
        unjudged = sum(shown.verdict is Verdict.NOT_JUDGED for shown in self.findings)
        states, seeks = self._open_clauses
        broken, waived = counts.get(Verdict.FAIL, 0), self.record.verdict.waived
        said = [
            (broken - waived, "Decide what follows from {}.", "broken limit"),
            (waived, "Repair what stands behind {} before the waiver ends.", "waived limit"),
            (counts.get(Verdict.INCONCLUSIVE), "Settle {}" + rows + ".", "open comparison"),
            (gone, "Repair or replace {} that gave no answer.", "check or limit"),
            (states, "Give {} that only a person can give.", "statement"),
            (
                seeks,
                "Find evidence for {} that no measurement supports, or say why none is needed.",
                "clause",
            ),
            (unjudged, "Set a limit, or say why none is needed, for {}.", "check"),
        ]
        listed = [text.format(_plural(amount, noun)) for amount, text, noun in said if amount]
        if not self.record.system:
            listed.append(
                "State who answers for this model, what it is for and whom it affects: nothing was stated."
            )
        return [
            *listed,
            "Read the explanations and judge whether the model's reasons make sense. No number can.",
        ]

    @cached_property
    def waivers(self) -> list[tuple[Waiver, str]]:
        """Every waiver that the record was held against, and what it does."""
        failed = {
            fingerprint(shown.finding.check, item)
            for shown in self.findings
            for item in shown.finding.verdicts
            if item.verdict is Verdict.FAIL
        }
        given, unused = self.record.waivers, "matches no broken limit"
        idle_now = ((item, idle(item, self.record.model, given.day)) for item in given.given)
        return [(item, why or (holds(item) if item.finding in failed else unused)) for item, why in idle_now]

    @property
    def _open_clauses(self) -> tuple[int, int]:
        """How many clauses still need a statement, and how many a measurement."""
        found = self.coverage
        return (len(found.open_statements), len(found.open_measurements)) if found else (0, 0)

    @cached_property
    def fingerprints(self) -> list[tuple[str, str, str]]:
        """What, where and sha256 of everything that can be checked again."""
        record = self.record
        entries = [
            ("This record", "record.json", self._record_sha256()),
            ("Model file", _file_of(record.model), record.model.get("sha256", "")),
            ("Data file", _file_of(record.data), record.data.get("sha256", "")),
            ("Data as read", "inputs, labels and groups", record.data.get("fingerprint", "")),
            ("Configuration", "audit.toml", record.run.get("config_sha256", "")),
        ]
        for finding in record.findings:
            entries += [("Artifact", artifact.path, artifact.sha256) for artifact in finding.artifacts]
        return [(what, str(where or ""), str(digest)) for what, where, digest in entries if digest]

    def _record_sha256(self) -> str:
        try:
            return hashlib.sha256(canonical(self.record)).hexdigest()
        except ValueError:
            return "none: the record holds a value that JSON cannot hold"

    @cached_property
    def caveats(self) -> list[str]:
        """What a reader must know of the model and the data before the numbers."""
        both = (self.record.model.get("caveats") or (), self.record.data.get("caveats") or ())
        return [str(text) for texts in both for text in ([texts] if isinstance(texts, str) else texts)]

    def draw(self, finding: Finding, figure: Figure) -> Drawing:
        """A figure with its geometry; a sentence where it cannot be drawn."""
        sizes = [item.n for item in finding.measures if item.n]
        source = f"Source: {short(finding.check)}" + (f", n = {max(sizes):,} rows." if sizes else ".")
        try:
            return Drawing(figure=figure, shape=self._shape(finding, figure), source=source)
        except LoadError as error:
            return Drawing(figure=figure, shape=None, missing=str(error), source=source)

    def _shape(self, finding: Finding, figure: Figure) -> pictures.Shape:
        simple: dict[str, Callable[[Mapping[str, Any]], pictures.Shape]] = {
            "bars": pictures.bars_of,
            "curve": pictures.curve_of,
            "swarm": pictures.swarm_of,
        }
        if figure.kind in simple:
            return simple[figure.kind](figure.data)
        maps = sum(item.kind == "heatmaps" for found in self.record.findings for item in found.figures)
        most = min(_MOST_PICTURE_BYTES, _PICTURE_BYTES // max(1, maps))
        return pictures.heatmaps_of(figure.data, pictures.read_arrays(self.folder, finding.artifacts), most)


def page_of(
    record: Record,
    document: str | Path,
    *,
    artifacts: Path | None = None,
    attestations: Sequence[Attestation] = (),
) -> Page:
    """The page of a record, with verdicts that follow from its numbers.

    Raises:
        ConfigError: no such document, or one that names a check or a measure that there is not.
    """
    definition = read_document(document)
    record = as_read(record)
    derived = judge(record)
    altered = _verdicts(derived) != _verdicts(record)
    return Page(
        record=derived if altered else record,
        document=definition,
        folder=artifacts,
        altered=altered,
        attestations=tuple(attestations),
    )


def _verdicts(record: Record) -> list[object]:
    """The verdicts of a record without their decimals, which may differ between machines."""
    judged = [[item.verdict for item in finding.verdicts] for finding in record.findings]
    return [record.verdict.verdict, record.verdict.exit_code, judged]


def _numbered(anchor: str, used: Counter[str]) -> str:
    """An anchor that no other of its kind has."""
    used[anchor] += 1
    return f"{anchor}--{used[anchor]}" if used[anchor] > 1 else anchor


def _file_of(facts: Mapping[str, Any]) -> str:
    return re.split(r"[\\/]", str(facts.get("path") or facts.get("file") or ""))[-1]


def _plural(amount: int, noun: str) -> str:
    if noun == "check or limit" and amount > 1:
        return f"{amount} checks or limits"
    return f"the {noun}" if amount == 1 else f"{amount} {noun}s"


def _weight(finding: Finding) -> int:
    """About how many bytes a finding takes on the page when it is shown in full, pictures aside."""
    cells = sum(min(len(table.rows), _TABLE_ROWS) * len(table.columns) for table in finding.tables)
    points = sum(len(series.get("x", ())) for figure in finding.figures for series in _series(figure))
    bars = sum(
        len(figure.data.get("labels", ())) * (_SWARM_ROWS if figure.kind == "swarm" else 1)
        for figure in finding.figures
    )
    panels = Counter((item.measure, item.at_least, item.at_most) for item in finding.verdicts)
    rows = sum(min(size, _PANEL_ROWS) for size in panels.values()) + min(bars, _PANEL_ROWS)
    texts = len(finding.text) + sum(len(text) for text in finding.caveats)
    proofs = _PROOF_BYTES * min(len(finding.measures), _PROOF_ROWS)
    return _FINDING_BYTES + proofs + _CELL_BYTES * cells + _POINT_BYTES * points + _ROW_BYTES * rows + texts


def _series(figure: Figure) -> list[Mapping[str, Any]]:
    found = figure.data.get("series", ())
    return [entry for entry in found if isinstance(entry, Mapping)] if isinstance(found, Sequence) else []


def _is_spoken_of(item: Judgement, said: str) -> bool:
    return said.startswith(f"{_spoken_of(item)}{item.reason}")


def _spoken_of(item: Judgement) -> str:
    whom = ", ".join(f"{name} = {value}" for name, value in item.group.items())
    return f"{item.limit}{f' ({whom})' if whom else ''}: "
