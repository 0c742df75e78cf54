"""Clauses of the installed framework packs as SARIF taxonomies, and which of them a result evidences.

A rule is *relevant* to every clause that names its check. A result carries a clause only where what it judges
was really measured and is what the clause asks for: the coverage matrix of the documents decides, so that a
log and a document cannot disagree. Sections 3.19, 3.27.8, 3.49.15 and 3.52 of SARIF 2.1.0.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from audit.coverage import Coverage, Source, coverage
from audit.document import Document, installed_documents
from audit.formats.answers import Answer
from audit.formats.text import line
from audit.framework import Clause, Framework
from audit.policy import Verdict
from audit.record import Record
from audit.wording import visible

Reference = Mapping[str, Any]


@dataclass(frozen=True)
class Taxonomies:
    """What a log says of frameworks; references are filled in pack by pack.

    Attributes:
        components: one `toolComponent` a framework; its taxa are the clauses that name a check of the run.
        relevant: by check, references to the clauses that name it.
        unjudged: by check, references to the clauses that what it measured evidences.
        judged: the same by the identity of a judgement.
    """

    components: list[dict[str, Any]]
    relevant: dict[str, list[Reference]]
    unjudged: dict[str, list[Reference]]
    judged: dict[int, list[Reference]]

    def evidenced_by(self, answer: Answer) -> Sequence[Reference]:
        """References to the clauses that what was answered evidences; none for what was not measured."""
        if answer.judgement is not None:
            return self.judged.get(id(answer.judgement), ())
        return self.unjudged.get(answer.check, ()) if answer.verdict is Verdict.NOT_JUDGED else ()


def taxonomies(record: Record, checks: Collection[str]) -> Taxonomies:
    """The clauses that name one of `checks`, and what in the record evidences each; a pure function."""
    found = Taxonomies([], {check: [] for check in checks}, {}, {})
    for document in installed_documents().values():
        named = [clause for clause in document.clauses if _checks(clause) & set(checks)]
        if document.framework is not None and named:
            _add(found, document, named, coverage(record, document))
    return found


def _checks(clause: Clause) -> set[str]:
    return {capability.check for capability in clause.evidence}


def _add(found: Taxonomies, document: Document, named: Sequence[Clause], matrix: Coverage) -> None:
    place = len(found.components)
    found.components.append(_component(document, named))
    sources = {item.clause.id: item.sources for item in matrix.clauses}
    for index, clause in enumerate(named):
        reference = {"id": line(clause.id), "index": index, "toolComponent": {"index": place}}
        for check in sorted(_checks(clause) & found.relevant.keys()):
            found.relevant[check].append(reference)
        for source in sources[clause.id]:
            _evidence(found, source, reference)


def _evidence(found: Taxonomies, source: Source, reference: Reference) -> None:
    if source.missing:
        return
    known = found.unjudged.setdefault(source.capability.check, [])
    if reference not in known:
        known.append(reference)
    for judgement in source.verdicts:
        known = found.judged.setdefault(id(judgement), [])
        if judgement.matched and judgement.value is not None and reference not in known:
            known.append(reference)


def _component(document: Document, named: Sequence[Clause]) -> dict[str, Any]:
    framework = document.framework
    return {
        "name": document.name,
        "fullName": line(document.title),
        "version": line(document.version),
        "shortDescription": {"text": line(document.title)},
        "fullDescription": {"text": visible(document.purpose)},
        "isComprehensive": False,
        "taxa": [_taxon(clause) for clause in named],
        **({"properties": _standing(framework)} if framework else {}),
    }


def _standing(framework: Framework) -> dict[str, str]:
    facts = {
        "jurisdiction": line(framework.jurisdiction),
        "status": framework.status,
        "supersededBy": framework.superseded_by,
        "verifiedOn": framework.verified_on.isoformat(),
        "reviewBy": framework.review_by.isoformat(),
        "note": line(framework.note),
    }
    return {key: value for key, value in facts.items() if value}


def _taxon(clause: Clause) -> dict[str, Any]:
    return {
        "id": line(clause.id),
        "shortDescription": {"text": line(clause.label)},
        "properties": {"part": line(clause.part), "evidencedBy": clause.evidenced_by},
    }
