"""TorchScript, saved by `torch.jit.save`.

What the format can execute: its own language, which is run by torch's interpreter and not by Python. It
computes with tensors and cannot import anything, but it can open and write files (`torch.save`,
`torch.from_file`), and operators or classes that other libraries register can do what those libraries
like. So its code is read first, and refused where it calls any of these, unless `trust = true`. What is
left computes with tensors; it may print.
"""

import io
import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from audit.config import ModelSection
from audit.errors import LoadError
from audit.loaders.archive import Archive, read_archive
from audit.loaders.factory import first_line
from audit.loaders.loaded import Loaded

# Words rather than calls: TorchScript lets a file write `t = torch` and then `t.save(...)`.
_IN_CODE = re.compile(
    r"\b(?:save|from_file)\b|(?<![.\w])ops\b(?!\.(?:aten|prim|prims|quantized|torchvision)\.\w).{0,20}"
)
_ANYWHERE = re.compile(r"\bclasses\b(?!\.(?:quantized|rnn)\b)\s*[.\\#].{0,20}")

_BYTES = {
    "Bool": 1, "Byte": 1, "Char": 1, "Short": 2, "Int": 4, "Long": 8, "QInt8": 1, "QUInt8": 1, "QInt32": 4,
    "Half": 2, "BFloat16": 2, "Float": 4, "Double": 8, "ComplexFloat": 8, "ComplexDouble": 16,
}  # fmt: skip


def load(path: Path, section: ModelSection, folder: Path) -> Loaded:  # noqa: ARG001 - the signature of every loader
    """Load a scripted or traced network onto the CPU.

    Raises:
        LoadError: its code could reach files or foreign operators and is not trusted, or it is damaged.
    """
    archive = read_archive(path)
    finding = _forbidden(archive)
    if finding and not section.trust:
        raise LoadError(
            f"{path} is TorchScript that uses '{finding}', which can reach files or foreign code; remove it, "
            "or set [model] trust = true if you trust its author with this machine."
        )
    refuse_short_storages(archive)
    with warnings.catch_warnings():
        # torch deprecates TorchScript; the files exist all the same.
        warnings.simplefilter("ignore")
        module = _module(archive)
    caveats = (f"Loaded on trust: the TorchScript code uses '{finding}'.",) if finding else ()
    return Loaded(module, caveats, {"inspection": finding or "passed"})


def _forbidden(archive: Archive) -> str:
    """The first word of the archive's code or pickles that reaches beyond tensors; else empty."""
    for name in archive.names:
        patterns = (_IN_CODE, _ANYWHERE) if name.endswith(".py") else (_ANYWHERE,)
        if name.endswith((".py", ".pkl")):
            text = archive.read(name).decode("utf-8", "replace")
            found = next(filter(None, (pattern.search(text) for pattern in patterns)), None)
            if found:
                return found.group()
    return ""


def refuse_short_storages(archive: Archive) -> None:
    """Refuse a tensor that reaches beyond the numbers that are stored for it: torch would read on in memory.

    Raises:
        LoadError: naming the record that is too short.
    """
    for folder in ("data", "constants"):
        if f"{folder}.pkl" in archive.names:
            try:
                _Sizes(archive, folder).load()
            except LoadError:
                raise
            except Exception:  # noqa: BLE001, S112 - a pickle of another form is for torch to judge
                continue


class _StandIn:
    """Whatever class a pickle names: it takes anything, and does nothing."""

    def __init__(self, *given: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


class _Sizes(pickle.Unpickler):
    """Reads the tensors of a pickle without making them; nothing that it names is imported or called."""

    def __init__(self, archive: Archive, folder: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{folder}.pkl")))
        self.archive, self.folder = archive, folder

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name.endswith("Storage"):
            return _BYTES[name.removesuffix("Storage")]
        return self._fits if name == "_rebuild_tensor_v2" else type(name, (_StandIn,), {})

    def persistent_load(self, told: Any) -> Any:
        _, itemsize, key, _, count = told
        name = f"{self.folder}/{key}"
        if len(self.archive.read(name)) < itemsize * count:
            raise LoadError(
                f"{self.archive.path} is damaged: its record '{name}' is too short for its tensor."
            )
        return name, count

    def _fits(self, storage: Any, offset: int, sizes: Any, strides: Any, *_: object) -> None:
        name, count = storage
        last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
        if min((offset, *sizes, *strides)) < 0 or (0 not in sizes and last >= count):
            raise LoadError(
                f"{self.archive.path} is damaged: a tensor of the shape {list(sizes)} reaches beyond the "
                f"{count} numbers of its record '{name}'."
            )


def _module(archive: Archive) -> nn.Module:
    try:
        module: nn.Module = torch.jit.load(io.BytesIO(archive.whole), map_location="cpu")  # type: ignore[no-untyped-call]
    except Exception as error:
        raise LoadError(f"{archive.path} cannot be loaded as TorchScript: {first_line(error)}.") from error
    return module
