"""Streaming: counts of a table of decisions that is larger than memory.

A Parquet file of one row per decision is read in batches and added up to one table of counts, from which
every rate by group follows. At no time are more rows than those of one batch in memory. A whole audit of
such a file needs no program: `[data] stream = true` in audit.toml.

    from audit.streaming import group_rates, stream_cells

    cells = stream_cells("decisions.parquet", ["sex", "race"], "granted", "predicted")
    for rate in group_rates(cells, favourable="1"):
        print(dict(rate.group), rate.name, rate.value, rate.low, rate.high)
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from audit.dataset import UNKNOWN, Ints
from audit.errors import LoadError, nearest
from audit.evidence import Measure
from audit.readers.combinations import plain_column, refuse_empty
from audit.stats import proportion

if TYPE_CHECKING:
    import pyarrow as pa

_MOST_CELLS = 1_000_000
_BUFFER = 2**20
_Key = tuple[str, ...]


@dataclass(frozen=True)
class Counts:
    """Counts of rows by group, label and prediction.

    Attributes:
        columns: the group columns, then the label and the prediction.
        levels: the values of each column as text, sorted as numbers where all are numbers; an empty cell
            is `unknown`, the last. Label and prediction share theirs.
        counts: [levels of column 1, ..., classes, classes] rows.
    """

    columns: tuple[str, ...]
    levels: tuple[tuple[str, ...], ...]
    counts: Ints

    @property
    def rows(self) -> int:
        """Number of rows counted."""
        return int(self.counts.sum())


def stream_cells(
    path: str | Path,
    group_columns: Sequence[str],
    label: str,
    prediction: str,
    *,
    batch_rows: int = 1_000_000,
) -> Counts:
    """Count the rows of a Parquet file by group, label and prediction, in bounded memory.

    Args:
        path: a Parquet file with one row per decision.
        group_columns: columns of codes or words that divide the rows.
        label: column of the true class.
        prediction: column of the predicted class.
        batch_rows: rows in memory at a time.

    Raises:
        LoadError: the file cannot be read, a column is absent or named twice, a class is empty or NaN, or
            the columns have so many values that the counts would be no summary (a number that was not
            binned).
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = (*group_columns, label, prediction)
    total: Counter[_Key] = Counter()
    try:
        with pq.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False) as file:
            _refuse_columns(path, columns, file.schema_arrow.names)
            done = 0
            for batch in file.iter_batches(batch_size=batch_rows, columns=list(columns)):
                for name in (label, prediction):
                    refuse_empty(path, name, plain_column(batch[name]), done)
                total.update(_counted(path, batch.select(list(columns))))
                done += batch.num_rows
                _refuse_many(path, columns, len(total))
    except (OSError, pa.ArrowException) as error:
        raise LoadError(f"{path} is not a readable Parquet file: {str(error).splitlines()[0]}.") from None
    return _cells(path, columns, total)


def group_rates(cells: Counts, favourable: str) -> list[Measure]:
    """Selection rate, accuracy, true and false positive rate of every group that occurs, with intervals.

    Args:
        cells: counts of rows.
        favourable: the class that is good for a person, as text.

    Raises:
        LoadError: the class does not occur.
    """
    classes = cells.levels[-1]
    if favourable not in classes:
        raise LoadError(f"no label or prediction is '{favourable}'{nearest(favourable, classes)}.")
    good = np.array([name == favourable for name in classes])
    found: list[Measure] = []
    for place in np.ndindex(*cells.counts.shape[:-2]):
        table = cells.counts[place]
        if table.sum():
            columns = cells.columns[: len(place)]
            named = {c: cells.levels[k][place[k]] for k, c in enumerate(columns)}
            found += _rates(table, good, named)
    return found


def _rates(table: Ints, good: Any, group: dict[str, str]) -> list[Measure]:
    pairs = {
        "selection_rate": (table[:, good].sum(), table.sum()),
        "accuracy": (np.trace(table), table.sum()),
        "true_positive_rate": (table[good][:, good].sum(), table[good].sum()),
        "false_positive_rate": (table[~good][:, good].sum(), table[~good].sum()),
    }
    return [proportion(name, int(x), int(n), group=group) for name, (x, n) in pairs.items()]


def _refuse_columns(path: str | Path, columns: tuple[str, ...], present: Sequence[str]) -> None:
    for index, name in enumerate(columns):
        if name not in present:
            raise LoadError(f"{path} has no column '{name}'{nearest(name, present)}.")
        if name in columns[:index]:
            raise LoadError(f"{path}: column '{name}' is asked for twice; name each column once.")


def _refuse_many(path: str | Path, columns: tuple[str, ...], cells: int) -> None:
    if cells > _MOST_CELLS:
        raise LoadError(
            f"{path}: the columns {', '.join(columns)} have more than {_MOST_CELLS:,} combinations of "
            "values; bin numbers first."
        )


def _counted(path: str | Path, batch: "pa.RecordBatch") -> dict[_Key, int]:
    """The combinations of values in one batch, as text, and their rows."""
    codes, levels = zip(*(_coded(column) for column in batch.columns), strict=True)
    sizes = [len(words) for words in levels]
    if not batch.num_rows:
        return {}
    _refuse_many(path, tuple(batch.schema.names), int(np.prod(sizes, dtype=np.float64)))
    index = codes[0].astype(np.int64)
    for code, size in zip(codes[1:], sizes[1:], strict=True):
        index *= size
        index += code
    counts = np.bincount(index)
    found: Counter[_Key] = Counter()
    for cell in np.flatnonzero(counts):
        place = np.unravel_index(cell, sizes)
        found[tuple(words[i] for words, i in zip(levels, place, strict=True))] += int(counts[cell])
    return found


def _coded(column: "pa.Array") -> tuple[Any, list[str]]:
    """[M] index into the column's values in this batch, and the values as text; empty cells are unknown."""
    import pyarrow as pa

    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    words = [_text(value) for value in encoded.dictionary.to_pylist()]
    if not encoded.null_count:
        return encoded.indices.to_numpy(), words
    return encoded.indices.fill_null(len(words)).to_numpy(zero_copy_only=False), [*words, UNKNOWN]


def _text(value: object) -> str:
    """A value in words: whole numbers without a decimal point, so that 1 and 1.0 are one; NaN is unknown."""
    if value is None or value != value:  # noqa: PLR0124 - only NaN differs from itself
        return UNKNOWN
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _cells(path: str | Path, columns: tuple[str, ...], total: Counter[_Key]) -> Counts:
    if not total:
        raise LoadError(f"{path} holds no rows; add some.")
    seen = [{key[k] for key in total} for k in range(len(columns))]
    classes = seen[-1] | seen[-2]
    levels = tuple(_ordered(words) for words in (*seen[:-2], classes, classes))
    sizes = [len(words) for words in levels]
    _refuse_many(path, columns, int(np.prod(sizes, dtype=np.float64)))
    place = [{word: i for i, word in enumerate(words)} for words in levels]
    counts = np.zeros(sizes, dtype=np.int64)
    for key, rows in total.items():
        counts[tuple(where[word] for where, word in zip(place, key, strict=True))] += rows
    return Counts(columns, levels, counts)


def _ordered(words: set[str]) -> tuple[str, ...]:
    known = words - {UNKNOWN}
    try:
        ordered = sorted(known, key=float)
    except ValueError:
        ordered = sorted(known)
    return (*ordered, UNKNOWN) if UNKNOWN in words else tuple(ordered)
