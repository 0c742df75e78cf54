"""Coverage: which clauses of a framework the evidence of one audit supports. A pure function.

Evidence *supports* a clause; whether the clause is met is for a person to say. What was not measured or not
stated is a gap and is shown as one. Nothing of today enters: the same record gives the same coverage.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from itertools import groupby

from audit.attestation import Attestation
from audit.document import Document
from audit.evidence import Measure
from audit.framework import Capability, Clause, Framework, Groups
from audit.policy import Judgement, Verdict
from audit.record import Finding, Record

_COMPARED = ("feature", "attribute")
_TOGETHER = " x "
WHOM: dict[Groups, str] = {
    True: "by sensitive group",
    False: "of the whole",
    "single": "by one sensitive feature alone",
    "crossed": "for groups of several sensitive features at once",
}
_LISTED = 6


class Status(StrEnum):
    """What there is for a clause."""

    MEASURED = "MEASURED"
    ATTESTED = "ATTESTED"
    NOT_EVIDENCED = "NOT_EVIDENCED"
    NOT_APPLICABLE = "NOT_APPLICABLE"
    NEVER_GENERATED = "NEVER_GENERATED"


STATUS_WORDS: dict[Status, tuple[str, str]] = {
    Status.MEASURED: ("MEASURED", "this audit measured what the clause asks to be measured"),
    Status.ATTESTED: ("ATTESTED", "a named person stated it; no machine checked it"),
    Status.NOT_EVIDENCED: ("NOT EVIDENCED", "what it asks for was not all measured, or nobody stated it"),
    Status.NOT_APPLICABLE: ("NOT APPLICABLE", "it is about another kind of model or data"),
    Status.NEVER_GENERATED: ("NEVER GENERATED", "this tool will not write it"),
}


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a record holds for one capability.

    Attributes:
        capability: what was asked for.
        findings: places of the findings of that check in the record.
        measures: the measures that count as evidence: of the right name, of whom was asked, and defined;
            none where a check, their own or another, lets none of them stand.
        verdicts: what the policy says of them.
        doubts: why some of them must not be relied on.
        unproved: what could have shown that they are not to be relied on and was not run, in sentences.
        missing: why there is no evidence; empty when there is.
    """

    capability: Capability
    findings: tuple[int, ...] = ()
    measures: tuple[Measure, ...] = ()
    verdicts: tuple[Judgement, ...] = ()
    doubts: tuple[str, ...] = ()
    unproved: tuple[str, ...] = ()
    missing: str = ""

    @property
    def counts(self) -> Mapping[Verdict, int]:
        """How many comparisons with a limit ended in each verdict."""
        return Counter(item.verdict for item in self.verdicts)


@dataclass(frozen=True, kw_only=True)
class Covered:
    """One clause and what there is for it.

    Attributes:
        clause: the clause.
        status: what there is for it.
        sources: one for each capability it names; empty where the clause does not apply.
        attestations: what people stated for it.
    """

    clause: Clause
    status: Status
    sources: tuple[Source, ...] = ()
    attestations: tuple[Attestation, ...] = ()

    @property
    def applies(self) -> bool:
        """Whether it asks anything of this audit."""
        return self.status not in (Status.NOT_APPLICABLE, Status.NEVER_GENERATED)

    @property
    def is_measured(self) -> bool:
        """Whether all the measurements that it asks for were made."""
        enough = any if self.clause.any_of else all
        return bool(self.sources) and enough(not source.missing for source in self.sources)

    @property
    def lacks_statement(self) -> bool:
        """It asks for a statement, and nobody made one."""
        return self.applies and self.clause.asks_person and not self.attestations

    @property
    def lacks_measurement(self) -> bool:
        """It asks for a measurement that was not made."""
        return self.applies and bool(self.clause.evidence) and not self.is_measured


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """The clauses of one document, in its order."""

    clauses: tuple[Covered, ...]

    @property
    def totals(self) -> Mapping[Status, int]:
        """How many clauses have each status, none left out."""
        counts = Counter(item.status for item in self.clauses)
        return {status: counts[status] for status in Status}

    @property
    def parts(self) -> tuple[tuple[str, tuple[Covered, ...]], ...]:
        """The clauses under their headings."""
        grouped = groupby(self.clauses, key=lambda item: item.clause.part)
        return tuple((part, tuple(items)) for part, items in grouped)

    @property
    def open_statements(self) -> tuple[Covered, ...]:
        """Clauses for which a person still has to state something."""
        return tuple(item for item in self.clauses if item.lacks_statement)

    @property
    def open_measurements(self) -> tuple[Covered, ...]:
        """Clauses for which something still has to be measured."""
        return tuple(item for item in self.clauses if item.lacks_measurement)


