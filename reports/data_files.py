"""Tables as files: CSV that no spreadsheet runs, and Parquet; both through Arrow, a part of the rows at a time."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any, BinaryIO

import pandas as pd
from pandas.api.types import is_object_dtype

try:
    import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no types
    import pyarrow.compute as pc  # type: ignore[import-untyped]
    import pyarrow.csv  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"a report's data files need {error.name}; pip install 'sconv-search[report]'") from error

UNLIKE = ("plan", "layers", "residual_course")
"""Columns of texts that hardly repeat: no dictionary of them makes a file smaller."""
ROWS = 8192
"""Rows that are Arrow's at once: as one table they would take as much memory again as the texts."""
_FORMULA = pa.array(["=", "+", "-", "@", "\t", "\r", "\n"])


def write_tables(table: pd.DataFrame, csv: BinaryIO, parquet: BinaryIO) -> None:
    """Writes the table as CSV in UTF-8 and as Parquet, in one pass.

    In the CSV a text that a spreadsheet would run as a formula gets a quote in front; Parquet holds texts as they are.
    """
    schema = _schema(table)
    # Arrow quotes every text; pandas leaves a lone carriage return bare, at which a reader would end the row.
    repeated = [name for name in schema.names if name not in UNLIKE]
    with (
        pa.csv.CSVWriter(csv, schema) as rows,
        pa.parquet.ParquetWriter(parquet, schema, use_dictionary=repeated) as columns,
    ):
        for part in _parts(table, schema):
            columns.write_table(part)
            rows.write_table(_without_formulas(part))


def to_csv(table: pd.DataFrame) -> bytes:
    """The table as CSV, see ``write_tables``."""
    schema, file = _schema(table), io.BytesIO()
    with pa.csv.CSVWriter(file, schema) as rows:
        for part in _parts(table, schema):
            rows.write_table(_without_formulas(part))
    return file.getvalue()


def _schema(table: pd.DataFrame) -> Any:
    """The columns' types; those of mixed objects become texts."""
    whole = pa.Schema.from_pandas(_typed(table.head(0)), preserve_index=False)
    for position, name in enumerate(table.columns):
        if pa.types.is_null(whole.field(position).type) and table[name].isna().all():
            whole = whole.set(position, pa.field(name, pa.string()))
    return whole


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    mixed = [name for name, dtype in table.dtypes.items() if is_object_dtype(dtype)]
    return table.astype(dict.fromkeys(mixed, "string")) if len(mixed) else table


def _parts(table: pd.DataFrame, schema: Any) -> Iterator[Any]:
    """The rows as Arrow tables of at most ``ROWS``."""
    for start in range(0, max(len(table), 1), ROWS):
        yield pa.Table.from_pandas(_typed(table.iloc[start : start + ROWS]), schema=schema, preserve_index=False)


def _without_formulas(part: Any) -> Any:
    """The part with a quote before each text that begins like a formula."""
    for position, (name, column) in enumerate(zip(part.column_names, part.columns, strict=True)):
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            formula = pc.is_in(pc.utf8_slice_codeunits(column, 0, 1), _FORMULA.cast(column.type))
            if pc.any(formula).as_py():
                quote, nothing = pa.scalar("'", column.type), pa.scalar("", column.type)
                quoted = pc.binary_join_element_wise(quote, column, nothing)
                part = part.set_column(position, name, pc.if_else(formula, quoted, column))
    return part
