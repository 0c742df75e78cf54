"""Render: a record as one page of HTML that needs nothing else.

A pure function of the record and its artifacts. The page is made by the templates; here they are given
what they ask for, and every text of the record is made visible and escaped on its way in.
"""

import base64
import hashlib
import re
from collections.abc import Sequence
from functools import cache
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from audit import numbers, wording
from audit.attestation import Attestation
from audit.changes import comparison_of
from audit.coverage import STATUS_WORDS, Status
from audit.document import read_document
from audit.judge import judge
from audit.page import GRAVEST_FIRST, Page, page_of
from audit.policy import Verdict
from audit.record import Outcome, Record
from audit.resources import TEMPLATES
from audit.wording import LongTexts, markup, shown

if TYPE_CHECKING:
    from jinja2 import Environment

_FILTERS = (
    "calendar", "condition", "count", "day", "exactly", "facts", "interval", "limit_in_words", "number",
    "prose", "roughly", "sentence", "setting", "short", "slug", "words",
)  # fmt: skip


def render(
    record: Record,
    document: str | Path = "technical-report",
    *,
    artifacts: Path | None = None,
    attestations: Sequence[Attestation] = (),
) -> str:
    """One self-contained HTML page of a record: no request, the same bytes every time.

    Its one script filters and sorts what the page already shows; nothing is missing without it.

    Args:
        record: what to show.
        document: name of an installed document, or the path of one's own.
        artifacts: the run folder, where the pictures' arrays are found; each is checked against its
            sha256, and a sentence stands in place of a picture that is missing or was altered.
        attestations: what people stated; those for other documents are left aside.

    Raises:
        ConfigError: no such document, or one that names a check or a measure that there is not.
    """
    page = page_of(record, document, artifacts=artifacts, attestations=attestations)
    return _page(
        "document.html.j2",
        most=_BRIEF if page.is_single else None,
        page=page,
        record=page.record,
        document=page.document,
        script=markup(_script()),
        script_hash=_hash(_script()),
    )


def render_index(entries: Sequence[tuple[str, str, Outcome, str]]) -> str:
    """One page that leads to several reports.

    Args:
        entries: title, relative address of the report, outcome and a sentence or two, for each.
    """
    safe = [(title, _relative(href), outcome, summary) for title, href, outcome, summary in entries]
    return _page("index.html.j2", entries=safe)


def render_contents(record: Record, entries: Sequence[tuple[str, str, str]]) -> str:
    """One page that leads to the documents of one run.

    Args:
        record: the run.
        entries: title, relative address and a sentence or two, for each document.
    """
    safe = [(title, _relative(href), about) for title, href, about in entries]
    derived = judge(record)
    name = Page(record=derived, document=read_document("technical-report")).name
    return _page("run.html.j2", record=derived, name=name, entries=safe)


def render_comparison(record: Record) -> str:
    """One page on what changed between a run and its baseline.

    Args:
        record: a record with a baseline, from `audit.compare`.
    """
    return _page("comparison.html.j2", record=record, comparison=comparison_of(record))


_TITLE = re.compile(r"<title>(.*?)</title>", re.DOTALL)
_ABOUT = re.compile(r'<meta name="description" content="([^"]*)">')
_DASH = f" {wording.NONE} "
_HEAD_LENGTH = 40_000
_BRIEF = 240


def rendered_beside(folder: Path) -> list[tuple[str, str, str]]:
    """Title, file name and purpose of every document that lies in a folder, by what its own page says."""
    paths = [path for path in sorted(folder.glob("*.html")) if path.is_file() and path.name != "index.html"]
    return [_told_by(path) for path in paths]


def _told_by(path: Path) -> tuple[str, str, str]:
    with path.open(encoding="utf-8", errors="replace") as file:
        head = file.read(_HEAD_LENGTH)
    title, about = _TITLE.search(head), _ABOUT.search(head)
    name = unescape(title[1]).rpartition(_DASH)[2] if title else path.stem
    return name, quote(path.name), unescape(about[1]) if about else ""


def _page(template: str, most: int | None = None, **given: Any) -> str:
    cut = LongTexts(most)
    style = _style()
    return (
        _environment()
        .get_template(template)
        .render(**given, clip=cut.clip, long_texts=cut, style=markup(style), style_hash=_hash(style))
    )


def _hash(text: str) -> str:
    """What a page's policy lets in: this text and no other."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=shown,
    )
    environment.filters.update({name: getattr(wording, name) for name in _FILTERS})
    environment.filters.update(told=numbers.value_in_words, told_between=numbers.interval_in_words)
    environment.globals.update(
        Verdict=Verdict,
        verdict_words=wording.VERDICT_WORDS,
        finding_words=wording.FINDING_WORDS,
        gravest_first=GRAVEST_FIRST,
        Status=Status,
        status_words=STATUS_WORDS,
    )
    return environment


@cache
def _style() -> str:
    return _inside("style.css")


@cache
def _script() -> str:
    return _inside("script.js")


def _inside(name: str) -> str:
    """A file as it can stand within an element of a page, the same on every system."""
    return (TEMPLATES / name).read_text(encoding="utf-8").replace("\r\n", "\n").replace("</", "<\\/")


def _relative(href: str) -> str:
    """An address that stays among files or on the web; anything else (`javascript:`) becomes empty."""
    return href if urlsplit(href).scheme in ("", "http", "https") else ""
