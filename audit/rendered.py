"""Rendered: which record, document and statements a file of `reports/` was made from, and making it again.

The same record, document, statements and version give the same bytes, so a page that shows anything else
than its record is found by rendering it again.
"""

import hashlib
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from audit.attestation import Attestation, attestations_beside, read_attestations
from audit.document import installed_documents, read_document
from audit.environment import tool
from audit.errors import AuditError, ConfigError
from audit.record import Record, canonical
from audit.resources import REPORTS, TEMPLATES

FOLDER = "reports"
INDEX = "index.html"
PAGES = ("html", "md", "pdf")
_SECONDS = 20
_PACKAGE = Path(__file__).parent
# The folders below that only measure take no part in what a document says; a test holds this against them.
_CODE = ("*.py", "*.toml", "formats/*.py", "reliability/*.py")


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """What one file was rendered from.

    Attributes:
        path: the file, below the run folder.
        form: `html`, `md`, `pdf`, `index` for the contents of the folder, or the name of a format.
        document: name of the document; empty where there is none.
        document_sha256: of the TOML file that defines it.
        attestations_sha256: of the file of statements that went into it; empty where none did.
        paper: the sheets of a PDF.
        browser: what printed a PDF, as it names itself; empty where it was not printed again.
        tool: version of this tool.
    """

    path: str
    form: str
    document: str = ""
    document_sha256: str = ""
    attestations_sha256: str = ""
    paper: Literal["A4", "Letter", ""] = ""
    browser: str = ""
    tool: str = field(default_factory=lambda: tool()["version"])

    def plain(self) -> dict[str, str]:
        """The rendering as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Sources:
    """Where documents and statements may come from.

    Attributes:
        folder: the run folder.
        packs: documents of one's own.
        attestations: a file of statements; the one with the run where None.
    """

    folder: Path
    packs: tuple[Path, ...] = ()
    attestations: Path | None = None

    def __post_init__(self) -> None:
        """Refuse a file that is named and not there."""
        named = [*self.packs, *([self.attestations] if self.attestations else [])]
        absent = next((path for path in named if not path.is_file()), None)
        if absent is not None:
            raise ConfigError(f"{absent} does not exist; name the file that went into a document.")

    def document(self, name: str) -> Path | None:
        """The file that defines a document; None where there is none of the name."""
        pack = next((path for path in self.packs if path.stem == name), None)
        path = pack or REPORTS / f"{name}.toml"
        return path if path.is_file() else None

    def stated(self) -> Path | None:
        """The file of statements."""
        return self.attestations or attestations_beside(self.folder)


def candidates(path: str, sources: Sources) -> tuple[Rendering, ...]:
    """What a file may have been rendered from, by its name, the likeliest first; nothing for a stranger's.

    Args:
        path: the file, below the run folder.
        sources: where to look.
    """
    place = PurePosixPath(path)
    if place.parent != PurePosixPath(FOLDER):
        return ()
    if place.name == INDEX:
        return (Rendering(path=path, form="index"),)
    form = next((name for name, file in _format_files().items() if file == place.name), None)
    if form is not None:
        return (Rendering(path=path, form=form),)
    defined = sources.document(place.stem)
    if defined is None or place.suffix[1:] not in PAGES:
        return ()
    stated = [_sha256(file)] if (file := sources.stated()) else []
    papers: tuple[Any, ...] = ("A4", "Letter") if place.suffix == ".pdf" else ("",)
    return tuple(
        Rendering(path=path, form=place.suffix[1:], document=place.stem, document_sha256=_sha256(defined),
                  attestations_sha256=said, paper=paper, browser=browser() if paper else "")
        for said in [*stated, ""]
        for paper in papers
    )  # fmt: skip


@cache
def _format_files() -> dict[str, str]:
    """The file that each installed format is written to."""
    from audit.formats.installed import read_formats
    from audit.registry import installed_functions

    found = {}
    for name in installed_functions("audit.formats"):
        try:
            found[name] = read_formats([name])[0].file
        except ConfigError:
            continue  # a stranger's format that does not import writes no file either
    return found


def named_for(made: Rendering) -> bool:
    """Whether a file has the name of what it is said to be: a page of one's own cannot pass for a PDF."""
    name = PurePosixPath(made.path).name
    if made.form in PAGES:
        return name == f"{made.document}.{made.form}"
    return name == (INDEX if made.form == "index" else _format_files().get(made.form, name))


