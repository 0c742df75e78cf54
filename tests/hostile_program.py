"""Hostile .pt2 files; those in EXECUTED make torch 2.13 run code when it loads them."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile import Payload, exported, legacy_export, plain_pickle, saved, with_records

WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"
GRAPH = "models/model.json"


def code(marker: Path) -> str:
    """An expression that leaves the marker."""
    return f"__import__('os').mkdir({str(marker)!r})"


def sample_inputs(path: Path, marker: Path) -> Path:
    return with_records(exported(path), {"data/sample_inputs/model.pt": saved(((Payload(marker),), {}))})


def pickled_weight(path: Path, marker: Path) -> Path:
    def mark(config: Any) -> None:
        first = next(iter(config["config"].values()))
        first.update(use_pickle=True, path_name="weight_99")

    return with_records(exported(path), {WEIGHTS: mark, "data/weights/weight_99": saved(Payload(marker))})


def pickled_constant(path: Path, marker: Path) -> Path:
    def add(config: Any) -> None:
        config["config"]["c"] = _entry("tensor_0")

    return with_records(exported(path), {CONSTANTS: add, "data/constants/tensor_0": saved(Payload(marker))})


def opaque_object(path: Path, marker: Path) -> Path:
    def add(config: Any) -> None:
        config["config"]["c"] = _entry("opaque_obj_0")

    return with_records(exported(path), {CONSTANTS: add, "data/constants/opaque_obj_0": plain_pickle(marker)})


def _entry(name: str) -> dict[str, Any]:
    return {"path_name": name, "is_param": False, "use_pickle": True, "tensor_meta": None}


def legacy_weights(path: Path, marker: Path) -> Path:
    return with_records(exported(path), {"data/weights/model.pt": saved({"a": Payload(marker)})})


def legacy_constants(path: Path, marker: Path) -> Path:
    return with_records(exported(path), {"data/constants/model.pt": saved({"a": Payload(marker)})})


def legacy_layout(path: Path, marker: Path) -> Path:
    return legacy_export(path, example_inputs=saved((Payload(marker), {})))


def shape_expression(path: Path, marker: Path) -> Path:
    def change(graph: Any) -> None:
        assert _replace_first(graph, "expr_str", code(marker))

    return with_records(exported(path), {GRAPH: change})


def _replace_first(value: Any, key: str, text: str) -> bool:
    if isinstance(value, dict):
        if key in value:
            value[key] = text
            return True
        return any(_replace_first(inner, key, text) for inner in value.values())
    return isinstance(value, list) and any(_replace_first(inner, key, text) for inner in value)


def input_name(path: Path, marker: Path) -> Path:
    def change(graph: Any) -> Any:
        return json.loads(json.dumps(graph).replace('"rows"', json.dumps(f"rows={code(marker)}")))

    return with_records(exported(path), {GRAPH: change})


def guard(path: Path, marker: Path) -> Path:
    def change(graph: Any) -> None:
        graph["guards_code"] = [f"{code(marker)} or True"]

    return with_records(exported(path), {GRAPH: change})


def imported_type(path: Path, marker: Path) -> Path:
    """The module that is imported must be on the path already; here it stands beside the model."""
    (path.parent / "planted_module.py").write_text(f"import os; os.mkdir({str(marker)!r})")
    context = {"default_factory_module": "planted_module", "default_factory_name": "x", "dict_context": []}
    tree = {"type": "collections.defaultdict", "context": context, "children_spec": []}

    def change(graph: Any) -> None:
        graph["graph_module"]["module_call_graph"][0]["signature"]["out_spec"] = json.dumps([1, tree])

    return with_records(exported(path), {GRAPH: change})


EXECUTED: tuple[Callable[[Path, Path], Path], ...] = (
    *(sample_inputs, pickled_weight, pickled_constant, opaque_object),
    *(legacy_weights, legacy_constants, legacy_layout),
    *(shape_expression, input_name, imported_type),
)


def operator(path: Path, marker: Path) -> Path:
    """Stopped by torch's own verifier in 2.13, which is no reason to let it come so far."""

    def change(graph: Any) -> None:
        node = graph["graph_module"]["graph"]["nodes"][0]
        node["target"] = "torch.os.mkdir"
        node["inputs"] = [{"name": "", "arg": {"as_string": str(marker)}, "kind": 1}]

    return with_records(exported(path), {GRAPH: change})


def compiled_library(path: Path, marker: Path) -> Path:
    return with_records(exported(path), {"data/aotinductor/model/model.so": str(marker).encode()})


def unknown_record(path: Path, marker: Path) -> Path:
    return with_records(exported(path), {"data/anything": plain_pickle(marker)})


def twin_record(path: Path, marker: Path) -> Path:
    """Readers of zip files differ in which of two records of one name they return."""
    exported(path)
    with zipfile.ZipFile(path, "a") as archive:
        top = archive.namelist()[0].partition("/")[0]
        archive.writestr(f"{top}/data/sample_inputs/MODEL.pt", saved(((Payload(marker),), {})))
    return path


REFUSED = (*EXECUTED, operator, compiled_library, unknown_record, twin_record)
