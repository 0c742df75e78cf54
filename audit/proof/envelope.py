"""Envelope: a DSSE envelope around an in-toto statement, opened and checked to the last byte.

Every byte of seal.json is either signed or follows from what is signed: it must be canonical JSON, its
base64 must be the one encoding there is, and the name of the key that of the key itself. Only `cryptography`
is used here; what signs uses another library for the envelope.
"""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from audit.proof.consistency import parsed

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "urn:model-audit:seal:1"
_SIGNATURE_BYTES = 64


@dataclass(frozen=True)
class Seal:
    """What was signed.

    Attributes:
        public: 32 bytes, the key that signed.
        key_id: sha256 of it, in hex.
        files: sha256 by path.
        root: the root of the hash tree, in hex.
        predicate: the rest of what was signed.
    """

    public: bytes
    key_id: str
    files: Mapping[str, str]
    root: str
    predicate: Mapping[str, Any]


def opened(content: bytes) -> Seal:
    """The seal of an envelope whose one signature holds for the key that is named in it.

    Raises:
        ValueError: with the one thing that is wrong, as the rest of a sentence about seal.json.
    """
    envelope = _object(parsed(content), "the envelope", {"payload", "payloadType", "signatures"})
    if envelope["payloadType"] != PAYLOAD_TYPE:
        raise ValueError(f"the type of its payload is {envelope['payloadType']!r}, not {PAYLOAD_TYPE}")
    if not isinstance(envelope["signatures"], list) or len(envelope["signatures"]) != 1:
        raise ValueError("it does not hold exactly one signature")
    signature = _object(envelope["signatures"][0], "the signature", {"keyid", "sig"})
    payload, signed = _bytes(envelope["payload"], "payload"), _bytes(signature["sig"], "signature")
    statement = _object(parsed(payload), "the statement", {"_type", "predicate", "predicateType", "subject"})
    kinds = (statement["_type"], statement["predicateType"])
    if kinds != (STATEMENT, PREDICATE):
        raise ValueError(f"it states {kinds}, not {(STATEMENT, PREDICATE)}")
    seal = _seal(statement)
    if signature["keyid"] != seal.key_id:
        raise ValueError("the name of the key beside the signature is not that of the key inside")
    if len(signed) != _SIGNATURE_BYTES or not _holds(seal.public, signed, _signed_bytes(payload)):
        raise ValueError("the signature does not hold: what was signed was changed, or another key signed it")
    return seal


def _object(value: Any, what: str, keys: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != keys:
        raise ValueError(f"{what} is no object of {', '.join(sorted(keys))}")
    return value


def _bytes(text: Any, what: str) -> bytes:
    """What a base64 text stands for; only the one encoding that is canonical is accepted."""
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise ValueError(f"its {what} is not base64") from None
    if base64.b64encode(found).decode() != text:
        raise ValueError(f"its {what} is not the base64 of what it stands for")
    return found


def _seal(statement: Mapping[str, Any]) -> Seal:
    try:
        predicate, subject = statement["predicate"], statement["subject"]
        signer, tree = predicate["signer"], predicate["tree"]
        files = {str(item["name"]): str(item["digest"]["sha256"]) for item in subject}
        public = bytes.fromhex(signer["public"])
        sound = len(files) == len(subject) == tree["size"] and signer["algorithm"] == "ed25519"
        seal = Seal(public, str(signer["key_id"]), files, str(tree["root"]), predicate)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"its statement is damaged: {type(error).__name__}: {error}") from None
    if not sound:
        raise ValueError("its statement names files twice, or a key or a tree of another kind")
    if hashlib.sha256(public).hexdigest() != seal.key_id:
        raise ValueError("the name of its key is not that of the key")
    return seal


def _signed_bytes(payload: bytes) -> bytes:
    """The pre-authentication encoding of DSSE version 1."""
    kind = PAYLOAD_TYPE.encode()
    return b" ".join([b"DSSEv1", str(len(kind)).encode(), kind, str(len(payload)).encode(), payload])


def _holds(public: bytes, signature: bytes, message: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
