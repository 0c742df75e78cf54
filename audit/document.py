"""Document: what a governance document must show, read from a TOML file. Data for reviewers, no code.

A document has an identity and ordered sections; each section names the template that sets it. The look
stands in `templates/`, the words of a section in the document. A document that is a framework pack also
has the framework's identity and its clauses.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit.errors import ConfigError, nearest
from audit.framework import Clause, Framework, read_clauses, read_framework, refuse_unknown
from audit.resources import REPORTS, TEMPLATES
from audit.toml import known_keys, optional_text, read_toml, tables, text, texts

_IDENTITY = ("name", "title", "purpose", "audience", "version")
_SECTION = ("id", "title", "template")
_SECTION_MAY = ("intro", "statements")
_PAGE_ONE = ("summary", "verdict")
_MATRIX = "coverage"
_ID = re.compile(r"[a-z][a-z0-9-]*")


@dataclass(frozen=True, kw_only=True)
class Section:
    """One section of a document.

    Attributes:
        id: anchor in the page, unique within the document.
        title: heading.
        template: name of the file in `templates/sections/` that sets it, without `.html.j2`.
        intro: sentences under the heading.
        statements: standing sentences that the template lists.
    """

    id: str
    title: str
    template: str
    intro: str = ""
    statements: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Pillar:
    """One of the questions that an audit asks, for the headings and for what was not asked.

    Attributes:
        id: first part of the names of its checks, e.g. `fairness`.
        title: heading of its findings.
        question: what it asks, as a reader would.
    """

    id: str
    title: str
    question: str


@dataclass(frozen=True, kw_only=True)
class Document:
    """A governance document.

    Attributes:
        name: name on the command line; the file is called the same.
        title: what it is called on its first page.
        purpose: what it is for, in one or two sentences.
        audience: who reads it.
        version: changes when the sections or their words change.
        sections: in the order of the page.
        pillars: in the order of the page; one without a finding is listed as not tested.
        framework: the body of rules it speaks of; None for a document of our own.
        clauses: what the framework asks for, in its order.
    """

    name: str
    title: str
    purpose: str
    audience: str
    version: str
    sections: tuple[Section, ...]
    pillars: tuple[Pillar, ...] = ()
    framework: Framework | None = None
    clauses: tuple[Clause, ...] = ()


def installed_documents(packs: Iterable[Path] = ()) -> dict[str, Document]:
    """Every shipped document by name, sorted, and those of `packs`, which are one's own.

    Raises:
        ConfigError: a file is damaged, or one of one's own takes the name of a shipped one.
    """
    found = {path.stem: _read(path) for path in sorted(REPORTS.glob("*.toml"))}
    for path in packs:
        document = read_document(path)
        if document.name in found:
            raise ConfigError(f"{path}: a document '{document.name}' is already installed; rename the file.")
        found[document.name] = document
    return found


def read_document(name_or_path: str | Path) -> Document:
    """A shipped document by its name, or one of the user's own by the path of its TOML file.

    Raises:
        ConfigError: no such document, not TOML, a key is missing, unknown or of the wrong kind, or a clause
            names a check or a measure that there is not.
    """
    name = str(name_or_path)
    path = Path(name_or_path)
    if not (name.endswith(".toml") or isinstance(name_or_path, Path)):
        known = {found.stem: found for found in REPORTS.glob("*.toml")}
        if name not in known:
            raise ConfigError(f"'{name}' is not an installed document{nearest(name, known)}.")
        path = known[name]
    document = _read(path)
    refuse_unknown(document.clauses, str(path))
    return document


def chosen_documents(names: Sequence[str] | None, pack: Path | None) -> list[Document]:
    """The documents of these names, in their order and each once; all that there are where none is named.

    Raises:
        ConfigError: no such document.
    """
    found = installed_documents([pack] if pack else [])
    for name in names or ():
        if name not in found:
            raise ConfigError(f"'{name}' is not an installed document{nearest(name, found)}.")
    return [found[name] for name in dict.fromkeys(names or found)]


def _read(path: Path) -> Document:
    where = str(path)
    values = read_toml(path, "`model-audit documents` lists the installed documents")
    known_keys(values, (*_IDENTITY, "sections", "pillars", "framework", "clauses"), where)
    identity = {key: text(values, key, where) for key in _IDENTITY}
    if identity["name"] != path.stem:
        raise ConfigError(f"{path}: 'name' is '{identity['name']}'; it must be '{path.stem}', as the file.")
    document = Document(
        **identity,
        sections=_sections(values, path),
        pillars=_pillars(values, path),
        framework=_framework(values, where),
        clauses=read_clauses(values, where),
    )
    _refuse_hidden(document, where)
    return document


def _refuse_hidden(document: Document, where: str) -> None:
    """A pack must not hide its gaps: the totals stand first, and the matrix stands in full."""
    used = [section.template for section in document.sections]
    if document.clauses and used[0] not in _PAGE_ONE:
        first, known = used[0], " or ".join(f"'{name}'" for name in _PAGE_ONE)
        raise ConfigError(
            f"{where}: sections[0]: 'template' = '{first}' is wrong; with [[clauses]] it must be {known}."
        )
    if document.clauses and _MATRIX not in used:
        raise ConfigError(f"{where}: 'sections' has no template = '{_MATRIX}'; clauses need one.")


def _framework(values: Mapping[str, Any], where: str) -> Framework | None:
    given = values.get("framework")
    if given is None and values.get("clauses"):
        raise ConfigError(f"{where}: 'framework' is missing; clauses need a [framework] that they are of.")
    if given is not None and not isinstance(given, dict):
        raise ConfigError(f"{where}: 'framework' is wrong; write it as [framework].")
    return read_framework(given, where) if given is not None else None


def _sections(values: Mapping[str, Any], path: Path) -> tuple[Section, ...]:
    entries = tables(values, "sections", str(path))
    if not entries:
        raise ConfigError(f"{path}: 'sections' is empty; a document needs at least one [[sections]].")
    sections = tuple(_section(entry, f"{path}: sections[{i}]") for i, entry in enumerate(entries))
    seen: set[str] = set()
    for section in sections:
        if section.id in seen:
            raise ConfigError(f"{path}: the section id '{section.id}' stands twice; each must be unique.")
        seen.add(section.id)
    return sections


def _section(entry: Mapping[str, Any], where: str) -> Section:
    known_keys(entry, (*_SECTION, *_SECTION_MAY), where)
    given = {key: text(entry, key, where) for key in _SECTION}
    if not _ID.fullmatch(given["id"]):
        raise ConfigError(f"{where}: 'id' = {given['id']!r} is wrong; use a-z, 0-9 and hyphens.")
    known = {path.name.removesuffix(".html.j2") for path in (TEMPLATES / "sections").glob("*.html.j2")}
    if given["template"] not in known:
        hint = nearest(given["template"], known)
        raise ConfigError(f"{where}: there is no section template '{given['template']}'{hint}.")
    intro = optional_text(entry, "intro", where)
    return Section(**given, intro=intro, statements=texts(entry, "statements", where, "sentences"))


def _pillars(values: Mapping[str, Any], path: Path) -> tuple[Pillar, ...]:
    keys = ("id", "title", "question")
    pillars = []
    for index, entry in enumerate(tables(values, "pillars", str(path))):
        where = f"{path}: pillars[{index}]"
        known_keys(entry, keys, where)
        pillars.append(Pillar(**{key: text(entry, key, where) for key in keys}))
    return tuple(pillars)
