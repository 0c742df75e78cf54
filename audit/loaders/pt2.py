"""`.pt2`: a program exported by `torch.export.save`.

What the format can execute: unlike its reputation, a .pt2 file is not safe by itself. Loading it unpickles
sample inputs and some weights, evaluates shape expressions, compiles names into Python and loads compiled
libraries. So the archive is inspected first (`audit.loaders.inspection`) and refused where it holds
anything that could run; with `trust = true` it is loaded all the same and the record says what was found.
A file that passes runs tensor operators alone.
"""

import inspect
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.fx import GraphModule, Node

from audit.config import ModelSection
from audit.errors import LoadError
from audit.loaders.archive import Archive, read_archive
from audit.loaders.batched import Batched
from audit.loaders.device import resolve_device
from audit.loaders.factory import first_line
from audit.loaders.inspection import inspect_archive
from audit.loaders.loaded import Loaded
from audit.loaders.weights import weights_only

_MODES = {"train", "training"}
_UNBOUNDED = 2**31


def load(path: Path, section: ModelSection, folder: Path) -> Loaded:  # noqa: ARG001 - the signature of every loader
    """Load an exported program, inspected first.

    Raises:
        LoadError: it could run code and is not trusted, is damaged, takes more than one input, or was
            exported in training mode.
    """
    archive = read_archive(path)
    finding = _inspect(archive, section.trust)
    program = _program(archive, trust=section.trust and bool(finding))
    names = program.graph_signature.user_inputs
    if len(names) != 1:
        raise LoadError(f"{path} takes {len(names)} inputs ({', '.join(map(str, names))}); it must take one.")
    device = resolve_device(section.device)
    if device.type != "cpu":
        from torch.export.passes import move_to_device_pass

        program = move_to_device_pass(program, device)
    module = _module(program)
    _refuse_training_mode(module, path)
    loaded = _with_batches(module, program, str(names[0]), path)
    caveats = (*loaded.caveats, *([f"Loaded on trust: {finding}"] if finding else []))
    return Loaded(loaded.module, caveats, {**loaded.source, "inspection": finding or "passed"})


def _inspect(archive: Archive, trust: bool) -> str:
    """What the inspection objects to, where the user trusts the file nevertheless; else empty."""
    try:
        inspect_archive(archive)
    except LoadError as error:
        if not trust:
            raise
        return str(error)
    return ""


def _program(archive: Archive, *, trust: bool) -> Any:
    # torch.export.load has an older layout as its fallback, chosen by any error; inspection covers both.
    with nullcontext() if trust else weights_only(), _quiet():
        try:
            program = torch.export.load(io.BytesIO(archive.whole))
        except Exception as error:
            raise LoadError(
                f"{archive.path} cannot be loaded as an exported program: {type(error).__name__}: "
                f"{first_line(error)}; export it again with this version of torch ({torch.__version__})."
            ) from error
    program._guards_code = []  # noqa: SLF001 - Python source out of the file that module() would run
    return program


@contextmanager
def _quiet() -> Iterator[None]:
    """Torch logs whole tracebacks while it falls back; the user gets one sentence instead."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _module(program: Any) -> GraphModule:
    accepts = inspect.signature(program.module).parameters
    with _quiet():
        module: GraphModule = program.module(**({"check_guards": False} if "check_guards" in accepts else {}))
    for part in module.modules():
        # A graph has no modes, and refuses eval(); its mode is what it was exported in.
        part.training = False
    return module


def _refuse_training_mode(module: nn.Module, path: Path) -> None:
    graphs = [part.graph for part in module.modules() if isinstance(part, GraphModule)]
    active = sorted({_plain_name(node) for graph in graphs for node in graph.nodes if _in_training(node)})
    if active:
        raise LoadError(
            f"{path} was exported in training mode ({', '.join(active[:3])} active); "
            "call model.eval() before torch.export.export."
        )


def _in_training(node: Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return False
    given = dict(zip((argument.name for argument in schema.arguments), node.args, strict=False))
    return any((given | dict(node.kwargs)).get(mode) is True for mode in _MODES)


def _plain_name(node: Node) -> str:
    return str(node.target).split(".")[1]


def _with_batches(module: GraphModule, program: Any, name: str, path: Path) -> Loaded:
    """The module as it is, or inside `Batched` where the export fixed or bounded the batch."""
    node = next(node for node in program.graph.nodes if node.name == name)
    value = node.meta.get("val")
    if not isinstance(value, torch.Tensor) or not value.ndim:
        raise LoadError(f"{path} takes '{name}', which is not a batch of rows.")
    shape = [int(size) if isinstance(size, int) else None for size in value.shape[1:]]
    low, high = _bounds(value.shape[0], program)
    source: dict[str, Any] = {"exported_shape": shape, "batch": [low, high] if high < _UNBOUNDED else None}
    if low == high:
        rows = "row by row" if low == 1 else f"{low} rows at a time, the last of them padded"
        caveat = f"The export fixes the batch at {low} row{'s' if low > 1 else ''}, so it is run {rows}."
        return Loaded(Batched(module, low, high), (caveat,), source)
    if low > 1 or high < _UNBOUNDED:
        return Loaded(Batched(module, low, high), (), source)
    return Loaded(module, (), source)


def _bounds(size: Any, program: Any) -> tuple[int, int]:
    """Smallest and largest batch that the export takes."""
    if isinstance(size, int):
        return size, size
    interval = program.range_constraints.get(size.node.expr)
    if interval is None:
        return 1, _UNBOUNDED
    return max(1, _whole(interval.lower, 1)), max(1, _whole(interval.upper, _UNBOUNDED))


def _whole(value: Any, otherwise: int) -> int:
    try:
        return min(_UNBOUNDED, int(value))
    except (TypeError, ValueError, OverflowError, AttributeError):
        return otherwise
