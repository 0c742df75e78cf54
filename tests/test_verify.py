"""Tampering with a real signed run, every kind of byte of it, and what an attacker without the key can do."""

import base64
import json
import random
import shutil
import sys

import pytest
import signed

import audit
from audit.errors import ConfigError, LoadError
from audit.judge import judge
from audit.keys import generate
from audit.policy import Limit, Policy
from audit.record import canonical, read_record, write_record
from audit.seal import seal

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
FLIPS = 200
NOTHING = [b"", b"{}", b"[]", b"null", b"\xff", b'{"a":NaN}', b"[" * 100_000, b"1" * 400]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return signed.make(tmp_path_factory.mktemp("signed"))


@pytest.fixture
def folder(whole, tmp_path):
    """A copy to be tampered with."""
    shutil.copytree(whole / "run", tmp_path / "run")
    return tmp_path / "run"


def wrong(folder, whole, **given):
    proof = audit.verify(folder, whole / "a.pub", **given)
    assert proof.exit_code == 1
    return proof.of("wrong")


def edit(path, change):
    """Change the value of a JSON file and leave it canonical."""
    value = json.loads(path.read_bytes())
    change(value)
    path.write_bytes(canonical(value))


def test_a_signed_run_is_proved_with_model_and_data(whole):
    proof = audit.verify(whole / "run", whole / "a.pub", model=whole / "m.safetensors", data=whole / "d.npz")
    assert proof.exit_code == 0, [str(item) for item in proof.of("open") + proof.of("wrong")]
    proved = {item.what for item in proof.of("proved")}
    assert {"signature", "files", "record", "artifacts", "journal", "policy", "numbers", "verdicts",
            "documents", "model", "data"} == proved  # fmt: skip
    assert any("true" in item.text for item in proof.of("noted"))
    assert any("code of digits_factory:build" in item.text for item in proof.of("noted"))


def test_the_documents_are_really_rendered_again(whole):
    said = next(item for item in audit.verify(whole / "run").statements if item.what == "documents")
    assert said.kind == "proved"
    assert int(said.text.split()[0]) >= 5  # page, contents, Markdown, JUnit, SARIF


def test_without_a_key_origin_is_open(whole):
    proof = audit.verify(whole / "run")
    assert proof.exit_code == 2
    (item,) = proof.of("open")
    assert "whose key" in item.text
    assert item.where == "seal.json"


def test_an_unsigned_run_is_derived_again_and_open(folder):
    (folder / "seal.json").unlink()
    proof = audit.verify(folder)
    assert proof.exit_code == 2
    assert "not signed" in proof.of("open")[0].text
    assert {"numbers", "verdicts", "documents", "artifacts"} <= {item.what for item in proof.of("proved")}


def test_a_seal_that_was_taken_away_is_missed_by_who_expects_one(folder, whole):
    (folder / "seal.json").unlink()
    assert wrong(folder, whole)[0].where == "seal.json"


def value(record):
    record["findings"][0]["measures"][0]["value"] += 1e-6


def verdict(record):
    record["verdict"]["verdict"] = "PASS"


def judgement(record):
    finding = next(item for item in record["findings"] if item["verdicts"])
    finding["verdicts"][0]["verdict"] = "INCONCLUSIVE"


def limit(record):
    record["policy"]["limits"][0]["at_least"] = 0.01


def count(record):
    record["findings"][0]["measures"][0]["statistics"]["x"] += 1


def exit_code(record):
    record["verdict"]["exit_code"] = 0


def leniency(record):
    record["policy"]["on_inconclusive"] = "pass"


def doubt(record):
    record["findings"][1]["doubts"] = [{"checks": [], "measures": [], "reason": ""}]


EDITS = {
    value: "#/findings/0/measures/0/value",
    verdict: "#/verdict/verdict",
    judgement: "/verdicts/0/verdict",
    limit: "/verdicts/0/at_least",
    count: "#/findings/0/measures/0/value",
    exit_code: "#/verdict/exit_code",
}


@pytest.mark.parametrize("change", [*EDITS, leniency, doubt])
def test_an_edited_record_is_named_as_the_file_that_changed(folder, whole, change):
    edit(folder / "record.json", change)
    assert ("files", "record.json") in [(item.what, item.where) for item in wrong(folder, whole)]


@pytest.mark.parametrize(("change", "where"), EDITS.items())
def test_an_edit_of_an_unsigned_record_is_found_by_deriving_it(folder, change, where):
    (folder / "seal.json").unlink()
    edit(folder / "record.json", change)
    proof = audit.verify(folder)
    assert proof.exit_code == 1
    assert any(where in item.where for item in proof.of("wrong") if item.what in ("numbers", "verdicts"))


def test_a_finding_that_the_journal_tells_otherwise_is_named(folder):
    (folder / "seal.json").unlink()
    edit(folder / "record.json", doubt)
    found = [item for item in audit.verify(folder).of("wrong") if item.what == "journal"]
    assert found[0].where == "record.json#/findings/1/doubts"


