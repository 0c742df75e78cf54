"""Pdf: a page as a tagged PDF, printed by the Chromium that is installed. Nothing is asked of the network.

The page carries its own print styles: page numbers, everything that can be opened opened. From a browser the
printer's paper is used; here there is no printer, so the paper is named. Chromium adds
the tags that a screen reader needs and an outline of the headings.
"""

import os
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from audit.errors import ConfigError

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
_BESIDE = re.compile(r' href="[a-z0-9-]+\.html#[^"]*"')
_ARGUMENTS = (
    "--headless", "--disable-gpu", "--disable-extensions", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run", "--no-default-browser-check",
    "--host-resolver-rules=MAP * ~NOTFOUND", "--export-tagged-pdf", "--generate-pdf-document-outline",
    "--no-pdf-header-footer",
)  # fmt: skip
_SECONDS = 300
Paper = Literal["A4", "Letter"]
_DATES = re.compile(rb"/(CreationDate|ModDate) \(D:\d{14}\+00'00'\)")


def find_browser() -> str:
    """The path of the installed Chromium, or of a browser built on it.

    Raises:
        ConfigError: there is none on PATH.
    """
    found = next((path for path in map(shutil.which, _NAMES) if path), None)
    if found is None:
        raise ConfigError(
            "--format pdf needs Chromium, and PATH holds none of "
            + ", ".join(_NAMES)
            + "; install one, or print the HTML page from any browser."
        )
    return found


def pdf(page: str, made: Any = None, paper: Paper = "A4") -> bytes:
    """A page of HTML as PDF; the same page and the same Chromium give the same bytes.

    Args:
        page: the page, which needs nothing else.
        made: ISO time that the PDF says it was made at; the beginning of 1970 for anything else.
        paper: the size of its sheets.

    Raises:
        ConfigError: there is no Chromium, or it does not print the page.
    """
    browser = find_browser()
    with TemporaryDirectory(prefix="model-audit-") as folder:
        source, target = Path(folder, "page.html"), Path(folder, "page.pdf")
        source.write_text(_sized(_alone(page), paper), encoding="utf-8")
        profile = f"--user-data-dir={Path(folder, 'profile')}"
        said = _print(
            [browser, *_ARGUMENTS, *_as_root(), profile, f"--print-to-pdf={target}", source.as_uri()]
        )
        if not target.is_file():
            raise ConfigError(f"{browser} did not print the page: {said}.")
        return _dated(target.read_bytes(), made)


def _alone(page: str) -> str:
    """The page without links to files beside it, which a sheet would turn into paths of this machine."""
    return _BESIDE.sub("", page)


def _sized(page: str, paper: Paper) -> str:
    """The page with the size of its sheets, before the policy that lets in no other style."""
    return page.replace("<head>", f"<head><style>@page {{ size: {paper}; }}</style>", 1)


def _as_root() -> tuple[str, ...]:
    """Chromium has no sandbox for root and refuses to start with one."""
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    return ("--no-sandbox",) if is_root else ()


def _print(command: list[str]) -> str:
    """Run the browser and give its last words."""
    try:
        done = subprocess.run(  # noqa: S603 - no shell; the path is that of the browser, the rest is ours
            command, capture_output=True, text=True, errors="replace", check=False, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"it took more than {_SECONDS} seconds"
    except OSError as error:
        return str(error.strerror)
    lines = done.stderr.strip().splitlines()
    return f"it ended with code {done.returncode}" + (f" and said '{lines[-1][:200]}'" if lines else "")


def _dated(content: bytes, made: Any) -> bytes:
    """The same PDF made at another time; the length stays, so that every place in the file does."""
    try:
        when = datetime.fromisoformat(str(made))
        when = when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        when = datetime(1970, 1, 1, tzinfo=UTC)
    stamp = f"{when:%Y%m%d%H%M%S}".rjust(14, "0").encode()
    return _DATES.sub(lambda found: b"/" + found[1] + b" (D:" + stamp + b"+00'00')", content)
