"""What a model file is, told from its content and never from its name; and the zip archives of torch.

Nothing here executes anything: pickles are read opcode by opcode (`pickletools`), never run.
"""

import io
import json
import pickletools
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from audit.errors import LoadError

FORMATS = ("pt2", "safetensors", "state_dict", "torchscript", "pickle")
SUFFIXES = {".pt2": "pt2", ".safetensors": "safetensors"}
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PREAMBLE = 3
_HEADER_LIMIT = 100_000_000
_WEIGHT_MODULES = frozenset(
    {"torch", "torch._utils", "torch._tensor", "torch.storage", "torch.nn.parameter", "collections"}
    | {"_codecs", "builtins", "__builtin__", "numpy", "numpy.dtypes"}
    | {"numpy.core.multiarray", "numpy._core.multiarray"}
)


def format_of(path: Path) -> str:
    """The format of a model file, one of `FORMATS`, from its content.

    Raises:
        LoadError: the file is missing, empty or of no known format.
    """
    try:
        with path.open("rb") as file:
            start = file.read(9)
            found = _told_from(start, file) if start else "empty"
    except (OSError, zipfile.BadZipFile) as error:
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
        return _weights_or_code(globals_of(archive.read(pickled))) if pickled else ""


def _is_safetensors(file: BinaryIO) -> bool:
    end = file.seek(0, io.SEEK_END)
    file.seek(0)
    size = int.from_bytes(file.read(8), "little")
    if size > min(end - 8, _HEADER_LIMIT):
        return False
    try:
        return isinstance(json.loads(file.read(size)), dict)
    except ValueError:
        return False


def _pickle_format(file: BinaryIO) -> str:
    """A legacy torch.save file is a chain of pickles: a magic number, two headers, then the object."""
    file.seek(0)
    try:
        first = list(pickletools.genops(file))
        if any(argument == _LEGACY_MAGIC for _, argument, _ in first):
            for _ in range(_LEGACY_PREAMBLE - 1):
                list(pickletools.genops(file))
            return _weights_or_code(_globals(file))
        file.seek(0)
        found = _globals(file)
    except (ValueError, UnicodeDecodeError, OverflowError):
        return ""
    return "pickle" if len(first) > 1 or found else ""


def _weights_or_code(names: list[str]) -> str:
    plain = all(name.rpartition(".")[0] in _WEIGHT_MODULES for name in names)
    return "state_dict" if plain else "pickle"


def globals_of(pickled: bytes) -> list[str]:
    """Dotted names of what unpickling would import, in order, without unpickling.

    A name that cannot be told, because the pickle computes it, is given as `?`.
    """
    try:
        return _globals(io.BytesIO(pickled))
    except (ValueError, UnicodeDecodeError, OverflowError):
        return ["?"]


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
    """The records of a torch zip archive, read once into memory, names without the top folder.

    Attributes:
        where: the file, for errors.
        whole: the bytes of the file; what is inspected is what is loaded.
        records: content by name.
        flat: whether the archive has no top folder (the layout before torch 2.8).
    """

    where: Path
    whole: bytes
    records: dict[str, bytes]
    flat: bool


def read_archive(path: Path) -> Archive:
    """Read an archive; torch's own zip reader must see the very same records as Python's.

    Raises:
        LoadError: it is damaged, holds a record twice, or the two readers disagree.
    """
    whole = path.read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(whole)) as archive:
            names = archive.namelist()
            _refuse_twins(path, names)
            flat = "serialized_exported_program.json" in names
            records = {name if flat else name.partition("/")[2]: archive.read(name) for name in names}
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError, EOFError) as error:
        raise LoadError(f"{path} is a damaged archive: {error}; save the model again.") from None
    if not flat:
        _refuse_disagreement(path, whole, names, records)
    return Archive(path, whole, records, flat)


def _refuse_twins(path: Path, names: list[str]) -> None:
    """torch finds records without regard to case, so names that differ in case alone are twins too."""
    seen: set[str] = set()
    for name in names:
        if name.casefold() in seen:
            raise LoadError(f"{path} holds the record '{name}' twice, as an honest archive never does.")
        seen.add(name.casefold())


def _refuse_disagreement(path: Path, whole: bytes, names: list[str], records: dict[str, bytes]) -> None:
    import torch

    refusal = f"{path} reads differently in torch than in Python, as an honest archive never does"
    if len({name.partition("/")[0] for name in names}) != 1:
        raise LoadError(f"{path} has more than one top folder, as an honest archive never does.")
    try:
        reader = torch._C.PyTorchFileReader(io.BytesIO(whole))  # noqa: SLF001 - the reader torch.export.load uses
        seen = {name: reader.get_record(name) for name in reader.get_all_records()}
    except RuntimeError as error:
        raise LoadError(f"{path} is a damaged archive: {str(error).splitlines()[0]}.") from None
    for name in _differing(seen, records):
        raise LoadError(f"{refusal}: the record '{name}'.")


def _differing(seen: dict[str, bytes], records: dict[str, bytes]) -> Iterator[str]:
    yield from (name for name in sorted(seen.keys() | records.keys()) if seen.get(name) != records.get(name))
