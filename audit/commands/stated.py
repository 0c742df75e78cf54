"""The documents that are meant on a command line, and the statements that go into them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from audit.attestation import Attestation


def chosen_document(document: str | None, pack: Path | None) -> str | Path:
    """The document that is meant: a pack of one's own by its file, any other by its name."""
    if pack is not None and document in (None, pack.stem):
        return pack
    return Path(document) if document and document.endswith(".toml") else document or "technical-report"


def has_clauses(document: str | Path) -> bool:
    """Whether the document is one of clauses, to which people may have stated something."""
    from audit.document import read_document

    return bool(read_document(document).clauses)


def stated_for(run: Path, attestations: Path | None, pack: Path | None) -> "Sequence[Attestation]":
    """The statements of the file that is named, else of the one that lies with the run."""
    from audit.attestation import attestations_beside, read_attestations
    from audit.document import installed_documents

    path = attestations or attestations_beside(run)
    return read_attestations(path, installed_documents([pack] if pack else [])) if path else ()
