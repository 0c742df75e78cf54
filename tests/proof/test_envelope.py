"""The envelope: made by one library and opened by other code; every way to bend it is refused."""

import base64
import json

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey

from audit.keys import key_id, raw
from audit.proof.envelope import opened
from audit.seal import _envelope, _statement

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = raw(KEY.public_key())


def statement():
    return _statement([("record.json", "a" * 64), ("reports/x.html", "b" * 64)], [], PUBLIC)


def sealed(value=None, key=KEY):
    return rfc8785.dumps(_envelope(rfc8785.dumps(value or statement()), key))


def bent(change):
    envelope = json.loads(sealed())
    change(envelope)
    return rfc8785.dumps(envelope)


def test_what_was_signed_comes_back():
    seal = opened(sealed())
    assert seal.files == {"record.json": "a" * 64, "reports/x.html": "b" * 64}
    assert (seal.public, seal.key_id) == (PUBLIC, key_id(PUBLIC))


def test_another_library_accepts_the_envelope():
    envelope = Envelope.from_dict(json.loads(sealed()))
    key = SSlibKey.from_crypto(KEY.public_key(), key_id(PUBLIC))
    assert list(envelope.verify([key], 1)) == [key_id(PUBLIC)]


def test_signing_is_deterministic():
    value = statement()
    assert sealed(value) == sealed(value)


def slack(envelope):
    """Another base64 of the same bytes: the unused bits of the last digit are set."""
    sig = envelope["signatures"][0]["sig"]
    assert sig.endswith("==")
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    last = digits[digits.index(sig[-3]) + 1]
    assert base64.b64decode(sig[:-3] + last + "==") == base64.b64decode(sig)
    envelope["signatures"][0]["sig"] = sig[:-3] + last + "=="


BENT = {
    "another payload type": (lambda e: e.update(payloadType="text/plain"), "type of its payload"),
    "no signature": (lambda e: e.update(signatures=[]), "exactly one signature"),
    "two signatures": (lambda e: e["signatures"].append(e["signatures"][0]), "exactly one signature"),
    "a field more": (lambda e: e.update(more=1), "the envelope is no object of"),
    "a field more beside the signature": (
        lambda e: e["signatures"][0].update(more=1),
        "the signature is no object",
    ),
    "another base64 of the signature": (slack, "not the base64 of what it stands for"),
    "no base64": (lambda e: e.update(payload="?"), "payload is not base64"),
    "a number for a payload": (lambda e: e.update(payload=7), "payload is not base64"),
    "another name of the key": (
        lambda e: e["signatures"][0].update(keyid="0" * 64),
        "name of the key beside",
    ),
    "half a signature": (lambda e: e["signatures"][0].update(sig="AAAA"), "does not hold"),
}


@pytest.mark.parametrize(("change", "words"), BENT.values(), ids=BENT)
def test_a_bent_envelope_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        opened(bent(change))


SHORT = key_id(b"\0")
STATED = {
    "another kind of statement": (lambda s: s.update(predicateType="x"), "it states"),
    "a file twice": (lambda s: s["subject"].append(s["subject"][0]), "names files twice"),
    "a tree of another size": (lambda s: s["predicate"]["tree"].update(size=9), "names files twice"),
    "another algorithm": (
        lambda s: s["predicate"]["signer"].update(algorithm="none"),
        "key or a tree of another",
    ),
    "no files": (lambda s: s.update(subject=None), "statement is damaged"),
    "no key": (lambda s: s["predicate"].pop("signer"), "statement is damaged"),
    "a short key": (lambda s: s["predicate"]["signer"].update(public="00", key_id=SHORT), "key beside"),
    "a key of another name": (lambda s: s["predicate"]["signer"].update(key_id="1" * 64), "name of its key"),
}


@pytest.mark.parametrize(("change", "words"), STATED.values(), ids=STATED)
def test_a_statement_of_another_form_is_refused_though_it_is_signed(change, words):
    value = statement()
    change(value)
    with pytest.raises(ValueError, match=words):
        opened(sealed(value))


def test_a_signature_by_another_key_than_the_one_inside_does_not_hold():
    other = Ed25519PrivateKey.from_private_bytes(bytes(32))
    envelope = json.loads(sealed(key=other))
    envelope["signatures"][0]["keyid"] = key_id(PUBLIC)
    with pytest.raises(ValueError, match="does not hold"):
        opened(rfc8785.dumps(envelope))


def test_whitespace_is_a_changed_byte():
    with pytest.raises(ValueError, match="canonical"):
        opened(sealed() + b"\n")
    with pytest.raises(ValueError, match="canonical"):
        opened(json.dumps(json.loads(sealed()), indent=1).encode())


def test_a_key_given_twice_is_a_changed_byte():
    content = sealed()
    with pytest.raises(ValueError, match="canonical"):
        opened(b'{"payload":"",' + content[1:])