def coverage(record: Record, document: Document, attestations: Sequence[Attestation] = ()) -> Coverage:
    """What a record and the statements of people support of a document's clauses.

    Args:
        record: the audit, judged.
        document: the framework pack.
        attestations: statements; those for other documents are left aside.
    """
    stated: dict[str, list[Attestation]] = {}
    for item in attestations:
        if item.document == document.name:
            stated.setdefault(item.clause, []).append(item)
    return Coverage(
        clauses=tuple(_covered(clause, record, stated.get(clause.id, [])) for clause in document.clauses)
    )


def open_items(
    record: Record, documents: Sequence[Document], attestations: Sequence[Attestation] = ()
) -> list[tuple[Document, list[Clause]]]:
    """The clauses of some documents for which a person still has to state something; no document without."""
    found = [
        (document, [item.clause for item in coverage(record, document, attestations).open_statements])
        for document in documents
    ]
    return [(document, clauses) for document, clauses in found if clauses]


def _covered(clause: Clause, record: Record, stated: Sequence[Attestation]) -> Covered:
    if clause.evidenced_by == "never":
        return Covered(clause=clause, status=Status.NEVER_GENERATED)
    if not _applies(clause, record):
        return Covered(clause=clause, status=Status.NOT_APPLICABLE)
    found = Covered(
        clause=clause,
        status=Status.NOT_EVIDENCED,
        sources=tuple(_source(capability, record) for capability in clause.evidence),
        attestations=tuple(stated) if clause.asks_person else (),
    )
    status = Status.MEASURED if found.is_measured else Status.ATTESTED if found.attestations else found.status
    return Covered(clause=clause, status=status, sources=found.sources, attestations=found.attestations)


def _applies(clause: Clause, record: Record) -> bool:
    """False only where the record says what kind of model or data it is, and it is another kind."""
    kinds = (record.model.get("task"), record.data.get("modality"))
    named = {"classification": kinds[0], "regression": kinds[0]}.get(clause.applies, kinds[1])
    return not clause.applies or not named or named == clause.applies


def _source(capability: Capability, record: Record) -> Source:
    found = [(index, item) for index, item in enumerate(record.findings) if item.check == capability.check]
    places = tuple(index for index, _ in found)
    named = [item for _, finding in found for item in _named(finding, capability)]
    asked = [item for item in named if _is_asked(item.group, item.settings, capability, record)]
    counted = tuple(item for item in asked if _is_defined(item))
    missing = ""
    if all(_against(item, capability, record) for item in counted):
        missing = _missing(capability, [finding for _, finding in found], named, asked, record)
        counted = ()
    return Source(
        capability=capability,
        findings=places,
        measures=counted,
        verdicts=tuple(_verdicts([finding for _, finding in found], capability, record)),
        doubts=tuple(_doubts(counted, capability, record)),
        unproved=tuple(_unproved(counted, capability, record)),
        missing=missing,
    )


def _is_defined(item: Measure) -> bool:
    return item.value is not None and math.isfinite(item.value)


def _against(item: Measure, capability: Capability, record: Record) -> list[str]:
    """Why a number must not be relied on: what its own check says of it, and what other checks say."""
    doubts = [
        doubt.reason
        for finding in record.findings
        for doubt in finding.doubts
        if doubt.speaks_of(capability.check, item.name)
    ]
    return [reason for reason in (item.unreliable or item.too_few, *doubts) if reason]


def _named(finding: Finding, capability: Capability) -> list[Measure]:
    measured = finding.status == "measured"
    return [item for item in finding.measures if measured and item.name in capability.measures]


