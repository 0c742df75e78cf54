"""Rows that the user gives in an `.npz` file of their own: training data, examples of a concept."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from audit.arrays import opened_arrays
from audit.dataset import Dataset, Floats, Ints
from audit.errors import LoadError, nearest

_INPUTS = ("inputs", "images")


def given_inputs(folder: Path, path: str, data: Dataset) -> Floats:
    """[N, ...] float32 raw inputs of the same shape as the audit's own.

    Args:
        folder: what `path` is relative to.
        path: an `.npz` file with an array `inputs` or `images`; pickled arrays are not opened.
        data: the audit's data.

    Raises:
        LoadError: the file cannot be read, or its rows are not of the shape of the data, or not finite.
    """
    found = _array(folder / path, _INPUTS)
    if found.shape[1:] != data.inputs.shape[1:] or not len(found):
        wanted = ", ".join(map(str, data.inputs.shape[1:]))
        raise LoadError(f"{folder / path}: inputs have shape {found.shape}; they must be [rows, {wanted}].")
    if not np.issubdtype(found.dtype, np.number) or not np.isfinite(found).all():
        raise LoadError(f"{folder / path}: inputs must be finite numbers, as the model takes them.")
    return found.astype(np.float32)


def given_labels(folder: Path, path: str, rows: int, classes: int) -> Ints:
    """[rows] class index of each row, the array `labels`.

    Raises:
        LoadError: the file has no such array, of this length and with these classes.
    """
    found = _array(folder / path, ("labels",))
    if found.shape != (rows,) or not np.issubdtype(found.dtype, np.integer):
        raise LoadError(
            f"{folder / path}: 'labels' is {found.dtype} of shape {found.shape}; it must be {rows} "
            "class indices."
        )
    if rows and (found.min() < 0 or found.max() >= classes):
        raise LoadError(
            f"{folder / path}: 'labels' go from {found.min()} to {found.max()}; "
            f"the model has classes 0 to {classes - 1}."
        )
    return found.astype(np.int64)


def _array(path: Path, names: Sequence[str]) -> npt.NDArray[np.generic]:
    try:
        with opened_arrays(path) as archive:
            for name in names:
                if name in archive:
                    return archive[name]
            raise LoadError(f"{path} has no array '{names[0]}'{nearest(names[0], archive)}.")
    except ValueError as error:
        raise LoadError(f"{path} is not a readable .npz file of plain arrays: {error}.") from None
