"""Files: each that changed, came or went is named."""

import hashlib

import pytest

from audit.proof.files import files, listing, sha256_of, tree_root


@pytest.fixture
def folder(tmp_path):
    for name, content in (("record.json", b"{}"), ("reports/a.html", b"a"), ("seal.json", b"seal")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


def sealed(folder):
    hashes = {name: sha256_of(folder / name) for name in ("record.json", "reports/a.html")}
    return hashes, tree_root(sorted(hashes.items())).hex()


def test_untouched_files_are_proved_and_the_seal_is_none_of_them(folder):
    (item,) = files(folder, *sealed(folder))
    assert item.kind == "proved"
    assert "2 files: each" in item.text


def test_every_change_is_named_once(folder):
    hashes, root = sealed(folder)
    (folder / "record.json").write_bytes(b"[]")
    (folder / "reports" / "a.html").unlink()
    (folder / "new").write_bytes(b"")
    found = list(files(folder, hashes, root))
    assert {(item.kind, item.where) for item in found} == {
        ("wrong", "record.json"), ("wrong", "reports/a.html"), ("wrong", "new")
    }  # fmt: skip


def test_a_root_of_other_files_is_wrong(folder):
    hashes, _ = sealed(folder)
    (item,) = files(folder, hashes, "0" * 64)
    assert (item.kind, item.where) == ("wrong", "seal.json")


def test_links_and_pipes_are_listed_apart(folder):
    (folder / "link").symlink_to(folder / "record.json")
    (folder / "reports" / "loop").symlink_to(folder)
    plain, others = listing(folder)
    assert plain == ["record.json", "reports/a.html", "seal.json"]
    assert others == ["link", "reports/loop"]


def test_a_large_file_is_hashed_in_pieces(tmp_path):
    content = bytes(range(256)) * 10_000
    (tmp_path / "x").write_bytes(content)
    assert sha256_of(tmp_path / "x") == hashlib.sha256(content).hexdigest()
