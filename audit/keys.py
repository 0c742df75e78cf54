"""Keys: an ed25519 pair, the private half in a file that only its owner can read.

Both halves are PEM files: PKCS #8 for the private one, under a passphrase where one is given, and
SubjectPublicKeyInfo for the public one. A key is named by the sha256 of its 32 public bytes.
Needs the extra `sign`, and nothing else here does.
"""

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit.errors import ConfigError
from audit.plainfile import plain_file

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PASSPHRASE = "MODEL_AUDIT_KEY_PASSPHRASE"  # noqa: S105 - the name of a variable, not a passphrase
PRIVATE_SUFFIX, PUBLIC_SUFFIX = ".key", ".pub"
_OWNER_ONLY = 0o600
_READABLE = 0o644


def require() -> None:
    """Refuse to go on where the extra `sign` is not installed.

    Raises:
        ConfigError: cryptography or securesystemslib does not import.
    """
    try:
        import cryptography  # noqa: F401 - only whether they are there
        import securesystemslib  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"{error.name} is not installed; signatures need it: pip install 'model-audit[sign]'."
        ) from None


def key_id(public: bytes) -> str:
    """The name of a key: sha256, in hex, of its 32 public bytes."""
    return hashlib.sha256(public).hexdigest()


def generate(path: Path) -> tuple[Path, Path, str]:
    """Make a pair of keys. The private one is encrypted where MODEL_AUDIT_KEY_PASSPHRASE is set.

    Args:
        path: the file of the private key; the public one lies beside it and ends in `.pub`.

    Returns:
        The two files and the name of the key.

    Raises:
        ConfigError: one of them exists, or cannot be written.
    """
    require()
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    public_path = path.with_suffix(PUBLIC_SUFFIX)
    if public_path == path:
        raise ConfigError(f"{path} ends in {PUBLIC_SUFFIX}, as a public key does; name the private one.")
    taken = next((file for file in (path, public_path) if file.exists()), None)
    if taken is not None:
        raise ConfigError(f"{taken} exists, and a key is never overwritten; name another file.")
    key, phrase = Ed25519PrivateKey.generate(), os.environ.get(PASSPHRASE)
    cipher = form.BestAvailableEncryption(phrase.encode()) if phrase else form.NoEncryption()
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, cipher)
    public = key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    _write_new(path, private, _OWNER_ONLY)
    _write_new(public_path, public, _READABLE)
    return path, public_path, key_id(raw(key.public_key()))


def _write_new(path: Path, content: bytes, mode: int) -> None:
    """Write a file that must not be there yet; never for a moment readable by more than `mode` says."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}.") from None


def raw(key: "Ed25519PublicKey") -> bytes:
    """The 32 bytes of a public key."""
    from cryptography.hazmat.primitives import serialization as form

    return key.public_bytes(form.Encoding.Raw, form.PublicFormat.Raw)


def read_private(path: Path) -> "Ed25519PrivateKey":
    """The private key of a PEM file.

    Raises:
        ConfigError: no such file, no ed25519 key in it, or the passphrase is missing, wrong or not needed.
    """
    require()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    phrase, content = os.environ.get(PASSPHRASE), _content(path)
    encrypted = b"ENCRYPTED" in content
    if encrypted and not phrase:
        raise ConfigError(f"{path} is encrypted; set {PASSPHRASE} to its passphrase.")
    try:
        key = load_pem_private_key(content, phrase.encode() if phrase and encrypted else None)
    except Exception:  # noqa: BLE001 - whatever a file that is no key makes of the parser
        why = "or the passphrase is wrong" if encrypted else "`model-audit keygen` writes one"
        raise ConfigError(f"{path} cannot be read as a private key in PEM; {why}.") from None
    private: Ed25519PrivateKey = _of_kind(key, Ed25519PrivateKey, path)
    return private


def read_public(path: Path) -> bytes:
    """The 32 bytes of the public key of a PEM file.

    Raises:
        ConfigError: no such file, or no ed25519 public key in it.
    """
    require()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    content = _content(path)
    if b"PRIVATE" in content:
        raise ConfigError(f"{path} is a private key; name its public half, which ends in {PUBLIC_SUFFIX}.")
    try:
        key = load_pem_public_key(content)
    except Exception:  # noqa: BLE001 - whatever a file that is no key makes of the parser
        raise ConfigError(f"{path} cannot be read as a public key in PEM.") from None
    return raw(_of_kind(key, Ed25519PublicKey, path))


def _of_kind(key: Any, kind: type, path: Path) -> Any:
    if not isinstance(key, kind):
        raise ConfigError(f"{path} holds a {type(key).__name__}; it must be an ed25519 key.")
    return key


def _content(path: Path) -> bytes:
    try:
        return plain_file(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"the key {path} cannot be read: {error.strerror}.") from None
