"""Sealing: every file, every document rendered again first, and nothing signed that does not follow."""

import base64
import hashlib
import importlib
import json
import shutil

import pytest
import records

import audit.seal
from audit.attestation import FILE as STATED
from audit.commands.stated import chosen_document
from audit.commands.writing import write_page
from audit.errors import ConfigError
from audit.keys import generate, read_public
from audit.record import read_record, write_record
from audit.rendered import Rendering, browser, renderer
from audit.seal import FILE, seal
from audit.verify import verify

PACK = "test-pack.toml"


@pytest.fixture
def run(tmp_path):
    """A run folder of the golden record, with its artifact and a page."""
    folder = tmp_path / "run"
    (folder / "artifacts").mkdir(parents=True)
    write_record(records.golden(folder), folder)
    write_page(folder, chosen_document(None, None), None, (), "html")
    generate(tmp_path / "a.key")
    return folder


def stated(run):
    return json.loads(base64.b64decode(json.loads((run / FILE).read_bytes())["payload"]))


def test_the_statement_names_every_file_once(run, tmp_path):
    (run / "notes").mkdir()
    (run / "notes" / "größe 1.txt").write_text("x")
    seal(run, tmp_path / "a.key")
    statement = stated(run)
    on_disk = {path.relative_to(run).as_posix(): path for path in run.rglob("*") if path.is_file()}
    del on_disk[FILE]
    assert {item["name"]: item["digest"]["sha256"] for item in statement["subject"]} == {
        name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in on_disk.items()
    }
    assert statement["predicate"]["tree"]["size"] == len(on_disk)
    assert statement["predicate"]["signer"]["public"] == read_public(tmp_path / "a.pub").hex()
    assert not list(run.glob("*.part"))


def test_what_documents_were_made_of_is_stated(run, tmp_path):
    seal(run, tmp_path / "a.key")
    documents = {item["path"]: item for item in stated(run)["predicate"]["documents"]}
    assert set(documents) == {"reports/technical-report.html", "reports/index.html"}
    page = documents["reports/technical-report.html"]
    assert (page["document"], page["form"], page["tool"]) == ("technical-report", "html", "0.1.0")
    assert len(page["document_sha256"]) == 64


def test_a_page_that_the_record_does_not_render_to_is_not_signed(run, tmp_path):
    page = run / "reports" / "technical-report.html"
    page.write_text(page.read_text().replace("INCONCLUSIVE", "PASS"))
    with pytest.raises(ConfigError, match=r"technical-report.html is not what model-audit .* renders"):
        seal(run, tmp_path / "a.key")
    assert not (run / FILE).exists()


def test_a_run_is_signed_twice_only_when_asked(run, tmp_path):
    seal(run, tmp_path / "a.key")
    with pytest.raises(ConfigError, match="--force signs it again"):
        seal(run, tmp_path / "a.key")
    (run / "late").write_text("x")
    seal(run, tmp_path / "a.key", replace=True)
    assert verify(run, tmp_path / "a.pub").of("wrong") == ()


def test_a_link_is_not_signed(run, tmp_path):
    (run / "link").symlink_to(run / "record.json")
    with pytest.raises(ConfigError, match="link or no plain file"):
        seal(run, tmp_path / "a.key")


def test_a_folder_without_a_run_is_told(tmp_path, run):
    with pytest.raises(ConfigError, match="not a run folder"):
        seal(tmp_path / "absent", tmp_path / "a.key")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="a run folder holds a record"):
        seal(tmp_path / "empty", tmp_path / "a.key")


def test_a_document_of_ones_own_is_rendered_again_where_it_is_named(run, tmp_path):
    pack = tmp_path / PACK
    shutil.copy(f"tests/golden/{PACK}", pack)
    write_page(run, pack, None, (), "html")
    seal(run, tmp_path / "a.key", packs=[pack])
    given = verify(run, tmp_path / "a.pub", packs=[pack])
    assert given.exit_code == 0
    absent = verify(run, tmp_path / "a.pub")
    assert absent.exit_code == 2
    assert [item.where for item in absent.of("open")] == ["reports/test-pack.html"]
    pack.write_text(pack.read_text() + "\n# changed\n")
    assert verify(run, tmp_path / "a.pub", packs=[pack]).exit_code == 2


