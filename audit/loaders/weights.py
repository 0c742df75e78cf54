"""Weights put into the network that the user's factory built, and the unpickling that runs no code."""

import io
import os
import pickle
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from audit.config import ModelSection
from audit.errors import LoadError
from audit.loaders.archive import is_torch_save
from audit.loaders.factory import build, first_line
from audit.loaders.loaded import Loaded

_INSIDE = ("state_dict", "model_state_dict", "model_state", "model", "net", "weights", "params")
_PREFIXES = ("module.", "_orig_mod.")
_NAMED = 3


@contextmanager
def weights_only() -> Iterator[None]:
    """Inside, `torch.load` refuses every pickle that is more than weights, whatever its caller asked for."""
    forced = {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "0"}
    before = {name: os.environ.get(name) for name in forced}
    os.environ.update(forced)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def read_weights(file: Path | bytes, where: str) -> Any:
    """Unpickle weights onto the CPU with torch's restricted unpickler; nothing is executed.

    Args:
        file: the file, or a pickled record of an archive.
        where: its name in errors.

    Raises:
        LoadError: it is damaged, or holds more than weights.
    """
    source: Path | BinaryIO = io.BytesIO(file) if isinstance(file, bytes) else file
    try:
        with weights_only(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise LoadError(
            f"{where} holds more than weights (it names {_refused(error)}), so unpickling it could run code; "
            "save the weights alone, or set [model] trust = true if you trust its author with this machine."
        ) from None
    except Exception as error:
        raise LoadError(f"{where} cannot be read as weights: {first_line(error)}.") from error


def _refused(error: Exception) -> str:
    """What torch's unpickler refused, out of its long advice."""
    named = re.search(r"(?:GLOBAL|[Cc]lass|function) ([\w.]*\w)", str(error))
    if named:
        return named.group(1)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = [line for line in lines if "WeightsUnpickler error" in line] or lines[-2:-1] or lines
    return said[0].removeprefix("WeightsUnpickler error: ")[:160] if said else "of a kind it does not know"


def with_factory(values: Any, section: ModelSection, folder: Path, path: Path) -> Loaded:
    """The factory's network with the weights of a checkpoint in it.

    A checkpoint may be the state dict itself or hold it under a key such as `state_dict`; the prefix
    `module.` of DataParallel and `_orig_mod.` of torch.compile are taken off.

    Raises:
        LoadError: there is no state dict, or its names or shapes are not the network's.
    """
    given = _without_prefix(_state_dict(values, path))
    module, source = build(section, folder)
    own = module.state_dict()
    _refuse_other_names(given, own, section, path)
    _refuse_other_shapes(given, own, section, path)
    try:
        module.load_state_dict(given, strict=False)
    except RuntimeError as error:
        lines = " ".join(str(error).split())[:240]
        raise LoadError(f"{path} does not fit [model] factory = '{section.factory}': {lines}.") from None
    return Loaded(
        module, source={"factory": section.factory, "factory_sha256": source, "tensors": len(given)}
    )


def _state_dict(values: Any, path: Path) -> dict[str, Any]:
    if isinstance(values, Mapping) and not any(isinstance(value, Tensor) for value in values.values()):
        for key in _INSIDE:
            if isinstance(values.get(key), Mapping):
                return _state_dict(values[key], path)
    if not isinstance(values, Mapping) or not any(isinstance(value, Tensor) for value in values.values()):
        keys = f" with the keys {_few(values)}" if isinstance(values, Mapping) else ""
        raise LoadError(
            f"{path} holds a {type(values).__name__}{keys}, not a state dict (names and tensors), nor one "
            f"under {', '.join(_INSIDE[:4])}."
        )
    return {str(key): value for key, value in values.items()}


def _without_prefix(given: dict[str, Any]) -> dict[str, Any]:
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in given):
            return _without_prefix({name.removeprefix(prefix): value for name, value in given.items()})
    return given


def _refuse_other_names(
    given: Mapping[str, Any], own: Mapping[str, Any], section: ModelSection, path: Path
) -> None:
    held = {_address(own[name]) for name in given if name in own}
    missing = [
        name
        for name in own
        # Checkpoints before torch 0.4.1 lack the counter; a tied weight may be stored under one name.
        if name not in given and not name.endswith("num_batches_tracked") and _address(own[name]) not in held
    ]
    unexpected = [name for name in given if name not in own]
    if missing or unexpected:
        sides = (("lacks", missing), ("has unexpected", unexpected))
        said = " and ".join(f"{verb} {_few(names)}" for verb, names in sides if names)
        raise LoadError(
            f"{path} does not fit [model] factory = '{section.factory}': it {said}; "
            "build the network that was trained (see [model] arguments)."
        )


def _address(value: Any) -> object:
    return value.data_ptr() if isinstance(value, Tensor) and value.numel() else object()


def _refuse_other_shapes(
    given: Mapping[str, Any], own: Mapping[str, Any], section: ModelSection, path: Path
) -> None:
    differing = [
        f"{name} {_shape(value)} instead of {_shape(own[name])}"
        for name, value in given.items()
        if isinstance(own[name], Tensor) and _shape(value) != _shape(own[name])
    ]
    if differing:
        raise LoadError(
            f"{path} does not fit [model] factory = '{section.factory}': {_few(differing)}; "
            "build the network that was trained (see [model] arguments)."
        )


def _shape(value: Any) -> object:
    return list(value.shape) if isinstance(value, Tensor) else f"a {type(value).__name__}"


def _few(names: Any) -> str:
    listed = [str(name) for name in names]
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return ", ".join(listed[:_NAMED]) + more


def trusted(path: Path) -> Any:
    """Unpickle a file whole: runs whatever it says. Only for `trust = true`.

    Raises:
        LoadError: it cannot be unpickled, e.g. because a class it names is not on the path.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _unpickle(path)
    except Exception as error:
        raise LoadError(
            f"{path} cannot be unpickled: {type(error).__name__}: {first_line(error)}; the classes it "
            "names must be beside audit.toml or on the path."
        ) from error


def _unpickle(path: Path) -> Any:
    if is_torch_save(path):
        return torch.load(path, map_location="cpu", weights_only=False)
    with path.open("rb") as file:
        return pickle.load(file)  # noqa: S301 - the user set trust = true
