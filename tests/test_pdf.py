"""The PDF is the page on paper: tagged, outlined, numbered, the same bytes for the same record."""

import os
import re
import runpy
import shutil
import zlib
from pathlib import Path

import pytest
import records

from audit.errors import ConfigError
from audit.pdf import Paper, find_browser, pdf
from audit.render import render

BUILD = runpy.run_path(str(Path(__file__).parent / "golden" / "builder.py"))["build"]
STREAM = rb"stream\r?\n(.*?)\r?\nendstream"
PAGE = re.compile(rb"/Type\s*/Page[^s]")


@pytest.fixture(scope="module")
def browser() -> str:
    try:
        return find_browser()
    except ConfigError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{error}, and CI must not do without")
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("run")
    return render(BUILD(folder), "executive-summary", artifacts=folder)


@pytest.mark.browser
def test_the_pdf_is_tagged_outlined_and_dated_by_the_record(browser: str, page: str) -> None:
    document = pdf(page, "2026-11-20T10:15:31+01:00")
    assert document.startswith(b"%PDF-1.")
    assert document.rstrip().endswith(b"%%EOF")
    assert b"/Marked true" in document
    assert b"/StructTreeRoot" in document
    assert b"/Outlines" in document
    assert b"/Lang (en)" in document
    assert len(PAGE.findall(document)) == 1
    assert re.search(rb"/MediaBox \[0 0 59[45]\S* 84[12]\S*\]", document), "A4"
    assert document.count(b"(D:20261120091531+00'00')") == 2
    assert "FAIL: lesion_cnn.pt2" in titles(document), "the title of the file is the verdict"
    assert "Summary" in titles(document).splitlines(), "the outline"


def titles(document: bytes) -> str:
    """The titles of the file and of its outline, on lines; a text beyond Latin is UTF-16 in hexadecimal."""
    plain = re.findall(rb"/Title \(([^)]*)\)", document)
    wide = re.findall(rb"/Title <([0-9A-F]+)>", document, re.IGNORECASE)
    texts = [title.decode("latin-1") for title in plain]
    return "\n".join(texts + [bytes.fromhex(title.decode()).decode("utf-16") for title in wide])


@pytest.mark.browser
def test_the_same_page_gives_the_same_bytes(browser: str, page: str) -> None:
    first = pdf(page, "2026-11-20T09:15:31+00:00")
    assert first == pdf(page, "2026-11-20T09:15:31+00:00")
    undated = pdf(page)
    assert b"(D:19700101000000+00'00')" in undated
    assert len(undated) == len(first)


SIZES = {"A4": rb"/MediaBox \[0 0 59[45]\S* 84[12]\S*\]", "Letter": rb"/MediaBox \[0 0 612 792\]"}


@pytest.mark.browser
@pytest.mark.parametrize("paper", SIZES)
def test_every_sheet_has_the_size_that_was_asked_for_and_its_number(
    browser: str, tmp_path: Path, paper: Paper
) -> None:
    """A number at the foot is text beyond the page: a sheet with nothing but it has glyphs."""
    long = render(BUILD(tmp_path), artifacts=tmp_path)
    document = pdf(long, paper=paper)
    sheets = len(PAGE.findall(document))
    assert 4 < sheets < 40
    assert len(re.findall(SIZES[paper], document)) == sheets
    rule = re.search(r"@bottom-right \{[^}]*\}", long)
    assert rule is not None
    bare = (
        f"<!doctype html><head><title>t</title><style>@page {{ margin: 20mm; {rule[0]} }}</style></head><p>"
    )
    plain = bare.replace(rule[0], "")
    assert drawn(pdf(bare, paper=paper)) > drawn(pdf(plain, paper=paper)) == 0


@pytest.mark.browser
def test_a_hostile_record_becomes_a_pdf_without_actions(browser: str) -> None:
    """Nothing that a reader's program would run, open or fetch."""
    text = " ".join(records.HOSTILE[:-3])
    document = pdf(render(records.hostile(text), "technical-report"))
    whole = document + b"".join(map(unpacked, re.findall(STREAM, document, re.DOTALL)))
    for word in (b"/JavaScript", b"/JS ", b"/Launch", b"/URI", b"/EmbeddedFile", b"/SubmitForm"):
        assert word not in whole, word
    assert len(PAGE.findall(document)) > 1


def drawn(document: bytes) -> int:
    """How many times the sheets show glyphs."""
    streams = re.findall(STREAM, document, re.DOTALL)
    return sum(len(re.findall(rb"> ?T[jJ]|\] ?TJ", unpacked(stream))) for stream in streams)


def unpacked(stream: bytes) -> bytes:
    try:
        return zlib.decompress(stream)
    except zlib.error:
        return b""


def test_without_a_browser_it_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"--format pdf needs Chromium, and PATH holds none of chromium"):
        pdf("<p>")


def test_a_browser_that_does_not_print_is_named_with_its_last_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    false = tmp_path / "chromium"
    false.write_text(f"#!{shutil.which('sh')}\necho first >&2\necho 'no display' >&2\nexit 7\n")
    false.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        ConfigError, match="did not print the page: it ended with code 7 and said 'no display'"
    ):
        pdf("<p>")


def test_no_path_of_this_machine_gets_onto_a_sheet(page):
    assert 'href="technical-report.html#' in page
    found = pdf(page)
    assert b"file:" not in found
    assert b"/page.html" not in found
