"""Tables as files: CSV that no spreadsheet runs, and Parquet.

Both go through one Arrow table, and are not copied again: texts of a large run take hundreds of megabytes.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no types
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.csv  # type: ignore[import-untyped]
import pyarrow.parquet  # type: ignore[import-untyped]

_FORMULA = pa.array(["=", "+", "-", "@", "\t", "\r", "\n"])


def table_files(stem: str, table: pd.DataFrame) -> dict[str, memoryview]:
    """The table as ``<stem>.csv`` and ``<stem>.parquet``: file name -> content."""
    columns = _arrow(table)
    return {f"{stem}.csv": _csv(columns), f"{stem}.parquet": _parquet(columns)}


def to_csv(table: pd.DataFrame) -> memoryview:
    """The table as CSV in UTF-8; a text that a spreadsheet would run as a formula gets a quote in front."""
    return _csv(_arrow(table))


def to_parquet(table: pd.DataFrame) -> memoryview:
    """The table as Parquet, texts as they are."""
    return _parquet(_arrow(table))


def _arrow(table: pd.DataFrame) -> Any:
    """The table's columns; those of mixed objects become texts."""
    objects = {name: "string" for name in table.columns if table[name].dtype == object}
    return pa.Table.from_pandas(table.astype(objects), preserve_index=False)


def _csv(columns: Any) -> memoryview:
    for place, (name, column) in enumerate(zip(columns.column_names, columns.columns, strict=True)):
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            columns = columns.set_column(place, name, _without_formulas(column))
    file = pa.BufferOutputStream()
    # Arrow quotes every text; pandas leaves a lone carriage return bare, at which a reader would end the row.
    pa.csv.write_csv(columns, file)
    return memoryview(file.getvalue())


def _without_formulas(column: Any) -> Any:
    formula = pc.is_in(pc.utf8_slice_codeunits(column, 0, 1), _FORMULA.cast(column.type))
    if not pc.any(formula).as_py():
        return column
    return pc.if_else(
        formula, pc.binary_join_element_wise(pa.scalar("'", column.type), column, pa.scalar("", column.type)), column
    )


def _parquet(columns: Any) -> memoryview:
    file = pa.BufferOutputStream()
    pa.parquet.write_table(columns, file)
    return memoryview(file.getvalue())
