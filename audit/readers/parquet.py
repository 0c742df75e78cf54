"""Parquet files. Columns keep their types; whole numbers stay whole where a column has empty cells."""

from pathlib import Path
from typing import TYPE_CHECKING

from audit.config import DataSection
from audit.errors import LoadError
from audit.plainfile import plain_file
from audit.readers.csv import named_target
from audit.readers.raw import Raw, numbered

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


def read(path: Path, section: DataSection) -> Raw:
    """A Parquet file; a stored index is not a column.

    Raises:
        LoadError: the file cannot be read or is not Parquet, holds no rows, has two columns of one name or
            a nested one, or `[data] target` is not given.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        stored = pq.ParquetFile(plain_file(path)).read()
    except (OSError, pa.ArrowException) as error:
        raise LoadError(f"{path} is not a readable Parquet file: {str(error).splitlines()[0]}.") from None
    for index, field in enumerate(stored.schema):
        if stored.schema.get_field_index(field.name) != index:
            raise LoadError(f"{path}: two columns are called '{field.name}'; rename one.")
        if pa.types.is_nested(field.type):
            raise LoadError(f"{path}: column '{field.name}' is of type {field.type}; store plain values.")
    if not stored.num_rows:
        raise LoadError(f"{path} holds no rows; add some.")
    table = numbered(plain_table(stored))
    return Raw(path=path, table=table, target=named_target(path, section, table))


def plain_table(stored: "pa.Table") -> "pd.DataFrame":
    """The columns as they are stored, whole numbers whole where a cell is empty."""
    # the pandas metadata would turn a stored column back into an index
    table: pd.DataFrame = stored.replace_schema_metadata(None).to_pandas(types_mapper=_mapper())
    return table


def _mapper() -> object:
    import pandas as pd
    import pyarrow as pa

    nullable = {
        pa.bool_(): pd.BooleanDtype(),
        pa.float32(): pd.Float32Dtype(),
        pa.float64(): pd.Float64Dtype(),
        **{getattr(pa, f"int{n}")(): getattr(pd, f"Int{n}Dtype")() for n in (8, 16, 32, 64)},
        **{getattr(pa, f"uint{n}")(): getattr(pd, f"UInt{n}Dtype")() for n in (8, 16, 32, 64)},
    }
    return nullable.get
