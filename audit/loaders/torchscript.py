"""TorchScript, saved by `torch.jit.save`.

What the format can execute: its own language, which is run by torch's interpreter and not by Python. It
computes with tensors and cannot import anything, but it can open and write files (`torch.save`,
`torch.from_file`), and operators or classes that other libraries register can do what those libraries
like. So its code is read first, and refused where it calls any of these, unless `trust = true`. What is
left computes with tensors; it may print.
"""

import io
import re
import warnings
from pathlib import Path

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


def _module(archive: Archive) -> nn.Module:
    try:
        module: nn.Module = torch.jit.load(io.BytesIO(archive.whole), map_location="cpu")  # type: ignore[no-untyped-call]
    except Exception as error:
        raise LoadError(f"{archive.path} cannot be loaded as TorchScript: {first_line(error)}.") from error
    return module
