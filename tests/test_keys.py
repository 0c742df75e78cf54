"""Keys: only their owner reads them, none is overwritten, and what is no key is told in one sentence."""

import hashlib
import os
import stat

import pytest
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec

from audit.errors import ConfigError
from audit.keys import PASSPHRASE, generate, key_id, raw, read_private, read_public


@pytest.fixture(autouse=True)
def _no_phrase(monkeypatch):
    monkeypatch.delenv(PASSPHRASE, raising=False)


def test_a_pair_belongs_together_and_is_named_by_its_public_half(tmp_path):
    private, public, name = generate(tmp_path / "a.key")
    key = read_private(private)
    assert raw(key.public_key()) == read_public(public)
    assert name == key_id(read_public(public)) == hashlib.sha256(read_public(public)).hexdigest()
    assert len(read_public(public)) == 32


def test_only_the_owner_reads_the_private_key_whatever_the_mask(tmp_path):
    before = os.umask(0)
    try:
        private, public, _ = generate(tmp_path / "deep" / "a.key")
    finally:
        os.umask(before)
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert stat.S_IMODE(public.stat().st_mode) == 0o644


@pytest.mark.parametrize("name", ["a.key", "a.pub"])
def test_no_key_is_overwritten(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ConfigError, match="never overwritten"):
        generate(tmp_path / "a.key")
    assert (tmp_path / name).read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_private_key_is_not_named_like_a_public_one(tmp_path):
    with pytest.raises(ConfigError, match="name the private one"):
        generate(tmp_path / "a.pub")


def test_a_passphrase_encrypts_and_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv(PASSPHRASE, "open sesame")
    private, public, _ = generate(tmp_path / "a.key")
    assert b"ENCRYPTED" in private.read_bytes()
    assert raw(read_private(private).public_key()) == read_public(public)
    monkeypatch.setenv(PASSPHRASE, "open barley")
    with pytest.raises(ConfigError, match="passphrase is wrong"):
        read_private(private)
    monkeypatch.delenv(PASSPHRASE)
    with pytest.raises(ConfigError, match=f"set {PASSPHRASE}"):
        read_private(private)


def test_a_passphrase_that_is_not_needed_does_no_harm(tmp_path, monkeypatch):
    private, _, _ = generate(tmp_path / "a.key")
    monkeypatch.setenv(PASSPHRASE, "unneeded")
    assert read_private(private)


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_what_is_no_key_is_one_sentence(tmp_path, content):
    path = tmp_path / "a.key"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="cannot be read as a private key"):
        read_private(path)
    with pytest.raises(ConfigError, match="public"):
        read_public(path)


def test_a_key_of_another_kind_is_refused(tmp_path):
    other = ec.generate_private_key(ec.SECP256R1())
    private, public = tmp_path / "a.key", tmp_path / "a.pub"
    private.write_bytes(other.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()))
    public.write_bytes(
        other.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    )
    for read, path in ((read_private, private), (read_public, public)):
        with pytest.raises(ConfigError, match="must be an ed25519 key"):
            read(path)


def test_files_that_cannot_be_read_or_written_are_one_sentence(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_public(tmp_path / "absent.pub")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        generate(tmp_path / "file" / "a.key")
