"""Combinations: a Parquet file larger than memory, added up to its combinations of values and their rows.

What an audit of stated decisions counts is the same in a row for each person and in a row for each
combination of groups, outcome and decision with the number of people. No more rows than those of one
batch are in memory. Numbers that have too many values to be counted are first divided as they would be
later: a group column at the edges of `[data.bins]`, a score at the threshold.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from audit.config import DataSection
from audit.errors import LoadError, nearest
from audit.readers.parquet import plain_table
from audit.readers.raw import Raw, as_number

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 1_000_000
_BUFFER = 2**20
_MOST = 1_000_000
_PEOPLE, _FIRST = "people", "first row"


def read_combinations(
    section: DataSection, predictions: str, threshold: float, *, batch_rows: int = BATCH_ROWS
) -> tuple[Raw, str]:
    """The combinations of the columns that `[data]` names, in the order of their first row in the file.

    Args:
        section: the `[data]`; its path is absolute. The target and the columns of `sensitive`, `control` and
            `where` are read, all others are not.
        predictions: column of decisions or scores. Of a score only the side of the threshold is kept.
        threshold: the score from which on a row is decided for the favourable class.
        batch_rows: rows in memory at a time.

    Returns:
        A table of the combinations whose index is the first row of each in the file, from 1, and the name
        of its column that holds the number of rows.

    Raises:
        LoadError: the file cannot be read, a column is absent, a label or a prediction is missing or is no
            number that could be a score, or there are more than a million combinations.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    asked = (section.target, predictions, *section.sensitive, *section.control, *section.where)
    columns = list(dict.fromkeys(name for name in asked if name is not None))
    path = section.path
    try:
        with pq.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False) as file:
            _refuse_columns(path, columns, file.schema_arrow)
            added = _added(path, _divided(file, columns, section, predictions, threshold, batch_rows))
    except (OSError, pa.ArrowException) as error:
        raise LoadError(f"{path} is not a readable Parquet file: {str(error).splitlines()[0]}.") from None
    return _as_raw(path, added, columns, section.target or predictions)


def _as_raw(path: Path, added: "pa.Table", columns: list[str], target: str) -> tuple[Raw, str]:
    import pandas as pd

    ordered = added.sort_by(_FIRST)
    people = next(f"{_PEOPLE}{more}" for more in ("", *range(99)) if f"{_PEOPLE}{more}" not in columns)
    table = plain_table(ordered.select([_key(k) for k in range(len(columns))]).rename_columns(columns))
    table[people] = ordered[_PEOPLE].to_numpy()
    rows = pd.Index(ordered[_FIRST].to_numpy(), dtype=np.int64)
    return Raw(path=path, table=table.set_axis(rows, axis=0), target=target, unit="combinations"), people


def _key(place: int) -> str:
    """The name of a column in the table of sums, whatever the file calls it: it may be one of ours."""
    return f"column {place}"


def _refuse_columns(path: Path, columns: list[str], schema: "pa.Schema") -> None:
    import pyarrow as pa

    for name in columns:
        if name not in schema.names:
            raise LoadError(f"{path} has no column '{name}'{nearest(name, schema.names)}.")
        if schema.names.count(name) > 1:
            raise LoadError(f"{path}: two columns are called '{name}'; rename one.")
        kind = schema.field(name).type
        if pa.types.is_nested(kind):
            raise LoadError(f"{path}: column '{name}' is of type {kind}; store plain values.")


def _added(path: Path, batches: Iterator["pa.Table"]) -> "pa.Table":
    """All batches added up to their combinations."""
    import pyarrow as pa

    total: pa.Table | None = None
    for batch in batches:
        found = _summed(batch)
        total = found if total is None else _summed(pa.concat_tables([total, found]))
        if total.num_rows > _MOST:
            raise LoadError(
                f"{path}: its columns have more than {_MOST:,} combinations of values; [data.bins] divides a "
                "column of numbers, and a column that names single rows cannot be counted."
            )
    if total is None or not total.num_rows:
        raise LoadError(f"{path} holds no rows; add some.")
    return total


