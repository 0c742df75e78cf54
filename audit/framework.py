"""Framework: a body of rules as data. Its identity, its clauses, and exactly which measures evidence each.

A clause names *capability keys*: measures of checks. A check that is merely present, or a measure of another
name, evidences nothing. Short labels are in our own words; the framework's text stands in the framework.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal, cast

from audit.errors import ConfigError, nearest
from audit.registry import Broken, check_names, installed_check
from audit.toml import day, flag, known_keys, one_of, optional_text, tables, text, texts

Force = Literal["in force", "deferred", "superseded", "voluntary"]
Evidenced = Literal["measured", "attested", "both", "never"]
Groups = bool | Literal["single", "crossed"] | None
FORCES = ("in force", "deferred", "superseded", "voluntary")
_EVIDENCED = ("measured", "attested", "both", "never")
APPLIES = ("classification", "regression", "tabular", "image", "series")
_GROUPS = ("single", "crossed")
_FRAMEWORK = (
    "jurisdiction", "status", "superseded_by", "applies_from", "verified_on", "review_by", "sources", "note",
)  # fmt: skip
_CLAUSE = (
    "id", "part", "label", "evidenced_by", "evidence", "any_of", "statement", "why", "applies",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Capability:
    """Measures of one check, any one of which is evidence.

    Attributes:
        check: full name of the check.
        measures: names of its measures.
        groups: True for measures of a sensitive group only (or that compare such groups), `single` for
            those by one sensitive feature, `crossed` for those of intersections, by two or more; False for
            measures of the whole only, None for either.
    """

    check: str
    measures: tuple[str, ...]
    groups: Groups = None


@dataclass(frozen=True, kw_only=True)
class Clause:
    """One thing that a framework asks for.

    Attributes:
        id: the framework's own id, unique in the document.
        part: heading it stands under.
        label: what it asks for, in our own words.
        evidenced_by: who can evidence it: a machine (`measured`), a person (`attested`), both, or nobody
            here (`never`).
        evidence: what must have been measured: every entry, or one of them where `any_of`.
        any_of: one entry is enough.
        statement: what a person has to state.
        why: why this tool never produces it.
        applies: the one task or kind of input it applies to; empty for all.
    """

    id: str
    part: str
    label: str
    evidenced_by: Evidenced
    evidence: tuple[Capability, ...] = ()
    any_of: bool = False
    statement: str = ""
    why: str = ""
    applies: str = ""

    @property
    def asks_person(self) -> bool:
        """Whether a person has to state something."""
        return self.evidenced_by in ("attested", "both")


@dataclass(frozen=True, kw_only=True)
class Framework:
    """The identity of a body of rules.

    Attributes:
        jurisdiction: where it holds.
        status: whether it is in force.
        superseded_by: name of the document that took its place.
        applies_from: dates, and what applies from each.
        verified_on: when its content was last compared with its sources.
        review_by: when that must be done again.
        sources: citations.
        note: what a reader must know of how it was read.
    """

    jurisdiction: str
    status: Force
    verified_on: date
    review_by: date
    sources: tuple[str, ...]
    superseded_by: str = ""
    applies_from: tuple[tuple[date, str], ...] = ()
    note: str = ""


def read_framework(values: Mapping[str, Any], where: str) -> Framework:
    """A framework from the `[framework]` of a document.

    Raises:
        ConfigError: a key is missing, unknown or wrong; `where` names the file.
    """
    where = f"{where}: framework"
    known_keys(values, _FRAMEWORK, where)
    status = cast("Force", one_of(values, "status", FORCES, where))
    framework = Framework(
        jurisdiction=text(values, "jurisdiction", where),
        status=status,
        superseded_by=optional_text(values, "superseded_by", where),
        applies_from=_dates(values, where),
        verified_on=day(values, "verified_on", where),
        review_by=day(values, "review_by", where),
        sources=texts(values, "sources", where, "citations"),
        note=optional_text(values, "note", where),
    )
    if not framework.sources:
        raise ConfigError(f"{where}: 'sources' is empty; cite at least one text.")
    if (status == "superseded") != bool(framework.superseded_by):
        raise ConfigError(f"{where}: 'superseded_by' goes with status = 'superseded', and only with it.")
    if framework.review_by < framework.verified_on:
        raise ConfigError(f"{where}: 'review_by' = {framework.review_by} lies before 'verified_on'.")
    return framework


def _dates(values: Mapping[str, Any], where: str) -> tuple[tuple[date, str], ...]:
    dates = []
    for index, entry in enumerate(tables(values, "applies_from", where)):
        place = f"{where}: applies_from[{index}]"
        known_keys(entry, ("date", "what"), place)
        dates.append((day(entry, "date", place), text(entry, "what", place)))
    return tuple(dates)


def read_clauses(values: Mapping[str, Any], where: str) -> tuple[Clause, ...]:
    """The `[[clauses]]` of a document, in their order.

    Raises:
        ConfigError: a key is missing, unknown or wrong, or an id stands twice; `where` names the file.
    """
    found: dict[str, Clause] = {}
    for index, entry in enumerate(tables(values, "clauses", where)):
        clause = _clause(entry, where, index)
        if clause.id in found:
            raise ConfigError(f"{where}: the clause id '{clause.id}' stands twice; each must be unique.")
        found[clause.id] = clause
    return tuple(found.values())


def _clause(entry: Mapping[str, Any], where: str, index: int) -> Clause:
    name = text(entry, "id", f"{where}: clauses[{index}]")
    place = f"{where}: clause {name!r}"
    known_keys(entry, _CLAUSE, place)
    clause = Clause(
        id=name,
        part=text(entry, "part", place),
        label=text(entry, "label", place),
        evidenced_by=cast("Evidenced", one_of(entry, "evidenced_by", _EVIDENCED, place)),
        evidence=tuple(_capability(item, place) for item in tables(entry, "evidence", place)),
        any_of=flag(entry, "any_of", place) or False,
        statement=optional_text(entry, "statement", place),
        why=optional_text(entry, "why", place),
        applies=one_of(entry, "applies", APPLIES, place) if "applies" in entry else "",
    )
    _fits_its_kind(clause, place)
    return clause


def _fits_its_kind(clause: Clause, where: str) -> None:
    """Each kind of clause carries what it needs and nothing that would never be read."""
    kind = clause.evidenced_by
    wanted = {
        "evidence": (bool(clause.evidence), kind in ("measured", "both")),
        "statement": (bool(clause.statement), clause.asks_person),
        "why": (bool(clause.why), kind == "never"),
    }
    for key, (given, needed) in wanted.items():
        if needed and not given:
            raise ConfigError(f"{where}: '{key}' is missing; evidenced_by = '{kind}' needs it.")
        if given and not needed:
            raise ConfigError(f"{where}: '{key}' has no place where evidenced_by = '{kind}'.")


def _capability(entry: Mapping[str, Any], where: str) -> Capability:
    where = f"{where}: evidence"
    known_keys(entry, ("check", "measures", "groups"), where)
    measures = texts(entry, "measures", where, "names of measures")
    check = text(entry, "check", where)
    if not measures:
        raise ConfigError(f"{where}: 'measures' is empty; name the measures of '{check}' that evidence it.")
    return Capability(check=check, measures=measures, groups=_groups(entry, where))


def _groups(entry: Mapping[str, Any], where: str) -> Groups:
    value = entry.get("groups")
    if value is None or isinstance(value, bool) or value in _GROUPS:
        return cast("Groups", value)
    raise ConfigError(
        f"{where}: 'groups' = {value!r} is wrong; it is true, false, 'single' (by one sensitive feature) or "
        "'crossed' (by several at once)."
    )


def refuse_unknown(clauses: tuple[Clause, ...], where: str) -> None:
    """Refuse a clause that names a check that is not installed, or a measure that it cannot produce.

    A check that declares no measures, or that does not import, is not asked.

    Raises:
        ConfigError: names the clause, the name and the nearest one; `where` names the file.
    """
    names = check_names()
    for clause in clauses:
        for capability in clause.evidence:
            place = f"{where}: clause {clause.id!r}: evidence"
            if capability.check not in names:
                hint = nearest(capability.check, names)
                raise ConfigError(f"{place}: '{capability.check}' is not an installed check{hint}.")
            check = installed_check(capability.check)
            declared = frozenset() if isinstance(check, Broken) else check.measures
            for name in capability.measures:
                if declared and name not in declared:
                    hint = nearest(name, declared)
                    raise ConfigError(f"{place}: '{capability.check}' does not measure '{name}'{hint}.")
