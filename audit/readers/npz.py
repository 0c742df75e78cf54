"""`.npz` files of numpy arrays. Pickled (object) arrays are never opened."""

from pathlib import Path
from typing import Any

from audit.arrays import opened_arrays
from audit.config import DataSection
from audit.errors import LoadError, nearest
from audit.readers.raw import Array, Raw, numbered

_INPUTS = ("inputs", "images", "x", "X")
_LABELS = ("labels", "label", "y", "Y", "target")
_NAMES = "feature_names"


def read(path: Path, section: DataSection) -> Raw:
    """Arrays `inputs` (or `images`, `x`), `labels` (or `y`, or the key that `[data] target` names).

    Each sensitive feature and each column of `where` is a one-dimensional array of its own name. An array
    `feature_names` names the columns of a [N, D] input.

    Raises:
        LoadError: the file is not `.npz`, an array is absent, pickled, or of another length than the inputs.
    """
    try:
        with opened_arrays(path) as archive:
            return _collect(path, section, archive)
    except ValueError as error:
        raise LoadError(f"{path} is not an .npz file of plain arrays: {error}.") from None


def _collect(path: Path, section: DataSection, archive: Any) -> Raw:
    import pandas as pd

    key = _first_of(path, archive, _INPUTS, "inputs")
    target = section.target or _first_of(path, archive, _LABELS, "labels")
    inputs = _array(path, archive, key)
    if inputs.ndim < 2 or not len(inputs):  # noqa: PLR2004 - rows and at least one column
        raise LoadError(f"{path}: '{key}' has shape {inputs.shape}; it must be [rows, ...] with some rows.")
    wanted = dict.fromkeys([target, *section.sensitive, *section.where])
    columns = {name: _column(path, archive, name, len(inputs)) for name in wanted}
    names = tuple(map(str, _array(path, archive, _NAMES))) if _NAMES in archive else ()
    return Raw(
        path=path,
        table=numbered(pd.DataFrame(columns)),
        target=target,
        inputs=inputs,
        names=names,
        image=key == "images",
    )


def _first_of(path: Path, archive: Any, names: tuple[str, ...], what: str) -> str:
    for name in names:
        if name in archive:
            return name
    found = ", ".join(f"'{name}'" for name in archive) or "nothing"
    raise LoadError(
        f"{path} has no array of {what}: it holds {found}; call the array '{names[0]}' or '{names[1]}'."
    )


def _array(path: Path, archive: Any, name: str) -> Array:
    if name not in archive:
        raise LoadError(f"{path} has no array '{name}'{nearest(name, archive)}.")
    found: Array = archive[name]
    return found


def _column(path: Path, archive: Any, name: str, rows: int) -> Array:
    found = _array(path, archive, name)
    if found.shape not in ((rows,), (rows, 1)):
        raise LoadError(
            f"{path}: array '{name}' has shape {found.shape}, but there are {rows} rows of inputs; "
            f"it must be ({rows},)."
        )
    return found.reshape(rows)
