"""Inspection of a .pt2 archive before torch opens it.

`torch.export.load` runs what an archive says in more places than its pickles; torch 2.13 was made to run
code by each of these, and the tests do it again. Each is closed by a list of what is allowed:

- pickles: sample inputs, weights and constants marked `use_pickle`, and the legacy records `*.pt`. Each
  must pass torch's restricted unpickler first;
- custom and opaque objects, and compiled libraries (`data/aotinductor`), are refused;
- the graph is JSON, but torch evaluates its shape expressions with sympy, which is `eval`; writes its
  names into Python source that it compiles; imports modules that a nesting of inputs names; and looks
  operators up by any dotted name below `torch`. What an export does not write there is refused;
- guards are Python source that `ExportedProgram.module()` compiles. The loader drops them.
"""

import ast
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from audit.errors import LoadError
from audit.loaders.archive import Archive
from audit.loaders.weights import read_weights

Rule = Callable[[str], bool]

_PLAIN = re.compile(
    r"archive_format|archive_version|byteorder|version|\.data/(version|serialization_id)|extra(_files)?/.*"
    r"|data/weights/weight_\d+|data/constants/tensor_\d+"
)
_GRAPH = re.compile(r"models/[\w.-]+\.json|serialized_exported_program\.json")
_CONFIG = re.compile(r"data/(weights|constants)/[\w.-]+_(weights|constants)_config\.json")
_PICKLED = re.compile(
    r"data/(weights|constants|sample_inputs)/[\w.-]+\.pt"
    r"|serialized_(state_dict|constants|example_inputs)\.(pt|json)"
)
_PAYLOAD = re.compile(r"(weight|tensor)_\d+")

_NAMESPACES = {"aten", "prims", "quantized", "quantized_decomposed", "torchvision"}
_HIGHER_ORDER = {"cond", "map_impl", "scan", "while_loop", "associative_scan", "flex_attention"} | {
    "wrap_with_set_grad_enabled",
    "wrap_with_autocast",
}
# These open or write files.
_FILE_OPERATORS = {"save", "load", "from_file"}
_DUNDER = {"__and__", "__or__", "__xor__", "__lshift__", "__rshift__"}
_PYTHON_OPERATORS = {"getitem", "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "neg", "pos"} | {
    *("eq", "ne", "lt", "le", "gt", "ge", "and_", "or_", "not_", "abs", "xor", "lshift", "rshift"),
}
_MATH = {"ceil", "floor", "trunc", "sqrt"}

