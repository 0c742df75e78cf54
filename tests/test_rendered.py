"""What a file was rendered from: found by its name and by rendering it again, and told where it cannot be."""

import shutil
from pathlib import Path

import grimp
import pytest
import records

import audit.rendered
from audit.commands.writing import write_page
from audit.errors import ConfigError
from audit.record import read_record, write_record
from audit.rendered import Sources, again, candidates, found_out, missing, renderer


@pytest.fixture
def run(tmp_path):
    """A run folder of the golden record with a page."""
    folder = tmp_path / "run"
    (folder / "artifacts").mkdir(parents=True)
    write_record(records.golden(folder), folder)
    write_page(folder, "technical-report", None, (), "html")
    return folder


@pytest.mark.parametrize("form", ["html", "md"])
def test_a_document_comes_out_byte_for_byte(run, form):
    path = write_page(run, "technical-report", None, (), form)
    made = found_out(read_record(run), f"reports/{path.name}", Sources(run))
    assert (made.form, made.document) == (form, "technical-report")
    assert again(read_record(run), made, Sources(run)) == path.read_bytes()


def test_a_page_that_was_edited_was_rendered_from_nothing(run):
    page = run / "reports" / "technical-report.html"
    page.write_text(page.read_text() + " ")
    with pytest.raises(ConfigError, match="is not what model-audit"):
        found_out(read_record(run), "reports/technical-report.html", Sources(run))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tool": "9.9"}, "version 9.9"),
        ({"document_sha256": "0" * 64}, "is not here as it was"),
        ({"document": "gone"}, "is not here as it was"),
        ({"attestations_sha256": "0" * 64}, "statements in it are not here"),
        ({"form": "pdf", "browser": "Lynx 1.0"}, "printed by Lynx 1.0"),
    ],
)
def test_what_is_missing_to_render_again_is_told(run, change, words):
    (made,) = candidates("reports/technical-report.html", Sources(run))
    assert missing(made, Sources(run)) == ""
    assert words in missing(type(made)(**{**vars(made), **change}), Sources(run))


def test_a_source_that_is_named_must_be_there(tmp_path):
    for given in ({"packs": (tmp_path / "absent.toml",)}, {"attestations": tmp_path / "absent.toml"}):
        with pytest.raises(ConfigError, match="does not exist"):
            Sources(tmp_path, **given)


def test_a_file_is_known_by_its_name_alone(run):
    sources = Sources(run)
    assert [made.form for made in candidates("reports/index.html", sources)] == ["index"]
    assert [made.form for made in candidates("reports/junit.xml", sources)] == ["junit"]
    assert candidates("reports/deep/index.html", sources) == ()
    assert candidates("technical-report.html", sources) == ()
    assert candidates("reports/technical-report.docx", sources) == ()
    assert found_out(read_record(run), "reports/other.html", sources) is None


def test_what_was_rendered_with_a_format_that_is_gone_is_told(run):
    (made,) = candidates("reports/junit.xml", Sources(run))
    gone = type(made)(**{**vars(made), "form": "of-a-stranger"})
    assert "is not installed" in missing(gone, Sources(run))


def of_build(folder):
    """Every file that counts towards the digest of a build, by its path in the package."""
    return {
        path.relative_to(folder).as_posix()
        for pattern in audit.rendered._CODE
        for path in folder.glob(pattern)
    }


def test_the_digest_of_a_build_covers_all_code_that_rendering_imports():
    graph = grimp.build_graph("audit")
    renders = {"audit.render", "audit.markdown", "audit.pdf", "audit.rendered"}
    renders |= {name for name in graph.modules if name.startswith("audit.formats.")}
    needed = renders.union(*(graph.find_upstream_modules(name) for name in renders))
    folder = Path(audit.rendered.__file__).parent
    files = {name.replace(".", "/").removeprefix("audit/") + ".py" for name in needed - {"audit"}}
    packages = {name for name in files if not (folder / name).is_file()}
    assert files - packages <= of_build(folder)
    assert {"page.py", "wording.py", "reliability/bins.py", "formats/junit.py"} <= files


@pytest.mark.parametrize(
    "place", ["templates/document.html.j2", "templates/sections", "reports/model-card.toml"]
)
def test_any_edited_template_or_document_is_another_build(tmp_path, monkeypatch, place):
    for name, folder in (("TEMPLATES", "templates"), ("REPORTS", "reports")):
        shutil.copytree(getattr(audit.rendered, name), tmp_path / folder)
        monkeypatch.setattr(audit.rendered, name, tmp_path / folder)
    before = renderer.__wrapped__()
    assert before == renderer.__wrapped__() == renderer()
    path = tmp_path / place
    path = next(iter(sorted(path.iterdir()))) if path.is_dir() else path
    path.write_text(path.read_text() + " ")
    assert renderer.__wrapped__() != before


def test_edited_code_is_another_build(tmp_path, monkeypatch):
    (tmp_path / "page.py").write_text("A = 1")
    (tmp_path / "checks").mkdir()
    monkeypatch.setattr(audit.rendered, "_PACKAGE", tmp_path)
    first = renderer.__wrapped__()
    (tmp_path / "checks" / "measures.py").write_text("A = 1")
    assert renderer.__wrapped__() == first
    (tmp_path / "page.py").write_text("A = 2")
    assert renderer.__wrapped__() != first