def _summed(table: "pa.Table") -> "pa.Table":
    keys = [name for name in table.column_names if name not in (_PEOPLE, _FIRST)]
    sums = table.group_by(keys, use_threads=False).aggregate([(_PEOPLE, "sum"), (_FIRST, "min")])
    return sums.select([*keys, f"{_PEOPLE}_sum", f"{_FIRST}_min"]).rename_columns([*keys, _PEOPLE, _FIRST])


def _divided(
    file: Any, columns: list[str], section: DataSection, predictions: str, threshold: float, batch_rows: int
) -> Iterator["pa.Table"]:
    """The columns of each batch with few values each, and one row and its number for each row."""
    import pyarrow as pa

    done = 0
    for batch in file.iter_batches(batch_size=batch_rows, columns=columns):
        here = np.arange(done + 1, done + 1 + batch.num_rows)
        table: dict[str, Any] = {}
        for place, name in enumerate(columns):
            column = plain_column(batch.column(batch.schema.get_field_index(name)))
            if name in (section.target, predictions):
                refuse_empty(section.path, name, column, done)
            if name in section.where:
                pass  # its values are asked for one by one
            elif name == predictions and pa.types.is_floating(column.type):
                column = _sides(section.path, name, column, threshold, done)
            elif name in section.bins and name != section.target and _is_number(column.type):
                column = _binned(column, section.bins[name], section.missing)
            table[_key(place)] = column
        done += batch.num_rows
        yield pa.table({**table, _PEOPLE: np.ones(batch.num_rows, dtype=np.int64), _FIRST: here})


def plain_column(column: "pa.Array") -> "pa.Array":
    """The values themselves: no dictionary, and decimals as numbers."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_decimal(column.type):
        return column.cast(pa.float64())
    return column.cast(pa.string()) if pa.types.is_null(column.type) else column


def _is_number(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def refuse_empty(path: str | Path, name: str, column: "pa.Array", done: int) -> None:
    """Refuse a column with an empty cell or a NaN: such a row has no decision or no outcome to count.

    Args:
        path: the file, for the error.
        name: the column.
        column: its values in one batch.
        done: rows of the file before that batch.

    Raises:
        LoadError: there is one; the sentence names its row.
    """
    import pyarrow.compute as pc

    empty = pc.is_null(column, nan_is_null=True).to_numpy(zero_copy_only=False)
    if empty.any():
        raise LoadError(
            f"{path}: column '{name}', row {done + 1 + int(np.argmax(empty))}: the cell is empty; a decision "
            "and its true outcome must be known, so fill it or leave the row out."
        )


def _sides(path: Path, name: str, column: "pa.Array", threshold: float, done: int) -> "pa.Array":
    """Whole numbers, which may be classes, as they are; any other score as one of two, by its side.

    The threshold itself stands for the scores at or above it, half of it for those below.
    """
    import pyarrow as pa

    scores = column.to_numpy(zero_copy_only=False)
    with np.errstate(invalid="ignore"):
        parts = scores != np.round(scores)
    wrong = ~np.isfinite(scores) | (parts & ~((scores > 0) & (scores < 1)))
    if wrong.any():
        place = int(np.argmax(wrong))
        raise LoadError(
            f"{path}: column '{name}', row {done + 1 + place}: prediction {scores[place]} is neither a class "
            "nor a score from 0 to 1."
        )
    at = scores.dtype.type(threshold)
    # a score in fewer digits than the threshold is compared as it would be written
    enough = (scores > at) | ((scores == at) & (float(str(at)) >= threshold))
    sides = np.where(enough, threshold or 0.5, threshold / 2)
    return pa.array(np.where(parts, sides, scores.astype(np.float64)))


def _binned(column: "pa.Array", edges: tuple[float, ...], missing: tuple[str, ...]) -> "pa.Array":
    """One number of its bin for each number; what stands for a missing value stays as it is."""
    import pyarrow as pa

    values = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    # just above an edge, as nobody writes it: the edge itself may be a word for a missing value
    inside: npt.NDArray[np.float64] = np.nextafter([edges[0], *edges], [-np.inf, *[np.inf] * len(edges)])
    codes = np.searchsorted(np.array(edges), values, side="right")
    stay = ~np.isfinite(values) | np.isin(values, [as_number(word) for word in missing])
    return pa.array(np.where(stay, values, inside[codes]), from_pandas=True)
