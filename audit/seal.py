"""Seal: sign a run folder, so that nobody can change a byte of it unseen.

What is signed is an in-toto statement: its subjects are every file of the folder by sha256, and its
predicate names the root of the hash tree over them, what each document was rendered from and by which build
of this tool, and the key. It stands in a DSSE envelope in `seal.json`, signed with ed25519. Time is what the
signer's clock says. Sigstore is left out: it needs a service on the network, and a key that people hand over
needs none.
"""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit.environment import tool
from audit.errors import ConfigError
from audit.keys import key_id, raw, read_private
from audit.record import Record, canonical, read_record
from audit.rendered import FOLDER, Rendering, Sources, candidates, found_out, renderer
from audit.tree import ALGORITHM, root

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

FILE = "seal.json"
_PAYLOAD_TYPE = "application/vnd.in-toto+json"
_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "urn:model-audit:seal:1"


def seal(
    run: Path,
    key: Path,
    *,
    packs: Sequence[Path] = (),
    attestations: Path | None = None,
    replace: bool = False,
) -> Path:
    """Sign every file of a run folder. Each document is rendered again first; one that differs stops it.

    Args:
        run: the run folder.
        key: the private key, see `audit.keys`.
        packs: documents of one's own that lie in `reports/`.
        attestations: the statements that went into documents; those with the run where None.
        replace: take the place of a seal that is there.

    Returns:
        The seal.

    Raises:
        ConfigError: no run folder, no key, a seal that is there, a document that the record does not render
            to, or a file that cannot be sealed.
    """
    private = read_private(key)
    path = run / FILE
    if not run.is_dir():
        raise ConfigError(f"{run} is not a run folder; a seal is over every file of one.")
    if path.exists() and not replace:
        raise ConfigError(f"{path} exists, so the run is signed; --force signs it again.")
    sources = Sources(run, tuple(packs), attestations)
    names = _names(run)
    documents = _documents(read_record(run), names, sources)
    statement = _statement(_hashes(run, names), documents, raw(private.public_key()))
    content = canonical(_envelope(canonical(statement), private))
    part = path.with_suffix(".part")
    part.write_bytes(content)
    part.replace(path)
    return path


def _names(run: Path) -> list[str]:
    """Every file of the folder but the seal, by its path in it, sorted."""
    found = []
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ConfigError(f"{path} is a link or no plain file; a seal is over files alone.")
        try:
            name.encode()
        except UnicodeEncodeError:
            raise ConfigError(f"{name!r} is no name in UTF-8; a seal cannot hold it.") from None
        if path.is_file() and name != FILE:
            found.append(name)
    return sorted(found)


def _hashes(run: Path, names: Sequence[str]) -> list[tuple[str, str]]:
    found = []
    for name in names:
        try:
            with (run / name).open("rb") as file:
                found.append((name, hashlib.file_digest(file, "sha256").hexdigest()))
        except OSError as error:
            raise ConfigError(f"{run / name} cannot be read: {error.strerror}.") from None
    return found


def _documents(record: Record, names: Sequence[str], sources: Sources) -> list[Rendering]:
    """What each document was rendered from; a PDF that cannot be printed again here is named without it."""
    found = []
    for name in (name for name in names if name.startswith(f"{FOLDER}/")):
        try:
            made = found_out(record, name, sources)
        except ConfigError:
            if not name.endswith(".pdf"):
                raise
            made = None
        if made is None and name.endswith(".pdf") and (could := candidates(name, sources)):
            made = Rendering(path=name, form="pdf", document=could[0].document,
                             document_sha256=could[0].document_sha256)  # fmt: skip
        if made is not None:
            found.append(made)
    return found


def _statement(
    hashes: Sequence[tuple[str, str]], documents: Sequence[Rendering], public: bytes
) -> dict[str, Any]:
    leaves = [canonical({"path": name, "sha256": sha}) for name, sha in hashes]
    return {
        "_type": _STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": sha}} for name, sha in hashes],
        "predicateType": _PREDICATE,
        "predicate": {
            "tree": {"algorithm": ALGORITHM, "size": len(leaves), "root": root(leaves).hex()},
            "documents": [made.plain() for made in documents],
            "signer": {"algorithm": "ed25519", "key_id": key_id(public), "public": public.hex()},
            "tool": tool(),
            "renderer": renderer(),
            "signed": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    }


def _envelope(payload: bytes, private: "Ed25519PrivateKey") -> dict[str, Any]:
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined]

    public = private.public_key()
    envelope = Envelope(payload, _PAYLOAD_TYPE, {})
    envelope.sign(CryptoSigner(private, SSlibKey.from_crypto(public, key_id(raw(public)))))
    signed: dict[str, Any] = envelope.to_dict()
    return signed
