"""Load a model: find out what the file is, read it safely, put it on its device, look at it before use."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from audit.config import ModelSection, Output
from audit.dataset import Dataset, Floats
from audit.errors import AuditError, ConfigError, LoadError, NotApplicable, nearest
from audit.loaders.archive import FORMATS, SUFFIXES, format_of
from audit.loaders.device import resolve_device
from audit.loaders.factory import first_line
from audit.loaders.loaded import Loaded
from audit.model import Model, OutputKind, Probe
from audit.plainfile import plain_file
from audit.preflight import PREFLIGHT_ROWS, preflight
from audit.record import plain
from audit.registry import installed_functions

_CHUNK = 1 << 20


def load_model(section: ModelSection, folder: Path, rows: Floats | None = None) -> Model:
    """Load the model of `[model]`; with rows of its data it also goes through the pre-flight.

    Args:
        section: `[model]` of audit.toml.
        folder: where its relative paths start.
        rows: [N, ...] raw input rows; some 32 of them, spread over the data, are looked at.

    Raises:
        LoadError: the file, its factory or the device is missing, the file could run code and is not
            trusted, or the model does not answer the rows as it should.
        ConfigError: a key of the section is wrong.
    """
    if section.path is None:
        raise ConfigError("[model] names predictions and no path, so there is no model to load.")
    path = section.path if section.path.is_absolute() else folder / section.path
    _refuse_wrong_keys(section)
    classes = read_classes(section, folder)
    device = resolve_device(section.device)
    loader = _loader_name(section, path)
    loaded = _read(loader, path, section, folder)
    model = replace(
        _with_capabilities(loaded, loader),
        module=_ready(loaded.module, device, path),
        device=device,
        task=section.task,
        output=_assumed(section.output, section.task),
        classes=classes,
        input_range=section.input_range,
        mean=section.normalize.mean if section.normalize else (),
        std=section.normalize.std if section.normalize else (),
        trust=section.trust,
        fingerprint=fingerprint(path),
        source={"file": path.name, "bytes": path.stat().st_size, **loaded.source},
    )
    model.passes.batch = section.batch_size or model.passes.batch
    return model if rows is None else _looked_at(model, rows, section)


def _looked_at(model: Model, rows: Floats, section: ModelSection) -> Model:
    if not len(rows):
        raise LoadError(f"the data for {section.path} holds no rows, so the model cannot be tried.")
    spread = np.unique(np.linspace(0, len(rows) - 1, PREFLIGHT_ROWS).astype(int))
    model = preflight(model, rows[spread], section.output)
    model.passes.batch = section.batch_size or model.passes.batch
    return model


class _Nothing(nn.Module):
    """Stands where a model would; it has no parameters and refuses to answer."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        del inputs
        raise NotApplicable("no model was run, so there is nothing that could answer.")


def no_model(predictions: str, data: Dataset) -> Model:
    """What stands for the model where the data hold its answers: no network, no logits, no gradients.

    Its fingerprint is that of the data file, and the record says that no model was run.

    Args:
        predictions: the column that holds decisions or scores.
        data: what was read; its `decisions` are those of that column.
    """
    said = f"No model was run: the predictions are those of column '{predictions}' of the data file"
    file = {key: data.source[key] for key in ("file", "predictions") if key in data.source}
    return Model(
        module=_Nothing().eval(),
        device=torch.device("cpu"),
        output="labels" if data.scores is None else "single_probability",
        classes=data.classes,
        capabilities=frozenset({"predictions"}),
        ruled_out=(f"{said}, which rules out logits, gradients and modules.",),
        caveats=(f"{said}. The hash of the model is the hash of that file.",),
        loader="none",
        fingerprint=str(data.source.get("sha256", "")),
        source=file,
        preflight=(Probe("model", passed=False, detail="no model was run, so none was looked at"),),
    )


def _assumed(declared: Output, task: str) -> OutputKind:
    if task == "regression":
        return "values"
    return "logits" if declared == "auto" else declared


def _refuse_wrong_keys(section: ModelSection) -> None:
    normalize = section.normalize
    if normalize and len(normalize.mean) != len(normalize.std):
        raise ConfigError(
            f"[model] normalize has {len(normalize.mean)} means and {len(normalize.std)} values of std; "
            "give one of each for a channel."
        )
    if normalize and not all(value > 0 for value in normalize.std):
        raise ConfigError(
            f"[model] normalize.std = {list(normalize.std)} is wrong; each must be greater than 0."
        )
    if section.input_range and not section.input_range[0] < section.input_range[1]:
        raise ConfigError(
            f"[model] input_range = {list(section.input_range)} is wrong; write it as [lowest, highest]."
        )


