"""CSV files, read to the letter: every cell is text, no word is taken for a missing value."""

import csv
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from audit.config import DataSection
from audit.errors import LoadError
from audit.plainfile import plain_file
from audit.readers.raw import Raw, numbered

if TYPE_CHECKING:
    import pandas as pd

_ROWS_AT_ONCE = 50_000


def read(path: Path, section: DataSection) -> Raw:
    """A CSV file with a header, in UTF-8; the separator is the comma, semicolon or tab of the header.

    Raises:
        LoadError: the file cannot be read, a row is longer or shorter than the header, a column has no name
            or the name of another, or `[data] target` is not given.
    """
    table = read_table(path)
    return Raw(path=path, table=table, target=named_target(path, section, table))


def named_target(path: Path, section: DataSection, table: "pd.DataFrame") -> str:
    """The column of labels that audit.toml names.

    Raises:
        LoadError: it names none.
    """
    if section.target is None:
        known = ", ".join(f"'{name}'" for name in list(table.columns)[:20])
        raise LoadError(
            f"[data] target is missing: name the column of {path} that holds the labels ({known})."
        )
    return section.target


def read_table(path: Path) -> "pd.DataFrame":
    """All cells of a CSV file as text, one row of the table a row of the file."""
    try:
        with plain_file(path).open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            rows = csv.reader(file, delimiter=_delimiter(first), strict=True)
            header = next(rows, [])
            return _table(path, header, (row for row in rows if row))
    except OSError as error:
        raise LoadError(f"{path} cannot be read: {error.strerror or error}.") from None
    except UnicodeDecodeError as error:
        raise LoadError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8.") from None
    except csv.Error as error:
        raise LoadError(f"{path} is not a CSV file, row {rows.line_num - 1}: {error}.") from None


def _delimiter(header: str) -> str:
    return next((mark for mark in ",;\t" if mark in header), ",")


def _table(path: Path, header: list[str], rows: Iterator[list[str]]) -> "pd.DataFrame":
    import pandas as pd

    _check_header(path, header)
    parts: list[pd.DataFrame] = []
    done = 0
    while block := list(islice(rows, _ROWS_AT_ONCE)):
        _check_lengths(path, header, block, done)
        parts.append(pd.DataFrame(block, columns=header, dtype="object").astype("str"))
        done += len(block)
    if not parts:
        raise LoadError(f"{path} holds no rows below its header; add some.")
    return numbered(pd.concat(parts, ignore_index=True))


def _check_header(path: Path, header: list[str]) -> None:
    seen: set[str] = set()
    for position, name in enumerate(header, start=1):
        if not name.strip():
            raise LoadError(f"{path}: column {position} has no name ({name!r}); give every column one.")
        if name in seen:
            raise LoadError(f"{path}: two columns are called '{name}'; rename one.")
        seen.add(name)
    if not header:
        raise LoadError(f"{path} is empty; it needs a header and rows.")


def _check_lengths(path: Path, header: list[str], block: list[list[str]], done: int) -> None:
    for number, row in enumerate(block, start=done + 1):
        if len(row) != len(header):
            raise LoadError(
                f"{path}, row {number} has {len(row)} cells, but the header names {len(header)} columns "
                f"(its first cell is {row[0]!r}); quote a value that holds the separator."
            )