def missing(made: Rendering, sources: Sources) -> str:
    """Why a file cannot be rendered again here, as the end of a sentence; empty where it can."""
    if made.tool != tool()["version"]:
        return f"it was rendered by version {made.tool}, and this is version {tool()['version']}"
    if made.document:
        defined = sources.document(made.document)
        if defined is None or _sha256(defined) != made.document_sha256:
            return (
                f"the document '{made.document}' is not here as it was (sha256 {made.document_sha256[:12]})"
            )
    stated = sources.stated()
    if made.attestations_sha256 and (stated is None or _sha256(stated) != made.attestations_sha256):
        return f"the statements in it are not here as they were (sha256 {made.attestations_sha256[:12]})"
    if made.form == "pdf":
        return _unprinted(made)
    if made.form not in {*PAGES, "index", *_format_files()}:
        return f"the format '{made.form}' is not installed"
    return ""


def _unprinted(made: Rendering) -> str:
    if not made.browser:
        return "who signed it could not print it again either, so it may say anything"
    return (
        ""
        if made.browser == browser()
        else f"it was printed by {made.browser}, and here is {browser() or 'none'}"
    )


def again(record: Record, made: Rendering, sources: Sources) -> bytes:
    """The bytes of a file, rendered again from the record.

    Args:
        record: the record.
        made: what the file was rendered from; `missing` says nothing against it.
        sources: where documents and statements are.

    Raises:
        ConfigError: the document or the statements do not fit the record any more.
    """
    from audit.formats.installed import read_formats, written
    from audit.markdown import markdown
    from audit.render import render, render_contents, rendered_beside

    if made.form == "index":
        return render_contents(record, rendered_beside(sources.folder / FOLDER)).encode()
    if made.form not in PAGES:
        return written(record, read_formats([made.form])[0])
    document = _argument(made.document, sources)
    stated = _stated(made, sources)
    if made.form == "md":
        return markdown(record, document, attestations=stated).encode()
    page = render(record, document, artifacts=sources.folder, attestations=stated)
    return page.encode() if made.form == "html" else _printed(page, record, made)


def _printed(page: str, record: Record, made: Rendering) -> bytes:
    from audit.pdf import pdf

    return pdf(page, record.run.get("finished"), made.paper or "A4")


def _argument(name: str, sources: Sources) -> str | Path:
    return next((path for path in sources.packs if path.stem == name), name)


def _stated(made: Rendering, sources: Sources) -> Sequence[Attestation]:
    path = sources.stated() if made.attestations_sha256 else None
    return read_attestations(path, installed_documents(sources.packs)) if path else ()


def found_out(record: Record, path: str, sources: Sources) -> Rendering | None:
    """What a file was rendered from, found by rendering; None for a name that nothing here writes.

    Raises:
        ConfigError: its name is that of a rendering, and its bytes are not.
    """
    tried = list(_tried(path, sources))
    if not tried:
        return None
    content = (sources.folder / path).read_bytes()
    for made in tried:
        try:
            if again(record, made, sources) == content:
                return made
        except AuditError:
            continue  # statements that do not fit the record are in no page of it
    raise ConfigError(
        f"{path} is not what model-audit {tool()['version']} renders from this record; render it again, or "
        "take it out of reports/."
    )


def _tried(path: str, sources: Sources) -> Iterator[Rendering]:
    """Candidates that can be rendered here, without statements where they change nothing."""
    for made in candidates(path, sources):
        if missing(made, sources):
            continue
        if made.attestations_sha256 and not read_document(_argument(made.document, sources)).clauses:
            continue
        yield made


@cache
def renderer() -> str:
    """What tells one build of this tool from another as far as documents go: the version need not.

    Returns:
        sha256, in hex, over the name and sha256 of every template and document and of the code that renders.
    """
    places = [
        (_PACKAGE, "audit", _CODE),
        (TEMPLATES, "templates", ("**/*",)),
        (REPORTS, "reports", ("*.toml",)),
    ]
    found = {
        f"{name}/{path.relative_to(folder).as_posix()}": _sha256(path)
        for folder, name, patterns in places
        for pattern in patterns
        for path in folder.glob(pattern)
        if path.is_file()
    }
    return hashlib.sha256(canonical(found)).hexdigest()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@cache
def browser() -> str:
    """What the installed Chromium calls itself, version and all; empty where there is none."""
    from audit.pdf import find_browser

    try:
        done = subprocess.run(  # noqa: S603 - the browser that prints, asked for its version
            [find_browser(), "--version"], capture_output=True, text=True, check=False, timeout=_SECONDS
        )
    except (AuditError, OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
