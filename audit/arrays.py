"""Arrays: an `.npz` file that may come from anywhere. Pickled (object) arrays are never opened."""

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from audit.errors import AuditError
from audit.plainfile import plain_file

_MOST_INFLATED = 2**30
_MOST_SHRUNK = 100
_LONGEST = 200
_PICKLED = "holds pickled objects, which are never opened; save it as numbers or text (astype(str))"


@contextmanager
def opened_arrays(source: Path | BinaryIO) -> Iterator[Mapping[str, npt.NDArray[Any]]]:
    """The arrays of an `.npz` file by name; each is read when it is asked for.

    Raises:
        ValueError: whatever is wrong with the file, in words that end a sentence: it cannot be read, is no
            archive, is damaged, holds pickled objects, or one more than 1 GiB large out of less than a
            hundredth of that.
    """
    try:
        if isinstance(source, Path):
            with plain_file(source).open("rb") as file:
                yield _archive(file)
        else:
            yield _archive(source)
    except (AuditError, ValueError):
        raise
    except Exception as error:  # noqa: BLE001 - a damaged archive raises whatever its damage leads to
        raise ValueError(_words(error)) from None


class _Arrays(Mapping[str, npt.NDArray[Any]]):
    def __init__(self, archive: Any) -> None:
        self._archive = archive

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        try:
            found: npt.NDArray[Any] | bytes = self._archive[name]
        except KeyError:
            raise
        except Exception as error:  # noqa: BLE001 - a damaged archive raises whatever its damage leads to
            said = _PICKLED if "allow_pickle" in str(error) else f"cannot be read: {_words(error)}"
            raise ValueError(f"array '{name}' {said}") from None
        if isinstance(found, bytes):
            raise ValueError(f"'{name}' is no array")  # noqa: TRY004 - one kind of error for any damage
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._archive.files)

    def __len__(self) -> int:
        return len(self._archive.files)


def _archive(file: BinaryIO) -> _Arrays:
    start = file.read(6)
    file.seek(0)
    if start == b"\x93NUMPY":
        raise ValueError("it holds one array, not an archive of them; save it by np.savez")
    if not zipfile.is_zipfile(file):
        raise ValueError("it is no .npz archive, or cut short")
    file.seek(0)
    archive = np.load(file, allow_pickle=False)
    for item in archive.zip.infolist():
        if item.file_size > max(_MOST_INFLATED, _MOST_SHRUNK * item.compress_size):
            raise ValueError(
                f"'{item.filename}' has {item.file_size} bytes out of {item.compress_size}; store what is so "
                "large by np.savez, which does not compress it"
            )
    return _Arrays(archive)


def _words(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).partition("\n")[0][:_LONGEST].rstrip(".")