_IDENTIFIER = re.compile(r"[A-Za-z_]\w*|")
_DOTTED = re.compile(r"[\w.@]*")
_ORDINARY = re.compile(r"[\w.:+\- ]*")
_TREE_TYPES = {None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"}

_EXPRESSION_NODES = (
    *(ast.Expression, ast.Load, ast.keyword, ast.BinOp, ast.UnaryOp),
    *(ast.operator, ast.unaryop, ast.Compare, ast.cmpop, ast.BoolOp, ast.boolop, ast.Tuple),
)
_FUNCTIONS = {"Symbol", "Integer", "Float", "Rational", "Add", "Mul", "Pow", "Mod", "Max", "Min", "Abs"} | {
    *("Eq", "Ne", "Lt", "Le", "Gt", "Ge", "And", "Or", "Not", "Equality", "Unequality", "StrictLessThan"),
    *("LessThan", "StrictGreaterThan", "GreaterThan", "Piecewise", "ExprCondPair", "floor", "ceiling"),
    *("FloorDiv", "ModularIndexing", "Where", "PythonMod", "CleanDiv", "CeilToInt", "FloorToInt", "CeilDiv"),
    *("LShift", "RShift", "PowByNatural", "FloatPow", "FloatTrueDiv", "IntTrueDiv", "TruncToFloat"),
    *("TruncToInt", "RoundToInt", "RoundDecimal", "ToFloat", "Identity"),
    "IsNonOverlappingAndDenseIndicator",
}


def inspect_archive(archive: Archive) -> None:
    """Refuse an archive that could run code when torch loads it.

    Raises:
        LoadError: a record is of a kind that is not allowed, or holds what an export does not write.
    """
    for name in archive.names:
        where = f"{archive.path}, record '{name}'"
        if _GRAPH.fullmatch(name):
            _inspect_graph(_json(archive, name, where), where)
        elif _CONFIG.fullmatch(name):
            _inspect_config(archive, name, where)
        elif _PICKLED.fullmatch(name):
            _inspect_pickle(archive.read(name), where)
        elif not _PLAIN.fullmatch(name):
            raise LoadError(
                f"{where}: compiled code, custom objects and unknown records can run anything; export the "
                "model again with torch.export.save, or set [model] trust = true."
            )


def _json(archive: Archive, name: str, where: str) -> Any:
    try:
        return json.loads(archive.read(name))
    except (ValueError, RecursionError) as error:
        raise LoadError(f"{where} is not valid JSON: {error}; save the model again.") from None


def _inspect_pickle(pickled: bytes, where: str) -> None:
    if pickled:
        read_weights(pickled, where)


def _inspect_config(archive: Archive, name: str, where: str) -> None:
    """Each entry names a plain record of its own folder; a pickled one must be weights alone."""
    entries = _json(archive, name, where)
    entries = entries.get("config") if isinstance(entries, dict) else None
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise LoadError(f"{where} is not a list of tensors; save the model again.")
    _walk(entries, (), where)
    for tensor, entry in entries.items():
        payload = entry.get("path_name")
        if not isinstance(payload, str) or not _PAYLOAD.fullmatch(payload):
            raise _refusal(where, f"'{tensor}' kept as the object '{payload}' and not as a tensor")
        if entry.get("use_pickle"):
            record = f"{name.rpartition('/')[0]}/{payload}"
            _inspect_pickle(archive.read(record), f"{archive.path}, record '{record}'")


def _inspect_graph(graph: Any, where: str) -> None:
    if not isinstance(graph, dict) or "graph_module" not in graph:
        raise LoadError(f"{where} holds no graph; save the model again.")
    _walk({key: value for key, value in graph.items() if key != "guards_code"}, (), where)


def _walk(value: Any, place: tuple[str, ...], where: str) -> None:
    """Hold every string and every key of the JSON against the rule of its place."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if not _ORDINARY.fullmatch(key):
                raise _refusal(where, f"the key {key[:80]!r} below '{'.'.join(place[-3:])}'")
            if key != "metadata":
                _walk(inner, (*place, key), where)
    elif isinstance(value, list):
        for inner in value:
            _walk(inner, place, where)
    elif isinstance(value, str) and not _rule(place)(value):
        raise _refusal(where, f"{'.'.join(place[-3:])} = {value[:80]!r}")


def _refusal(where: str, what: str) -> LoadError:
    return LoadError(
        f"{where}: {what} is not what an export writes, and torch could run it as code; export the model "
        "again, or set [model] trust = true if you trust its author with this machine."
    )


def _rule(place: tuple[str, ...]) -> Rule:
    return _RULES.get(place[-1] if place else "", lambda text: bool(_ORDINARY.fullmatch(text)))


def _matches(pattern: re.Pattern[str]) -> Rule:
    return lambda text: bool(pattern.fullmatch(text))


def is_operator(target: str) -> bool:
    """Whether a graph may call it: a tensor operator that neither opens files nor runs code."""
    parts = target.split(".")
    match parts:
        case ["_operator", name]:
            return name in _PYTHON_OPERATORS
        case ["math", name]:
            return name in _MATH
        case ["torch", name]:
            return re.fullmatch(r"_?sym_[a-z]+", name) is not None
        case ["torch", "ops", "higher_order", name]:
            return name in _HIGHER_ORDER
        case ["torch", "ops", namespace, name, overload]:
            return namespace in _NAMESPACES and _is_tensor_operator(name, overload)
    return False


def _is_tensor_operator(name: str, overload: str) -> bool:
    if name in _FILE_OPERATORS or (name.startswith("__") and name not in _DUNDER):
        return False
    return name.isidentifier() and overload.isidentifier() and not overload.startswith("_")


def is_expression(text: str) -> bool:
    """Whether it is arithmetic on symbols, as torch writes shapes; nothing that could be more."""
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return all(_is_arithmetic(node) for node in ast.walk(tree))


def _is_arithmetic(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS
    if isinstance(node, ast.Name):
        return not node.id.startswith("__")
    if isinstance(node, ast.Constant):
        # sympy parses strings too: only a symbol's name or a number may stand there.
        text = node.value if isinstance(node.value, str) else ""
        return isinstance(node.value, int | float) or bool(re.fullmatch(r"[a-z]+\d+|-?\d+(\.\d+)?", text))
    return isinstance(node, _EXPRESSION_NODES)


def is_tree(text: str) -> bool:
    """Whether it is a nesting of tuples, lists and dictionaries: other kinds make torch import modules."""
    try:
        protocol, tree = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return False
    return protocol == 1 and all(map(_is_plain_branch, _branches(tree)))


def _branches(tree: Any) -> Iterator[Any]:
    yield tree
    for child in tree.get("children_spec") or () if isinstance(tree, dict) else ():
        yield from _branches(child)


def _is_plain_branch(branch: Any) -> bool:
    if not isinstance(branch, dict) or branch.get("type") not in _TREE_TYPES:
        return False
    try:
        context = json.loads(branch.get("context") or "null")
    except (ValueError, TypeError):
        return False
    return context is None or (isinstance(context, list) and all(map(_is_key, context)))


def _is_key(key: Any) -> bool:
    return isinstance(key, int) or (isinstance(key, str) and key.isidentifier())


_RULES: dict[str, Rule] = {
    "name": _matches(_IDENTIFIER),
    "as_name": _matches(_IDENTIFIER),
    "forward_arg_names": _matches(_IDENTIFIER),
    **dict.fromkeys(
        ("fqn", "parameter_name", "buffer_name", "tensor_constant_name", "custom_obj_name"), _matches(_DOTTED)
    ),
    "target": is_operator,
    "as_operator": is_operator,
    "expr_str": is_expression,
    "in_spec": is_tree,
    "out_spec": is_tree,
    # Handed to operators as text, e.g. an einsum equation; torch writes its repr.
    "as_string": lambda _: True,
    "as_strings": lambda _: True,
}
