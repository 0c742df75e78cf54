"""What a model file is, told from its content and never from its name; and the zip archives of torch.

Nothing here executes anything: pickles are read opcode by opcode (`pickletools`), never run.
"""

import io
import json
import pickletools
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from audit.errors import LoadError
from audit.plainfile import plain_file

FORMATS = ("pt2", "safetensors", "state_dict", "torchscript", "pickle")
SUFFIXES = {".pt2": "pt2", ".safetensors": "safetensors"}
# ValueError: a name that is not UTF-8
_DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, OSError, RuntimeError, NotImplementedError, EOFError, IndexError),
    ValueError,
)
_TAMPERED = "an honest archive never does that"
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_HEADERS = 2
_EMPTY_PICKLE = 2
_NOT_A_PICKLE = (ValueError, OverflowError, KeyError, IndexError, MemoryError)
_HEADER_LIMIT = 100_000_000
_WEIGHT_MODULES = frozenset(
    {"torch", "torch._utils", "torch._tensor", "torch.storage", "torch.nn.parameter", "collections"}
    | {"_codecs"}
)


def format_of(path: Path) -> str:
    """The format of a model file, one of `FORMATS`, from its content.

    Raises:
        LoadError: the file is missing, empty or of no known format.
    """
    try:
        with plain_file(path).open("rb") as file:
            start = file.read(9)
            found = _told_from(start, file) if start else "empty"
    except FileNotFoundError:
        raise LoadError(f"{path} does not exist; [model] path is relative to audit.toml.") from None
    except _DAMAGED as error:
        raise LoadError(f"{path} cannot be read: {error}; is it complete?") from None
    if found == "empty":
        raise LoadError(f"{path} is empty (0 bytes); save the model again.")
    if not found:
        raise LoadError(
            f"{path} is of no known model format, or cut short; known are {', '.join(FORMATS)} "
            "(set [model] loader for one that a plugin brings)."
        )
    return found


def _told_from(start: bytes, file: BinaryIO) -> str:
    if start.startswith(b"PK"):
        return _zip_format(file)
    if start[8:9] == b"{" and _is_safetensors(file):
        return "safetensors"
    return _pickle_format(file)


def _zip_format(file: BinaryIO) -> str:
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        inner = {name.partition("/")[2] for name in names}
        if "archive_format" in inner or "serialized_exported_program.json" in names:
            return "pt2"
        if "constants.pkl" in inner:
            return "torchscript"
        pickled = next((name for name in names if name.partition("/")[2] == "data.pkl"), None)
        if pickled is None:
            return ""
        try:
            return _weights_or_code(_globals(io.BytesIO(archive.read(pickled))))
        except _NOT_A_PICKLE:
            return "pickle"


def _is_safetensors(file: BinaryIO) -> bool:
    end = file.seek(0, io.SEEK_END)
    file.seek(0)
    size = int.from_bytes(file.read(8), "little")
    if size > min(end - 8, _HEADER_LIMIT):
        return False
    try:
        return isinstance(json.loads(file.read(size)), dict)
    except (ValueError, RecursionError):
        return False


def _pickle_format(file: BinaryIO) -> str:
    file.seek(0)
    try:
        first = list(pickletools.genops(file))
        if _is_legacy(first):
            return _weights_or_code(_legacy_globals(file))
    except _NOT_A_PICKLE:
        return ""
    return "pickle" if len(first) > _EMPTY_PICKLE else ""


def _is_legacy(first: list[Any]) -> bool:
    """A legacy torch.save file is a chain of pickles: a magic number, two headers, then the object."""
    return any(argument == _LEGACY_MAGIC for _, argument, _ in first)


def is_torch_save(path: Path) -> bool:
    """Whether `torch.save` wrote the file, in either layout; a plain pickle otherwise."""
    with path.open("rb") as file:
        if file.read(2) == b"PK":
            return True
        file.seek(0)
        try:
            return _is_legacy(list(pickletools.genops(file)))
        except _NOT_A_PICKLE:
            return False


def _legacy_globals(file: BinaryIO) -> list[str]:
    for _ in range(_LEGACY_HEADERS):
        list(pickletools.genops(file))
    return _globals(file)


