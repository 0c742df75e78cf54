"""Attestation: what a person states for a clause, with name, role and date. No machine can evidence it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from audit.document import Document
from audit.errors import ConfigError, nearest
from audit.framework import Clause
from audit.toml import day, known_keys, read_toml, tables, text

FILE = "attestations.toml"
_KEYS = ("document", "clause", "text", "name", "role", "date")
_SAID = ("text", "name", "role", "date")
_HEAD = """\
# What only a person can state.
# For each item, write what you state in `text`, and who you are in `name`, `role` and `date` (YYYY-MM-DD).
# Leave all four empty to leave an item open: it is then shown as a gap, not left out.
# Put this file into the run folder, or name it: model-audit render RUN --document NAME --attestations FILE
"""


@dataclass(frozen=True, kw_only=True)
class Attestation:
    """One statement.

    Attributes:
        document: name of the document whose clause it answers.
        clause: the clause's id.
        text: what is stated.
        name: who states it.
        role: as what.
        date: when.
    """

    document: str
    clause: str
    text: str
    name: str
    role: str
    date: date


def attestations_beside(run: Path) -> Path | None:
    """The `attestations.toml` in a run folder, else the one beside it; None where there is neither."""
    folder = run if run.is_dir() else run.parent
    return next((path for path in (folder / FILE, folder.parent / FILE) if path.is_file()), None)


def read_attestations(path: Path, documents: Mapping[str, Document]) -> tuple[Attestation, ...]:
    """The statements of a file, in its order; an entry whose four fields are empty is still open.

    Args:
        path: the TOML file.
        documents: the documents there are, by name.

    Raises:
        ConfigError: not TOML; an unknown key, document or clause; a clause that asks nothing of a person;
            or a statement without its text, name, role or date.
    """
    values = read_toml(path, "`model-audit attest RUN` writes one to fill in")
    known_keys(values, ("attestations",), str(path))
    entries = enumerate(tables(values, "attestations", str(path)))
    read = (_attestation(entry, f"{path}: attestations[{index}]", documents) for index, entry in entries)
    return tuple(item for item in read if item is not None)


def _attestation(
    entry: Mapping[str, Any], where: str, documents: Mapping[str, Document]
) -> Attestation | None:
    known_keys(entry, _KEYS, where)
    document, clause = text(entry, "document", where), text(entry, "clause", where)
    _refuse_unasked(document, clause, where, documents)
    if all(_is_empty(entry.get(key)) for key in _SAID):
        return None
    place = f"{where}, for clause {clause!r} of '{document}'"
    said = {key: text(entry, key, place) for key in ("text", "name", "role")}
    return Attestation(document=document, clause=clause, **said, date=day(entry, "date", place))


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _refuse_unasked(document: str, clause: str, where: str, documents: Mapping[str, Document]) -> None:
    if document not in documents:
        hint = nearest(document, documents)
        raise ConfigError(f"{where}: '{document}' is not a document{hint}; --pack FILE names your own.")
    clauses = {item.id: item for item in documents[document].clauses}
    if clause not in clauses:
        raise ConfigError(
            f"{where}: '{document}' has no clause {clause!r}{nearest(clause, clauses) or '; it has none'}."
        )
    if not clauses[clause].asks_person:
        kind = clauses[clause].evidenced_by
        raise ConfigError(
            f"{where}: clause {clause!r} of '{document}' asks for no statement: it is evidenced_by '{kind}'."
        )


def template(items: Sequence[tuple[Document, Sequence[Clause]]], about: str) -> str:
    """An `attestations.toml` to fill in.

    Args:
        items: the documents, each with the clauses that are still open.
        about: which run it is for, in words.
    """
    parts = [_HEAD + _comment(about)]
    for document, clauses in items:
        for clause in clauses:
            lines = [
                _comment(f"{document.title}, {clause.id}: {clause.label}"),
                _comment(clause.statement),
                "[[attestations]]\n",
                f"document = {_quoted(document.name)}\n",
                f"clause = {_quoted(clause.id)}\n",
                *(f'{key} = ""\n' for key in _SAID),
            ]
            parts.append("".join(lines))
    return "\n".join(parts)


def _comment(said: str) -> str:
    """A text on one line of comment, so that nothing in it is read as TOML."""
    from audit.wording import visible

    return f"# {visible(' '.join(said.split()))}\n"


def _quoted(said: str) -> str:
    import tomlkit

    return tomlkit.string(said).as_string()
