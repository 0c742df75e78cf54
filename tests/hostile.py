"""Hostile model files: each would leave a marker folder behind if anything in it ran."""

import io
import json
import os
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from networks import MLP, seeded


class Payload:
    """Unpickling it makes a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (self.marker,)


def saved(value: object, *, legacy: bool = False) -> bytes:
    """The bytes that torch.save writes."""
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def exported(path: Path, network: torch.nn.Module | None = None, batch: object = "dynamic") -> Path:
    """An honest .pt2 of a network of 5 inputs; `batch` is a `Dim`, a number of rows or `dynamic`."""
    rows = batch if isinstance(batch, int) else 2
    dimension = torch.export.Dim("batch") if batch == "dynamic" else batch
    shapes = None if isinstance(batch, int) else ({0: dimension},)
    program = torch.export.export(network or seeded(MLP), (torch.zeros(rows, 5),), dynamic_shapes=shapes)
    torch.export.save(program, path)
    return path


def with_records(path: Path, changes: dict[str, Any]) -> Path:
    """An archive with records replaced or added; a function gets the old content, as JSON for .json."""
    with zipfile.ZipFile(path) as archive:
        top = archive.namelist()[0].partition("/")[0]
        records = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    for name, change in changes.items():
        records[name] = _edited(records[name], change) if callable(change) else change
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in records.items():
            archive.writestr(f"{top}/{name}", content)
    return path


def _edited(content: bytes, change: Callable[[Any], Any]) -> bytes:
    value = json.loads(content)
    return json.dumps(change(value) or value).encode()


def legacy_export(path: Path, **pickled: bytes) -> Path:
    """The flat layout of .pt2 that torch wrote before 2.8, with these records pickled."""
    program = json.loads(_record(exported(path), "models/model.json"))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("version", ".".join(map(str, _schema_version())))
        archive.writestr("serialized_exported_program.json", json.dumps(program))
        for name in ("state_dict", "constants", "example_inputs"):
            archive.writestr(f"serialized_{name}.pt", pickled.get(name, saved({})))
    return path


def _schema_version() -> tuple[int, ...]:
    from torch._export.serde.schema import SCHEMA_VERSION

    return tuple(SCHEMA_VERSION)


def _record(path: Path, name: str) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return next(archive.read(full) for full in archive.namelist() if full.endswith("/" + name))


def scripted(path: Path, network: torch.nn.Module) -> Path:
    """TorchScript of a network."""
    with warnings.catch_warnings():
        # torch deprecates TorchScript; the files exist all the same.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(network).save(str(path))
    return path


def plain_pickle(marker: Path) -> bytes:
    """A pickle without torch."""
    return pickle.dumps(Payload(marker))