def read_classes(section: ModelSection, folder: Path) -> tuple[str, ...]:
    """Class names in the order of the outputs: given in the section, or one a line of a text file.

    Raises:
        LoadError: the file cannot be read as text.
        ConfigError: a name comes twice.
    """
    if section.classes is None:
        return ()
    names = section.classes if isinstance(section.classes, tuple) else _lines(folder / section.classes)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"[model] classes names '{twice}' twice; each class needs a name of its own.")
    return names


def _lines(path: Path) -> tuple[str, ...]:
    try:
        lines = plain_file(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LoadError(f"[model] classes = '{path}' cannot be read as text: {first_line(error)}.") from None
    return tuple(line.strip() for line in lines if line.strip())


def _loader_name(section: ModelSection, path: Path) -> str:
    """The loader to use; a built-in one only for a file whose content is of its format."""
    named = section.loader
    if named != "auto" and named not in FORMATS:
        return named
    found = format_of(path)
    claimed = named if named != "auto" else SUFFIXES.get(path.suffix.lower(), found)
    if claimed != found:
        said = f"[model] loader = '{named}'" if named != "auto" else f"its name ends in '{path.suffix}'"
        raise LoadError(
            f"{path} is a {found} file by its content, but {said}; "
            f"give it its true name, or set [model] loader = '{found}'."
        )
    return found


def _read(name: str, path: Path, section: ModelSection, folder: Path) -> Loaded:
    installed = installed_functions("audit.loaders")
    if name not in installed:
        raise ConfigError(f"[model] loader = '{name}' is not installed{nearest(name, installed)}.")
    if not path.is_file():
        raise LoadError(f"{path} does not exist; [model] path is relative to audit.toml.")
    try:
        load: Callable[..., Any] = installed[name].load()
        loaded = load(path, section, folder)
    except AuditError:
        raise
    except Exception as error:
        raise LoadError(
            f"{path}: the loader '{name}' failed: {type(error).__name__}: {first_line(error)}."
        ) from error
    if isinstance(loaded, nn.Module):
        return Loaded(loaded)
    if not isinstance(loaded, Loaded):
        raise LoadError(f"{path}: the loader '{name}' returned a {type(loaded).__name__}, not a network.")
    return loaded


def _with_capabilities(loaded: Loaded, loader: str) -> Model:
    """Exported programs and TorchScript compute without calling the layers that they list."""
    model = Model(module=loaded.module, device=torch.device("cpu"), loader=loader, caveats=loaded.caveats)
    if loader not in {"pt2", "torchscript"}:
        return model
    reason = f"A {loader} file has no layers that can be looked into, which rules out modules."
    return replace(model, capabilities=model.capabilities - {"modules"}, ruled_out=(reason,))


def _ready(module: nn.Module, device: torch.device, path: Path) -> nn.Module:
    try:
        module.eval()
    except NotImplementedError:
        # An exported graph has no modes; its loader refused one that was exported in training mode.
        for part in module.modules():
            part.training = False
    try:
        return module.to(device)
    except (RuntimeError, NotImplementedError) as error:
        raise LoadError(f"{path} cannot be put on device '{device}': {first_line(error)}.") from error


def fingerprint(path: Path) -> str:
    """sha256 of a file, read in parts."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(_CHUNK):
            digest.update(part)
    return digest.hexdigest()


def describe_model(model: Model) -> dict[str, Any]:
    """What the record says of a model, as JSON values; nothing of it depends on time or place."""
    cuda = model.device.type == "cuda"
    return {
        **plain(model.source),
        "sha256": model.fingerprint,
        "loader": model.loader,
        "trust": model.trust,
        "device": torch.cuda.get_device_name(model.device) if cuda else str(model.device),
        "task": model.task,
        "output": model.output,
        "classes": list(model.classes),
        "parameters": sum(parameter.numel() for parameter in model.module.parameters()),
        "input_shape": list(model.input_shape),
        "input_range": None if model.input_range is None else list(model.input_range),
        "normalize": {"mean": list(model.mean), "std": list(model.std)} if model.mean else None,
        "batch_size": model.passes.batch,
        "capabilities": sorted(model.capabilities),
        "ruled_out": list(model.ruled_out),
        "caveats": list(model.caveats),
        "preflight": plain(model.preflight),
    }