def pickled_globals(path: Path) -> list[str]:
    """Dotted names of what unpickling a file would import, in order, without unpickling.

    A name that cannot be told, because the pickle computes it, is given as `?`.
    """
    with path.open("rb") as file:
        try:
            if zipfile.is_zipfile(file):
                with zipfile.ZipFile(file) as archive:
                    pickled = next(name for name in archive.namelist() if name.endswith("data.pkl"))
                    return _globals(io.BytesIO(archive.read(pickled)))
            file.seek(0)
            legacy = _is_legacy(list(pickletools.genops(file)))
            if not legacy:
                file.seek(0)
            return _legacy_globals(file) if legacy else _globals(file)
        except (*_NOT_A_PICKLE, *_DAMAGED, StopIteration):
            return ["?"]


def _weights_or_code(names: list[str]) -> str:
    plain = all(name.rpartition(".")[0] in _WEIGHT_MODULES for name in names)
    return "state_dict" if plain else "pickle"


def _globals(file: BinaryIO) -> list[str]:
    names: list[str] = []
    strings: list[str] = []
    memo: dict[int, str] = {}
    for operation, argument, _ in pickletools.genops(file):
        if operation.name in {"GLOBAL", "INST"}:
            names.append(str(argument).replace(" ", "."))
        elif operation.name == "STACK_GLOBAL":
            names.append(".".join(strings[-2:]) if len(strings) > 1 else "?")
        elif "UNICODE" in operation.name or "STRING" in operation.name:
            strings.append(str(argument))
        elif operation.name == "MEMOIZE":
            memo[len(memo)] = strings[-1] if strings else "?"
        elif operation.name in {"BINGET", "LONG_BINGET", "GET"}:
            strings.append(memo.get(int(argument or 0), "?"))
    return list(dict.fromkeys(names))


@dataclass(frozen=True)
class Archive:
    """A zip archive of torch.export, held in memory: what is inspected is what is loaded.

    Attributes:
        path: the file, for errors.
        whole: its bytes.
        names: names of its records, without the top folder.
        flat: whether it has no top folder (the layout before torch 2.8).
    """

    path: Path
    whole: bytes
    names: tuple[str, ...]
    flat: bool
    _zip: zipfile.ZipFile
    _reader: Any

    def read(self, name: str) -> bytes:
        """A record, as both zip readers see it.

        Raises:
            LoadError: it is damaged, or torch reads other bytes than Python.
        """
        try:
            content = self._zip.read(name if self._reader is None else f"{self._top}/{name}")
            same = self._reader is None or self._reader.get_record(name) == content
        except (*_DAMAGED, KeyError) as error:
            raise LoadError(f"{self.path} is damaged at its record '{name}': {error}.") from None
        if not same:
            raise LoadError(
                f"{self.path}: torch and Python read its record '{name}' differently; {_TAMPERED}."
            )
        return content

    @property
    def _top(self) -> str:
        return self._zip.namelist()[0].partition("/")[0]


def read_archive(path: Path) -> Archive:
    """Open an archive; torch's own zip reader must see the very same records as Python's.

    Raises:
        LoadError: it is damaged, names a record twice, or the two readers disagree.
    """
    whole = path.read_bytes()
    try:
        opened = zipfile.ZipFile(io.BytesIO(whole))
        names = opened.namelist()
        _refuse_twins(path, names)
        flat = "serialized_exported_program.json" in names
        reader = None if flat else _torch_reader(path, whole, names)
    except _DAMAGED as error:
        raise LoadError(f"{path} is a damaged archive: {str(error).splitlines()[0]}.") from None
    inner = names if flat else [name.partition("/")[2] for name in names]
    return Archive(path, whole, tuple(inner), flat, opened, reader)


def _torch_reader(path: Path, whole: bytes, names: list[str]) -> Any:
    import torch

    if len({name.partition("/")[0] for name in names}) != 1:
        raise LoadError(f"{path} has more than one top folder; {_TAMPERED}.")
    reader = torch._C.PyTorchFileReader(io.BytesIO(whole))  # noqa: SLF001 - the reader torch.export.load uses
    if sorted(reader.get_all_records()) != sorted(name.partition("/")[2] for name in names):
        raise LoadError(f"{path}: torch and Python list other records in it; {_TAMPERED}.")
    return reader


def _refuse_twins(path: Path, names: list[str]) -> None:
    """The torch reader finds records without regard to case: names that differ in case are twins too."""
    seen: set[str] = set()
    for name in names:
        if name.casefold() in seen:
            raise LoadError(f"{path} names the record '{name}' twice; {_TAMPERED}.")
        seen.add(name.casefold())