def test_a_whole_lie_in_an_unsigned_record_is_found_in_the_journal(folder):
    """Counts, value, interval and verdicts changed together, and every document rendered again."""
    (folder / "seal.json").unlink()
    record = read_record(folder)
    first = record.findings[0]
    lied = audit.proportion("accuracy", 120, 120)
    others = tuple(item for item in first.measures if item.name != "accuracy")
    findings = (
        type(first)(**{**vars(first), "measures": (lied, *others)}),
        *record.findings[1:],
    )
    write_record(judge(type(record)(**{**vars(record), "findings": findings})), folder)
    signed.documented(folder)
    proof = audit.verify(folder)
    assert {item.what for item in proof.of("wrong")} == {"journal"}


def flip(path, place=None):
    content = bytearray(path.read_bytes())
    place = len(content) // 2 if place is None else place
    content[place] ^= 1
    path.write_bytes(content)


FILES = (
    "record.json",
    "journal.jsonl",
    "artifacts/interpretability.saliency.npz",
    "reports/technical-report.html",
    "reports/technical-report.md",
    "reports/index.html",
    "reports/junit.xml",
    "reports/audit.sarif",
    "reports/badge.svg",
)


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_bit_of_any_file_is_named(folder, whole, name):
    flip(folder / name)
    assert ("files", name) in [(item.what, item.where) for item in wrong(folder, whole)]


def test_the_badge_cannot_say_another_word(folder, whole):
    badge = folder / "reports" / "badge.svg"
    badge.write_text(badge.read_text().replace("FAIL", "PASS"))
    assert wrong(folder, whole)[0].where == "reports/badge.svg"


def test_an_altered_artifact_of_an_unsigned_run_is_named(folder):
    (folder / "seal.json").unlink()
    flip(folder / FILES[2])
    assert FILES[2] in [item.where for item in audit.verify(folder).of("wrong")]


def test_a_swapped_page_of_an_unsigned_run_is_named(folder):
    (folder / "seal.json").unlink()
    page = folder / "reports" / "technical-report.html"
    page.write_text(page.read_text().replace("FAIL", "PASS"))
    assert ("documents", "reports/technical-report.html") in [
        (item.what, item.where) for item in audit.verify(folder).of("wrong")
    ]


@pytest.mark.parametrize("name", FILES)
def test_a_file_removed_is_named(folder, whole, name):
    (folder / name).unlink()
    assert ("files", name) in [(item.what, item.where) for item in wrong(folder, whole)]


@pytest.mark.parametrize("name", ["reports/other.html", "artifacts/more/x.npz", ".hidden", "seal.json.bak"])
def test_a_file_added_is_named(folder, whole, name):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("x")
    assert ("files", name) in [(item.what, item.where) for item in wrong(folder, whole)]


def test_a_file_made_a_link_is_named(folder, whole, tmp_path):
    outside = tmp_path / "record.json"
    shutil.move(folder / "record.json", outside)
    (folder / "record.json").symlink_to(outside)
    assert ("files", "record.json") in [(item.what, item.where) for item in wrong(folder, whole)]


def test_two_files_that_changed_names_are_both_named(folder, whole):
    reports = folder / "reports"
    (reports / "junit.xml").rename(reports / "x")
    (reports / "audit.sarif").rename(reports / "junit.xml")
    assert {"reports/x", "reports/audit.sarif", "reports/junit.xml"} <= {
        item.where for item in wrong(folder, whole)
    }


def test_recomputed_hashes_without_the_key_break_the_signature(folder, whole):
    """The record is edited, and the unsigned parts of the seal are made to fit."""
    edit(folder / "record.json", limit)
    write_record(judge(read_record(folder)), folder)
    signed.documented(folder)
    other = folder.parent / "other"
    shutil.copytree(folder, other)
    generate(folder.parent / "b.key")
    seal(other, folder.parent / "b.key", replace=True)
    forged, honest = (json.loads((place / "seal.json").read_bytes()) for place in (other, folder))
    statement = json.loads(base64.b64decode(forged["payload"]))
    statement["predicate"]["signer"] = json.loads(base64.b64decode(honest["payload"]))["predicate"]["signer"]
    honest["payload"] = base64.b64encode(canonical(statement)).decode()
    (folder / "seal.json").write_bytes(canonical(honest))
    found = wrong(folder, whole)
    assert (found[0].what, found[0].where) == ("signature", "seal.json")
    assert "does not hold" in found[0].text


def test_signing_again_with_another_key_is_told_by_the_expected_one(folder, whole):
    """The policy is relaxed, judged, rendered and signed anew: only the key and the journal tell."""
    record = read_record(folder)
    lenient = Policy(limits=(Limit(check="performance.accuracy", measure="accuracy", at_least=0.01),))
    write_record(judge(record, lenient), folder)
    signed.documented(folder)
    generate(folder.parent / "b.key")
    seal(folder, folder.parent / "b.key", replace=True)
    assert "not by that of" in wrong(folder, whole)[0].text
    proof = audit.verify(folder, folder.parent / "b.pub")
    assert proof.exit_code == 2
    assert [item.what for item in proof.of("open")] == ["policy"]
    assert "another policy" in proof.of("open")[0].text