def _is_asked(
    group: Mapping[str, str], settings: Mapping[str, object], capability: Capability, record: Record
) -> bool:
    """Whether a measure speaks of whom the capability asks about."""
    if capability.groups is None:
        return True
    crossing = _crossing(group, settings, capability.check, record)
    if capability.groups is False:
        return not group and not crossing
    return {"single": crossing == 1, "crossed": crossing > 1}.get(str(capability.groups), crossing > 0)


def _crossing(group: Mapping[str, str], settings: Mapping[str, object], check: str, record: Record) -> int:
    """By how many sensitive features at once a measure tells people apart; 0 where it does not."""
    sensitive = set(record.data.get("sensitive") or ())
    if not sensitive:
        return len(group) if check.startswith("fairness.") else 0
    compared = [_crossed(str(settings[key]), sensitive) for key in _COMPARED if key in settings]
    return max(len(sensitive & group.keys()), *compared, 0)


def _crossed(name: str, sensitive: set[str]) -> int:
    """How many sensitive features a grouping such as `sex x race` crosses; 0 where another takes part."""
    if name in sensitive:
        return 1
    parts = name.split(_TOGETHER)
    return len(parts) if set(parts) <= sensitive else 0


def _missing(
    capability: Capability,
    findings: Sequence[Finding],
    named: Sequence[Measure],
    asked: Sequence[Measure],
    record: Record,
) -> str:
    """Why a capability has no evidence, as the end of a sentence."""
    known = next((item for item in asked if _is_defined(item)), None)
    if known is not None:
        return f"measured, and not to be relied on: {_against(known, capability, record)[0]}"
    if asked:
        return f"not defined: {asked[0].reason or 'the value is undefined'}"
    if named:
        return f"measured, but not {WHOM[capability.groups]}"
    if any(finding.status == "measured" for finding in findings):
        return "the check ran and did not measure it"
    if findings:
        status = findings[0].status.replace("_", " ")
        return f"{status}: {findings[0].reason}" if findings[0].reason else status
    planned = any(item.check == capability.check for item in record.plan)
    return "planned, and gave no finding" if planned else "this check was not run"


def _verdicts(findings: Sequence[Finding], capability: Capability, record: Record) -> Iterator[Judgement]:
    for finding in findings:
        for item in finding.verdicts:
            asked = not item.matched or _is_asked(item.group, item.settings, capability, record)
            if item.measure in capability.measures and asked:
                yield item


def _doubts(measures: Sequence[Measure], capability: Capability, record: Record) -> list[str]:
    """Reasons against some of the measures, each once, the first few."""
    said = [reason for item in measures for reason in _against(item, capability, record)]
    return list(dict.fromkeys(said))[:_LISTED]


def _unproved(measures: Sequence[Measure], capability: Capability, record: Record) -> Iterator[str]:
    """A sentence for each check that was not measured and could have spoken against these numbers.

    So that leaving out the check that doubts a number is seen where the number is then relied on.
    """
    ran = {finding.check for finding in record.findings if finding.status == "measured"}
    names = {item.name for item in measures}
    for item in record.plan:
        for other, _ in item.unheard(names, ran) if item.check == capability.check else ():
            yield f"no {other} was measured, so only the check itself speaks for these numbers."


def record_date(record: Record) -> date | None:
    """The day of the audit by the record's own account; None where it does not say."""
    for key in ("finished", "started"):
        try:
            return datetime.fromisoformat(str(record.run.get(key))).date()
        except ValueError:
            continue
    return None


def warnings(record: Record, framework: Framework) -> tuple[str, ...]:
    """What a reader must know of the pack itself before relying on the matrix, in sentences."""
    said = []
    if framework.status == "superseded":
        said.append(f"This framework is superseded by '{framework.superseded_by}'; use that one.")
    audited = record_date(record)
    review = framework.review_by
    if audited is None:
        said.append(
            f"The record carries no date. The content of this document was to be compared with its sources "
            f"again by {review}: make sure that the audit is from before."
        )
    elif audited > review:
        said.append(
            f"This document is overdue: its content was to be compared with its sources again by {review}, "
            f"and the audit is of {audited}."
        )
    return tuple(said)
