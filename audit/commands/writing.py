"""Where the files of a run go, and how each is written: pages, Markdown, PDF, formats of programs."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from audit.errors import ConfigError

if TYPE_CHECKING:
    from audit.attestation import Attestation
    from audit.formats.installed import Format

HTML, MARKDOWN, PDF = "html", "md", "pdf"
PAGES = (HTML, MARKDOWN, PDF)


def machine_formats(names: list[str] | None) -> "tuple[Format, ...]":
    """The formats of these names, without those of a document, which are for a reader."""
    others = [name for name in names or () if name not in PAGES]
    if not others:
        return ()
    from audit.formats.installed import read_formats

    return read_formats(others, also=PAGES)


def page_formats(names: list[str] | None) -> tuple[str, ...]:
    """Those of these names that a document is written in; a PDF that nothing can print is refused at once."""
    pages = tuple(dict.fromkeys(name for name in names or () if name in PAGES))
    if PDF in pages:
        from audit.pdf import find_browser

        find_browser()
    return pages


def write_format(run: Path, form: "Format", output: Path | None) -> Path:
    """A file for another program, below reports/ unless a file is named."""
    from audit.formats.installed import written
    from audit.record import read_record

    folder = run if run.is_dir() else run.parent
    path = output or folder / "reports" / form.file
    write_file(path, written(read_record(run), form))
    return path


def write_report(
    run: Path, document: str | Path, output: Path | None, stated: "Sequence[Attestation]" = ()
) -> Path:
    """The document as a page, and beside it the contents of the folder."""
    from audit.record import read_record
    from audit.render import render as render_page
    from audit.render import render_contents, rendered_beside

    folder = run if run.is_dir() else run.parent
    record = read_record(run)
    page = render_page(record, document, artifacts=folder, attestations=stated)
    path = output or folder / "reports" / f"{Path(document).stem}.html"
    write_file(path, page.encode())
    if output is None:
        write_file(
            path.with_name("index.html"), render_contents(record, rendered_beside(path.parent)).encode()
        )
    return path


def write_page(
    run: Path, document: str | Path, output: Path | None, stated: "Sequence[Attestation]", form: str
) -> Path:
    """The document as a page, as Markdown or as PDF, below reports/ unless a file is named."""
    from audit.record import read_record

    if form == HTML:
        return write_report(run, document, output, stated)
    folder = run if run.is_dir() else run.parent
    record = read_record(run)
    path = output or folder / "reports" / f"{Path(document).stem}.{form}"
    if form == MARKDOWN:
        from audit.markdown import markdown

        write_file(path, markdown(record, document, attestations=stated).encode())
    else:
        from audit.pdf import pdf
        from audit.render import render as render_page

        page = render_page(record, document, artifacts=folder, attestations=stated)
        write_file(path, pdf(page, record.run.get("finished")))
    return path


def write_file(path: Path, content: bytes) -> None:
    """Write a file and the folders above it; one sentence where that fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}.") from None