def test_200_random_flips_are_all_caught(folder, whole):
    """Uniform over the bytes of a random file, so that the small files and the seal have their share."""
    random_ = random.Random(7)  # noqa: S311 - a seed, not a secret
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    hit = set()
    for _ in range(FLIPS):
        path = random_.choice(paths)
        content = path.read_bytes()
        place = random_.randrange(len(content))
        changed = bytearray(content)
        changed[place] ^= 1 << random_.randrange(8)
        path.write_bytes(changed)
        proof = audit.verify(folder, whole / "a.pub", first=True)
        path.write_bytes(content)
        assert proof.exit_code == 1, (path, place)
        name = path.relative_to(folder).as_posix()
        assert proof.statements[-1].where.startswith(name), (path, place)
        hit.add(name)
    assert hit == {path.relative_to(folder).as_posix() for path in paths}
    assert audit.verify(folder, whole / "a.pub").exit_code == 0


def test_every_byte_of_the_seal_counts(folder, whole):
    """No byte of the envelope can be changed: not its base64 padding, not the name of its key."""
    content = (folder / "seal.json").read_bytes()
    for place in range(0, len(content), 19):
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        (folder / "seal.json").write_bytes(changed)
        proof = audit.verify(folder, whole / "a.pub", first=True)
        assert proof.exit_code == 1, place
        assert proof.statements[-1].where == "seal.json"


@pytest.mark.parametrize("content", NOTHING)
@pytest.mark.parametrize("name", ["record.json", "seal.json", "journal.jsonl"])
def test_a_file_that_is_nothing_is_wrong_and_no_crash(folder, whole, name, content):
    (folder / name).write_bytes(content)
    assert name in {item.where.partition(":")[0] for item in wrong(folder, whole)}


def strip(record):
    record["findings"][0].pop("measures")


def twist(record):
    record["findings"] = {"a": 1}


def huge(record):
    record["findings"][0]["measures"][0]["statistics"]["n"] = "many"


def deep(record):
    record["findings"][0]["measures"][0]["statistics"] = None


def climb(record):
    record["findings"][1]["artifacts"][0]["path"] = "../../../etc/passwd"


@pytest.mark.parametrize("change", [strip, twist, huge, deep, climb])
def test_a_record_of_another_form_is_wrong_and_no_crash(folder, change):
    (folder / "seal.json").unlink()
    edit(folder / "record.json", change)
    assert audit.verify(folder).exit_code == 1


def test_another_model_and_other_data_are_told(whole, tmp_path):
    shutil.copy(whole / "m.safetensors", tmp_path / "m")
    shutil.copy(whole / "d.npz", tmp_path / "d.npz")
    flip(tmp_path / "m")
    flip(tmp_path / "d.npz")
    found = wrong(whole / "run", whole, model=tmp_path / "m", data=tmp_path / "d.npz")
    assert {item.what: item.where for item in found} == {
        "model": str(tmp_path / "m"),
        "data": str(tmp_path / "d.npz"),
    }


def test_rows_that_were_read_otherwise_are_told(folder, whole):
    (folder / "seal.json").unlink()

    def other(record):
        record["data"]["fingerprint"] = "0" * 64

    edit(folder / "record.json", other)
    found = audit.verify(folder, data=whole / "d.npz").of("wrong")
    assert "data" in {item.what for item in found}


def test_a_document_of_another_version_is_hashed_and_open(folder, whole, monkeypatch):
    from audit import rendered

    monkeypatch.setattr(rendered, "tool", lambda: {"name": "model-audit", "version": "9.9"})
    proof = audit.verify(folder, whole / "a.pub")
    assert proof.exit_code == 2
    assert all("version 0.1.0" in item.text and item.what == "documents" for item in proof.of("open"))
    flip(folder / "reports" / "technical-report.html")
    assert ("files", "reports/technical-report.html") in [
        (item.what, item.where) for item in wrong(folder, whole)
    ]


def test_what_cannot_be_looked_at_is_one_sentence(whole, tmp_path):
    with pytest.raises(ConfigError, match="not a run folder"):
        audit.verify(tmp_path)
    with pytest.raises(ConfigError, match="cannot be read"):
        audit.verify(whole / "run", tmp_path / "absent.pub")
    with pytest.raises(ConfigError, match="is a private key"):
        audit.verify(whole / "run", whole / "a.key")
    with pytest.raises(LoadError, match="does not exist"):
        audit.verify(whole / "run", model=tmp_path / "absent")


def test_without_the_extra_a_signed_run_asks_for_it(whole, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(ConfigError, match=r"model-audit\[sign\]"):
        audit.verify(whole / "run")
