"""Markdown: a document for a pull request or a model hub. The same page as the HTML, without its pictures.

Every text of a record stays text: `safe` takes from it what Markdown, HTML or a hub would act on, so that
no name can become a heading, a link, a cell, a tag, or a mention of a person.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from audit.attestation import Attestation
from audit.changes import comparison_of
from audit.coverage import STATUS_WORDS, Status
from audit.evidence import Measure
from audit.page import GRAVEST_FIRST, Entry, Page, Row, Shown, Support, page_of
from audit.policy import Verdict
from audit.record import Record
from audit.wording import (
    FINDING_WORDS,
    NONE,
    TIMES,
    VERDICT_WORDS,
    calendar,
    condition,
    count,
    day,
    number,
    sentence,
    short,
    slug,
    visible,
    words,
)

_MODEL_CARD = "model-card"
_LIMITS, _GAPS, _REASONS, _FINDINGS, _METRICS = 40, 10, 8, 5, 60
_CHANGES = 100
_MARKS = re.compile(r"[\\`*_\[\]{}~^]")
# An empty comment shows nothing and parts what a hub would join: a mention, an issue, an address.
_APART = "<!-- -->"
_MENTION = re.compile(r"@|#|www(?=\.)|(?<=:)(?=//)|\bGH(?=-)", re.IGNORECASE)
_START = re.compile(r"^(?:[-+=:]|\d+(?=[.)](?:\s|$)))")
_ENTITIES = (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "&#124;"), ("$", "&#36;"))
_TASKS = {
    ("classification", "image"): "image-classification",
    ("classification", "tabular"): "tabular-classification",
    ("regression", "tabular"): "tabular-regression",
}


def markdown(
    record: Record, document: str | Path = "technical-report", *, attestations: Sequence[Attestation] = ()
) -> str:
    """A record as Markdown: the verdict, the limits, what was not tested, the gravest findings, the clauses.

    The model card begins with the metadata that a model hub reads, in its `model-index` form.

    Args:
        record: what to show.
        document: name of an installed document, or the path of one's own.
        attestations: what people stated; those for other documents are left aside.

    Raises:
        ConfigError: no such document, or one that names a check or a measure that there is not.
    """
    page = page_of(record, document, attestations=attestations)
    blocks = [*_head(page), *_limits(page), *_gaps(page), *_duties(page), *_findings(page), *_clauses(page)]
    front = f"{_metadata(page)}\n\n" if page.document.name == _MODEL_CARD else ""
    return front + "\n\n".join([*blocks, _foot(page)]) + "\n"


def comparison_markdown(record: Record) -> str:
    """What changed between a run and its baseline, as Markdown.

    Args:
        record: a record with a baseline, from `audit.compare`.
    """
    told = comparison_of(record)
    blocks = [f"# {safe(told.title)}", *(safe(text, 600) for text in told.said)]
    for table in told.tables:
        if table.rows:
            rows = [tuple(safe(cell) for cell in row) for row in table.rows[:_CHANGES]]
            blocks += [f"## {safe(table.title)}", _table(table.columns, rows)]
            blocks += _more(len(table.rows), _CHANGES, "row")
        elif table.empty:
            blocks += [f"## {safe(table.title)}", safe(table.empty)]
    return "\n\n".join(blocks) + "\n"


def safe(text: Any, most: int = 160) -> str:
    """A text on one line, cut after `most` characters, that Markdown shows and does not act on."""
    plain = short(" ".join(visible(str(text)).split()), most)
    for mark, instead in _ENTITIES:
        plain = plain.replace(mark, instead)
    marked = _MARKS.sub(lambda found: f"\\{found[0]}", plain)
    first = _START.match(marked)
    if first:
        # A number keeps its point from making a list, any other mark itself.
        marked = f"{first[0]}\\{marked[first.end() :]}" if first[0].isdigit() else f"\\{marked}"
    entities = re.split(r"(&#\d+;)", marked)
    return "".join(part if at % 2 else _MENTION.sub(_parted, part) for at, part in enumerate(entities))


def _parted(found: re.Match[str]) -> str:
    return f"\\#{_APART}" if found[0] == "#" else f"{found[0]}{_APART}"


def _list(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _more(total: int, shown: int, noun: str) -> list[str]:
    return [f"{count(total - shown, f'more {noun}')} in the record."] if total > shown else []


def _head(page: Page) -> Iterator[str]:
    outcome = page.record.verdict
    word, meaning = VERDICT_WORDS[outcome.verdict]
    yield f"# {safe(page.document.title)}: {safe(page.name, 120)}"
    yield f"**{word}.** {meaning}"
    warned = [*page.warnings]
    if outcome.waived:
        many = count(outcome.waived, "broken limit")
        warned.append(f"{many} waived: somebody answers for each until a day. A waived limit stays broken.")
    if page.altered:
        warned.append(
            "The verdicts written in this record do not follow from its numbers and its policy. "
            "Those shown here were derived again; ask who changed the record."
        )
    if page.record.run.get("interrupted"):
        warned.append("The run was interrupted; what had been measured by then is shown.")
    for warning in warned:
        yield f"> **{safe(warning, 400)}**"
    yield _audited(page)
    if page.coverage:
        totals = ", ".join(f"{STATUS_WORDS[status][0]} {total}" for status, total in page.totals)
        yield f"**{safe(page.coverage_title)}.** {totals}."
        yield "Evidence supports a clause; whether the clause is met is for a person to say."
    reasons = page.reasons
    if reasons:
        yield f"{page.reasons_title}:"
        yield _list(safe(sentence(reason), 400) for reason, _ in reasons[:_REASONS])
        yield from _more(len(reasons), _REASONS, "reason")


def _audited(page: Page) -> str:
    rows = page.record.data.get("rows")
    what = f"{'Decisions' if page.decisions else 'Model'} {safe(page.file, 120)}"
    on = f", on {f'{safe(number(rows), 40)} rows of ' if rows is not None else ''}{safe(page.data_name, 80)}"
    moment = page.record.run.get("finished") or page.record.run.get("started")
    when = f", {safe(day(moment), 40)}" if moment else ""
    purpose = page.record.system.get("purpose")
    stated = f" Stated purpose: {safe(purpose, 300)}" if purpose else ""
    return f"{what}{on if page.data_name else ''}{when}. {' '.join(page.tested)}{stated}"


def _limits(page: Page) -> Iterator[str]:
    yield "## Limits"
    if not page.overview:
        yield "No limit was set, so no number was judged."
        return
    yield f"{page.overview_title}."
    columns = ("Verdict", "What", "Limit", "Value", "Interval", "n")
    yield _table(columns, (_limit(row) for row in page.overview[:_LIMITS]))
    yield from _more(len(page.overview), _LIMITS, "comparison")


def _limit(row: Row) -> tuple[str, ...]:
    doubt = f" Not to be relied on: {safe(sentence(row.unreliable))}" if row.unreliable else ""
    doubt += f" {safe(sentence(row.waived), 200)}" if row.waived else ""
    verdict = f"{VERDICT_WORDS[row.verdict][0]}{', waived' if row.waived else ''}"
    return (
        f"**{verdict}**" if row.verdict is not Verdict.PASS else verdict,
        f"{safe(row.label, 120)} ({safe(row.check, 60)}){doubt}",
        safe(row.asked),
        row.value,
        row.interval,
        number(row.n),
    )


def _gaps(page: Page) -> Iterator[str]:
    yield "## What was not tested"
    if not page.gaps:
        yield "Every planned check was measured, and every finding was judged."
    for title, entries in page.gaps:
        yield f"**{title}: {number(len(entries))}**"
        told = (": ".join(safe(part, 240) for part in entry[:2] if part) for entry in entries[:_GAPS])
        yield _list(told)
        yield from _more(len(entries), _GAPS, "entry" if len(entries) == _GAPS + 1 else "of these")
    limits = [
        text for item in page.document.sections if item.template == "not-tested" for text in item.statements
    ]
    if limits:
        yield "**What no audit of this kind shows**"
        yield _list(safe(text, 400) for text in limits)


def _duties(page: Page) -> Iterator[str]:
    yield "## What a person must still do"
    yield _list(safe(duty, 400) for duty in page.duties)


def _findings(page: Page) -> Iterator[str]:
    found = sorted(page.findings, key=lambda shown: GRAVEST_FIRST.index(shown.verdict))
    if not found:
        return
    yield "## The gravest findings" if len(found) > _FINDINGS else "## Findings"
    for shown in found[:_FINDINGS]:
        yield from _finding(shown)
    yield from _more(len(found), _FINDINGS, "finding")


def _finding(shown: Shown) -> Iterator[str]:
    finding = shown.finding
    yield f"### {safe(finding.title or finding.check)}"
    meaning = VERDICT_WORDS[shown.verdict][0]
    reason = f" {safe(sentence(finding.reason), 400)}" if finding.reason else ""
    means, then = FINDING_WORDS[shown.verdict]
    yield f"**{meaning}.** {means} What could be done: {then} ({safe(finding.check, 80)}){reason}"
    if shown.summary:
        yield safe(shown.summary, 600)
    if finding.caveats:
        yield _list(safe(sentence(caveat), 400) for caveat in finding.caveats[:_GAPS])


def _clauses(page: Page) -> Iterator[str]:
    if page.parts:
        yield "## Clause by clause"
    for part, entries in page.parts:
        yield f"### {safe(part)}"
        yield _table(
            ("Clause", "What it is about", "Status", "Evidence"), (_clause(entry) for entry in entries)
        )
    stated = [(entry, item) for entry in page.entries for item in entry.covered.attestations]
    if stated:
        yield "## What people stated"
    for entry, item in stated:
        who = f"{safe(item.name, 80)}, {safe(item.role, 80)}, {calendar(item.date)}"
        yield f"**{safe(entry.covered.clause.id, 40)}.** {safe(item.text, 1200)}\n\n> {who}"


def _clause(entry: Entry) -> tuple[str, ...]:
    covered = entry.covered
    skipped = covered.clause.any_of and covered.is_measured
    told = [safe(sentence(covered.clause.why), 400)] if covered.clause.why else []
    if covered.status is Status.NOT_APPLICABLE:
        told.append(f"It is about {safe(covered.clause.applies)} only, and this audit is of something else.")
    told += [_support(item) for item in entry.supports if not (skipped and item.missing)]
    told += [
        f"Stated by {safe(item.name, 80)}, {safe(item.role, 80)}, {calendar(item.date)}."
        for item in covered.attestations
    ]
    if covered.lacks_statement:
        told.append(f"**Statement open.** {safe(sentence(covered.clause.statement), 300)}")
    status = STATUS_WORDS[covered.status][0]
    return safe(covered.clause.id, 40), safe(covered.clause.label, 300), status, "<br>".join(told)


def _support(support: Support) -> str:
    named = f"{safe(support.title, 120)}: {safe(support.said, 300)}"
    if support.missing:
        return f"**Missing.** {named} {NONE} {safe(sentence(support.missing), 240)}"
    verdicts = [f"{VERDICT_WORDS[verdict][0]} {TIMES} {total}" for verdict, total in support.counts]
    verdicts += [f"{support.waived} of the broken ones waived"] if support.waived else []
    doubts = "".join(
        f" Not all of it is to be relied on: {safe(sentence(doubt), 240)}" for doubt in support.doubts
    )
    doubts += "".join(f" {safe(sentence(said), 240)}" for said in support.unproved)
    return f"{named}. {', '.join(verdicts) or 'Held against no limit'}.{doubts}"


def _foot(page: Page) -> str:
    tool, run = page.record.tool, page.record.run
    made = f"{safe(tool.get('name', 'an unnamed tool'), 80)} {safe(tool.get('version', ''), 40)}"
    digest = next((sha for what, _, sha in page.fingerprints if what == "This record"), "")
    title = f"{safe(page.document.title)}, version {safe(page.document.version, 40)}"
    made = f"Made by {made.strip()} from the record of run {safe(run.get('id', 'without an id'), 80)}"
    return f"---\n\n{title}. {made}, sha256 {safe(digest, 90)}."


def _metadata(page: Page) -> str:
    """YAML front matter whose values are JSON, which every YAML reader reads alike."""
    task = _TASKS.get((str(page.record.model.get("task")), str(page.record.data.get("modality"))), "other")
    lines = ["---", "tags:", "- model-audit"]
    lines += [f"pipeline_tag: {task}"] if task != "other" else []
    metrics = [line for shown in page.findings for item in _whole(shown) for line in _metric(item, shown)]
    if metrics:
        data = page.data_name or "unnamed"
        lines += ["model-index:", f"- name: {_value(short(page.name, 120))}", "  results:"]
        lines += ["  - task:", f"      type: {task}", "    dataset:"]
        lines += [
            f"      type: {_value(slug(data))}",
            f"      name: {_value(short(data, 120))}",
            "    metrics:",
        ]
        lines += metrics
    return "\n".join([*lines, "---"])


def _whole(shown: Shown) -> list[Measure]:
    """The numbers of the whole that can stand alone: performance, and whatever was held against a limit."""
    judged = {item.measure for item in shown.finding.verdicts}
    is_performance = shown.finding.check.startswith("performance.")
    return [
        item
        for item in shown.finding.measures
        if not (item.group or item.too_few or item.unreliable)
        and item.value is not None
        and math.isfinite(item.value)
        and (is_performance or item.name in judged)
    ][:_METRICS]


def _metric(item: Measure, shown: Shown) -> list[str]:
    where = f", {condition(item.settings)}" if item.settings else ""
    lines = [
        f"    - type: {_value(short(item.name, 80))}",
        f"      name: {_value(short(words(item.name) + where, 160))}",
        f"      value: {_number(item.value)}",
        "      verified: false",
        "      args:",
        f"        check: {_value(short(shown.finding.check, 80))}",
    ]
    facts = {"low": item.low, "high": item.high, "level": item.level, "n": item.n}
    return lines + [f"        {name}: {_number(value)}" for name, value in facts.items() if value is not None]


def _value(text: str) -> str:
    return json.dumps(" ".join(visible(text).split()), ensure_ascii=False)


def _number(value: float | None) -> str:
    """A number as YAML 1.1 knows one: `1.0e-05`, for `1e-05` would be a text."""
    text = repr(value)
    return text if "." in text or "e" not in text else text.replace("e", ".0e")
