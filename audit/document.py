"""Document: what a governance document must show, read from a TOML file. Data for reviewers, no code.

A document has an identity and ordered sections; each section names the template that sets it. The look
stands in `templates/`, the words of a section in the document.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit.errors import ConfigError, nearest
from audit.resources import REPORTS, TEMPLATES

_IDENTITY = ("name", "title", "purpose", "audience", "version")
_SECTION = ("id", "title", "template")
_SECTION_MAY = ("intro", "statements")
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
    """

    name: str
    title: str
    purpose: str
    audience: str
    version: str
    sections: tuple[Section, ...]
    pillars: tuple[Pillar, ...] = ()


def installed_documents() -> dict[str, Document]:
    """Every shipped document by name, sorted.

    Raises:
        ConfigError: a shipped file is damaged.
    """
    return {path.stem: _read(path) for path in sorted(REPORTS.glob("*.toml"))}


def read_document(name_or_path: str | Path) -> Document:
    """A shipped document by its name, or one of the user's own by the path of its TOML file.

    Raises:
        ConfigError: no such document, not TOML, or a key is missing, unknown or of the wrong kind.
    """
    text = str(name_or_path)
    if text.endswith(".toml") or isinstance(name_or_path, Path):
        return _read(Path(name_or_path))
    known = {path.stem: path for path in REPORTS.glob("*.toml")}
    if text not in known:
        raise ConfigError(f"'{text}' is not an installed document{nearest(text, known)}.")
    return _read(known[text])


def _read(path: Path) -> Document:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{path} does not exist; `model-audit documents` lists the installed documents."
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as TOML: {error}.") from None
    _known_keys(values, (*_IDENTITY, "sections", "pillars"), str(path))
    identity = {key: _text(values, key, str(path)) for key in _IDENTITY}
    if identity["name"] != path.stem:
        raise ConfigError(f"{path}: 'name' is '{identity['name']}'; it must be '{path.stem}', as the file.")
    return Document(**identity, sections=_sections(values, path), pillars=_pillars(values, path))


def _sections(values: Mapping[str, Any], path: Path) -> tuple[Section, ...]:
    entries = _tables(values, "sections", path)
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
    _known_keys(entry, (*_SECTION, *_SECTION_MAY), where)
    texts = {key: _text(entry, key, where) for key in _SECTION}
    if not _ID.fullmatch(texts["id"]):
        raise ConfigError(f"{where}: 'id' = {texts['id']!r} is wrong; use a-z, 0-9 and hyphens.")
    known = {path.name.removesuffix(".html.j2") for path in (TEMPLATES / "sections").glob("*.html.j2")}
    if texts["template"] not in known:
        hint = nearest(texts["template"], known)
        raise ConfigError(f"{where}: there is no section template '{texts['template']}'{hint}.")
    statements = entry.get("statements", [])
    if not isinstance(statements, list) or not all(isinstance(item, str) for item in statements):
        raise ConfigError(f"{where}: 'statements' is wrong; it must be a list of sentences.")
    intro = _text(entry, "intro", where) if "intro" in entry else ""
    return Section(**texts, intro=intro, statements=tuple(statements))


def _pillars(values: Mapping[str, Any], path: Path) -> tuple[Pillar, ...]:
    keys = ("id", "title", "question")
    pillars = []
    for index, entry in enumerate(_tables(values, "pillars", path)):
        where = f"{path}: pillars[{index}]"
        _known_keys(entry, keys, where)
        pillars.append(Pillar(**{key: _text(entry, key, where) for key in keys}))
    return tuple(pillars)


def _tables(values: Mapping[str, Any], key: str, path: Path) -> list[Mapping[str, Any]]:
    entries = values.get(key, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ConfigError(f"{path}: '{key}' is wrong; write each entry as [[{key}]].")
    return entries


def _known_keys(values: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in values:
        if key not in known:
            raise ConfigError(f"{where}: '{key}' is not a known key{nearest(key, known)}.")


def _text(values: Mapping[str, Any], key: str, where: str) -> str:
    value = values.get(key)
    if not isinstance(value, str) or not value.strip():
        found = "is missing" if value is None else f"= {value!r} is wrong"
        raise ConfigError(f"{where}: '{key}' {found}; it must be a text.")
    return value.strip()