def test_statements_of_people_go_into_the_proof(run, tmp_path):
    from audit.attestation import read_attestations
    from audit.coverage import open_items
    from audit.document import installed_documents, read_document

    document = read_document("eu-ai-act-annex-iv")
    ((_, clauses), *_) = open_items(read_record(run), [document], ())
    said = f'document = "{document.name}"\nclause = "{clauses[0].id}"\ntext = "Yes."\n'
    path = tmp_path / STATED
    path.write_text(f'[[attestations]]\n{said}name = "Ann"\nrole = "owner"\ndate = 2026-11-20\n')
    write_page(run, document.name, None, read_attestations(path, installed_documents()), "html")
    seal(run, tmp_path / "a.key")
    (made,) = (item for item in stated(run)["predicate"]["documents"] if item["document"] == document.name)
    assert made["attestations_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert verify(run, tmp_path / "a.pub").exit_code == 0
    path.write_text(path.read_text().replace("Yes.", "No."))
    later = verify(run, tmp_path / "a.pub")
    assert later.exit_code == 2
    assert "statements in it are not here as they were" in later.of("open")[0].text


def test_a_file_of_another_name_is_hashed_and_told(run, tmp_path):
    (run / "reports" / "remarks.txt").write_text("mine")
    seal(run, tmp_path / "a.key")
    proof = verify(run, tmp_path / "a.pub")
    assert proof.exit_code == 0
    assert any("remarks.txt" in item.text for item in proof.of("noted"))


def test_a_pdf_that_was_not_printed_again_when_it_was_signed_stays_open(run, tmp_path, monkeypatch):
    (run / "reports" / "technical-report.pdf").write_bytes(b"%PDF-1.7 the audit says PASS")
    monkeypatch.setattr("audit.rendered.browser", lambda: "")
    seal(run, tmp_path / "a.key")
    proof = verify(run, tmp_path / "a.pub")
    assert proof.exit_code == 2
    assert [(item.where, "may say anything" in item.text) for item in proof.of("open")] == [
        ("reports/technical-report.pdf", True)
    ]


@pytest.fixture
def edited_templates(tmp_path, monkeypatch):
    """The tool of the same version with one word of its page changed, as a later build has it."""
    page, rendered = (importlib.import_module(f"audit.{name}") for name in ("render", "rendered"))
    shutil.copytree(rendered.TEMPLATES, tmp_path / "templates")
    template = tmp_path / "templates" / "document.html.j2"
    template.write_text(template.read_text().replace("<main", "<main data-later", 1))
    for module in (page, rendered):
        monkeypatch.setattr(module, "TEMPLATES", tmp_path / "templates")
    clear(page)
    yield template
    clear(page)


def clear(page):
    renderer.cache_clear()
    page._environment.cache_clear()


def test_the_seal_names_the_build_that_rendered(run, tmp_path):
    seal(run, tmp_path / "a.key")
    assert stated(run)["predicate"]["renderer"] == renderer()


def test_a_document_of_another_build_of_the_same_version_is_not_taken_for_an_edited_one(
    run, tmp_path, request
):
    seal(run, tmp_path / "a.key")
    before = renderer()
    request.getfixturevalue("edited_templates")
    assert renderer() != before
    proof = verify(run, tmp_path / "a.pub")
    assert (proof.exit_code, proof.of("wrong")) == (2, ())
    (item,) = (item for item in proof.of("open") if item.where == "reports/technical-report.html")
    assert before[:12] in item.text
    assert renderer()[:12] in item.text
    assert "was not compared" in item.text
    # What comes out the same under both builds is proved all the same.
    assert any(item.text.startswith("1 document came out") for item in proof.of("proved"))


def test_a_document_edited_after_signing_is_wrong_under_another_build_too(run, tmp_path, request):
    seal(run, tmp_path / "a.key")
    request.getfixturevalue("edited_templates")
    page = run / "reports" / "technical-report.html"
    page.write_text(page.read_text().replace("INCONCLUSIVE", "PASS"))
    proof = verify(run, tmp_path / "a.pub")
    assert proof.exit_code == 1
    assert {(item.what, item.where) for item in proof.of("wrong")} == {
        ("files", "reports/technical-report.html")
    }


def test_a_seal_of_before_builds_were_named_is_held_to_as_ever(run, tmp_path, monkeypatch, request):
    monkeypatch.setattr("audit.seal._statement", without_build(audit.seal._statement))
    seal(run, tmp_path / "a.key")
    assert "renderer" not in stated(run)["predicate"]
    assert verify(run, tmp_path / "a.pub").exit_code == 0
    request.getfixturevalue("edited_templates")
    proof = verify(run, tmp_path / "a.pub")
    assert [item.where for item in proof.of("wrong")] == ["reports/technical-report.html"]


def without_build(statement):
    def older(*given):
        made = statement(*given)
        del made["predicate"]["renderer"]
        return made

    return older


def test_a_page_signed_as_something_else_stays_wrong_under_another_build(run, tmp_path, monkeypatch, request):
    made = Rendering(path="reports/technical-report.html", form="pdf", document="technical-report",
                     browser="Lynx 1.0")  # fmt: skip
    monkeypatch.setattr("audit.seal.found_out", lambda *_: made)
    seal(run, tmp_path / "a.key")
    request.getfixturevalue("edited_templates")
    assert made.path in [item.where for item in verify(run, tmp_path / "a.pub").of("wrong")]


@pytest.mark.parametrize("form", ["pdf", "md", "index", "badge"])
def test_a_page_cannot_be_signed_as_something_else(run, tmp_path, monkeypatch, form):
    """A signer's own program could call an edited page a PDF, of which fewer things are asked."""
    page = run / "reports" / "technical-report.html"
    page.write_text(page.read_text() + " ")
    made = Rendering(path="reports/technical-report.html", form=form, document="technical-report",
                     browser="Lynx 1.0")  # fmt: skip
    monkeypatch.setattr("audit.seal.found_out", lambda *_: made)
    seal(run, tmp_path / "a.key")
    proof = verify(run, tmp_path / "a.pub")
    assert proof.exit_code == 1
    assert (made.path, f"the seal says that it was rendered as '{form}'.") in [
        (item.where, item.text) for item in proof.of("wrong")
    ]


@pytest.mark.slow
@pytest.mark.browser
def test_a_pdf_is_printed_again_where_the_same_browser_is(run, tmp_path, monkeypatch):
    if not browser():
        pytest.skip("no Chromium here")
    write_page(run, chosen_document(None, None), None, (), "pdf")
    seal(run, tmp_path / "a.key")
    (made,) = (item for item in stated(run)["predicate"]["documents"] if item["form"] == "pdf")
    assert made["browser"] == browser()
    assert made["paper"] == "A4"
    proof = verify(run, tmp_path / "a.pub")
    assert proof.exit_code == 0
    assert any(item.text.startswith("3 documents came out") for item in proof.of("proved"))
    monkeypatch.setattr("audit.rendered.browser", lambda: "")
    elsewhere = verify(run, tmp_path / "a.pub")
    assert elsewhere.exit_code == 0
    assert any("only hashed: it was printed by" in item.text for item in elsewhere.of("noted"))
