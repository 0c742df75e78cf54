"""Installed formats: found through the entry points `audit.formats`, a stranger's like the built-in ones.

A format is a function of a record that gives bytes. The module it stands in may name the file it is written
to by default in `FILE`; `report.` and the format's name otherwise.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint
from pathlib import PurePath
from typing import Any

from audit.errors import ConfigError, nearest
from audit.formats.answers import derived
from audit.record import Record
from audit.registry import installed_functions


@dataclass(frozen=True)
class Format:
    """A way to write a record for another program.

    Attributes:
        name: what it is called on the command line.
        file: name of the file it is written to by default.
        write: the function.
    """

    name: str
    file: str
    write: Callable[[Record], bytes]


def read_formats(names: Sequence[str], also: Iterable[str] = ()) -> tuple[Format, ...]:
    """The formats of these names, each once, imported.

    Args:
        names: names of entry points.
        also: names that the caller knows besides, for the sentence on one that is wrong.

    Raises:
        ConfigError: no such format, one that does not import, or one that is no function.
    """
    points = installed_functions("audit.formats")
    for name in names:
        if name not in points:
            raise ConfigError(f"'{name}' is not an installed format{nearest(name, [*also, *points])}.")
    return tuple(_read(points[name]) for name in dict.fromkeys(names))


def _read(point: EntryPoint) -> Format:
    try:
        write = point.load()
        file = getattr(import_module(point.module), "FILE", f"report.{point.name}")
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"format '{point.name}' ({point.value}) does not import: {type(error).__name__}: {error}."
        ) from error
    if not callable(write):
        raise ConfigError(f"format '{point.name}' ({point.value}) is not a function of a record.")
    if not isinstance(file, str) or PurePath(file).name != file:
        raise ConfigError(
            f"format '{point.name}' names the file {file!r}; it must be a name without folders."
        )
    return Format(point.name, file, write)


def written(record: Record, form: Format) -> bytes:
    """The record in a format, with verdicts that follow from its numbers.

    Raises:
        ConfigError: the format gives something else than bytes.
    """
    content: Any = form.write(derived(record))
    if not isinstance(content, bytes):
        raise ConfigError(f"format '{form.name}' gives {type(content).__name__} where it must give bytes.")
    return content
