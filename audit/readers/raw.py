"""Raw: what a reader found in a file, before anything is encoded. Nothing is guessed and nothing is lost.

A cell stays what the file holds: a literal "N/A" in a CSV is that text, so that it can be named in an error
or counted in the group `unknown`. Row numbers count data rows from 1, the header not included.
"""

import hashlib
import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from audit.dataset import Ints
from audit.errors import LoadError, nearest
from audit.plainfile import plain_file

if TYPE_CHECKING:
    import pandas as pd

Array = npt.NDArray[Any]
Doubles = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
_TRUTH = {"true": 1.0, "false": 0.0}
_CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Raw:
    """What stands in a file of inputs and labels.

    Attributes:
        path: the file that errors name; for a folder of images its CSV of labels.
        table: N rows; every column of a table, or the labels and sensitive columns that go with `inputs`.
            Its index is the row number in the file, from 1.
        target: name of the column of `table` that holds the labels.
        inputs: None for a table, whose columns are the inputs; else a [N, ...] array, or a function that
            reads the rows at the given positions.
        names: names of the columns of a [N, D] `inputs`; empty when the file has none.
        image: whether the file says that its inputs are images.
        unit: what a row of `table` is, for errors: one row of the file, or a combination of values.
    """

    path: Path
    table: "pd.DataFrame"
    target: str
    inputs: Array | Callable[[Ints], Array] | None = None
    names: tuple[str, ...] = ()
    image: bool = False
    unit: str = "rows"

    def column(self, name: str, key: str) -> "pd.Series[Any]":
        """A column of the table; `key` says which key of audit.toml asks for it.

        Raises:
            LoadError: there is no such column.
        """
        if name not in self.table.columns:
            known = nearest(name, map(str, self.table.columns))
            raise LoadError(f"{self.path} has no column '{name}', which {key} names{known}.")
        return self.table[name]


def numbered(columns: "pd.DataFrame") -> "pd.DataFrame":
    """The same table, its index the row number from 1."""
    import pandas as pd

    return columns.set_axis(pd.RangeIndex(1, len(columns) + 1), axis=0)


def as_text(value: object) -> str:
    """A cell as the user writes it: 1.0 and 1 are both `1`, bytes are decoded."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, float | np.floating) and math.isfinite(value) and float(value).is_integer():
        return str(int(value))
    return str(value)


def as_number(text: str) -> float:
    """A cell as a number; true and false are 1 and 0; NaN for anything else."""
    plain = text.strip()
    if plain.lower() in _TRUTH:
        return _TRUTH[plain.lower()]
    try:
        return math.nan if "_" in plain else float(plain)
    except ValueError:
        return math.nan


def coded(column: "pd.Series[Any]") -> tuple[Ints, list[str]]:
    """[N] index into the distinct values for each cell, -1 for an empty one, and those values as text."""
    index: dict[str, int] = {}
    found, values = _factors(column)
    translate = [index.setdefault(as_text(value), len(index)) for value in values]
    return np.array([*translate, -1], dtype=np.int64)[found], list(index)


def _factors(column: "pd.Series[Any]") -> tuple[Ints, Iterable[Any]]:
    import pandas as pd

    typed = (pd.CategoricalDtype, pd.StringDtype)
    plain = pd.api.types.is_numeric_dtype(column.dtype) or isinstance(column.dtype, typed)
    codes, values = pd.factorize(column if plain else column.to_numpy(dtype=object))
    return codes.astype(np.int64), values


def numbers(column: "pd.Series[Any]") -> Doubles:
    """[N] the cells as numbers, NaN where a cell is empty or is none."""
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column.dtype):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    plain = _plain_numbers(column.tolist())
    if plain is not None:
        return plain
    codes, values = coded(column)
    return np.array([*map(as_number, values), math.nan])[codes]


def _plain_numbers(cells: list[Any]) -> Doubles | None:
    """The cells at once where each is a number, which is the common case; else None."""
    if not all(isinstance(cell, str) and "_" not in cell for cell in cells):
        return None
    try:
        return np.array([float(cell) for cell in cells], dtype=np.float64)
    except ValueError:
        return None


def missing_rows(column: "pd.Series[Any]", markers: Collection[str]) -> Mask:
    """[N] whether a cell is empty or holds one of the markers, spaces around it not counted."""
    import pandas as pd

    empty = column.isna().to_numpy(dtype=np.bool_)
    if pd.api.types.is_numeric_dtype(column.dtype):
        coded_as = [value for value in map(as_number, markers) if math.isfinite(value)]
        return empty | np.isin(numbers(column), coded_as)
    told = [(c if isinstance(c, str) else as_text(c)).strip() in markers for c in column.tolist()]
    return empty | np.array(told, dtype=np.bool_)


def cell_at(column: "pd.Series[Any]", rows: Mask) -> tuple[int, str]:
    """Row number and quoted text of the first cell that `rows` marks; an empty cell is `(empty)`."""
    position = int(np.argmax(rows))
    value = column.iloc[position]
    codes, _ = _factors(column.iloc[[position]])
    return int(column.index[position]), "(empty)" if codes[0] < 0 else repr(as_text(value))


def digest(path: Path) -> str:
    """sha256 of a file, read in pieces.

    Raises:
        LoadError: the file cannot be read.
    """
    whole = hashlib.sha256()
    try:
        with plain_file(path).open("rb") as file:
            while piece := file.read(_CHUNK):
                whole.update(piece)
    except OSError as error:
        raise LoadError(f"{path} cannot be read: {error.strerror or error}.") from None
    return whole.hexdigest()
