"""Tables as files: CSV that no spreadsheet runs, and Parquet; both through Arrow, a part of the rows at a time."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no types
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.csv  # type: ignore[import-untyped]
import pyarrow.parquet  # type: ignore[import-untyped]

ROWS = 8192
_FORMULA = pa.array(["=", "+", "-", "@", "\t", "\r", "\n"])


Writer = Callable[[BinaryIO], None]


def writers(table: pd.DataFrame) -> tuple[Writer, Writer]:
    """What writes the table as CSV and as Parquet; of what is written, only the first makes Arrow's columns of
    pandas'.
    """
    made: list[Any] = []

    def shared() -> Iterator[Any]:
        if not made:
            made.extend(_parts(table, schema))
        yield from made

    schema = _schema(table)
    return (lambda file: _write_csv(shared(), schema, file)), (lambda file: _write_parquet(shared(), schema, file))


def write_csv(table: pd.DataFrame, file: BinaryIO) -> None:
    """Writes the table as CSV in UTF-8; a text that a spreadsheet would run as a formula gets a quote in front."""
    schema = _schema(table)
    _write_csv(_parts(table, schema), schema, file)


def write_parquet(table: pd.DataFrame, file: BinaryIO) -> None:
    """Writes the table as Parquet, texts as they are."""
    schema = _schema(table)
    _write_parquet(_parts(table, schema), schema, file)


def _write_csv(parts: Iterable[Any], schema: Any, file: BinaryIO) -> None:
    # Arrow quotes every text; pandas leaves a lone carriage return bare, at which a reader would end the row.
    with pa.csv.CSVWriter(file, schema) as writer:
        for part in parts:
            for place, (name, column) in enumerate(zip(part.column_names, part.columns, strict=True)):
                if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
                    part = part.set_column(place, name, _without_formulas(column))
            writer.write_table(part)


def _write_parquet(parts: Iterable[Any], schema: Any, file: BinaryIO) -> None:
    with pa.parquet.ParquetWriter(file, schema) as writer:
        for part in parts:
            writer.write_table(part)


def to_csv(table: pd.DataFrame) -> bytes:
    """The table as CSV, see ``write_csv``."""
    file = io.BytesIO()
    write_csv(table, file)
    return file.getvalue()


def to_parquet(table: pd.DataFrame) -> bytes:
    """The table as Parquet, see ``write_parquet``."""
    file = io.BytesIO()
    write_parquet(table, file)
    return file.getvalue()


def _schema(table: pd.DataFrame) -> Any:
    """The columns' types; those of mixed objects become texts."""
    whole = pa.Schema.from_pandas(_typed(table.head(0)), preserve_index=False)
    for place, name in enumerate(table.columns):
        if table[name].isna().all() and pa.types.is_null(whole.field(place).type):
            whole = whole.set(place, pa.field(name, pa.string()))
    return whole


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    return table.astype({name: "string" for name in table.columns if table[name].dtype == object})


def _parts(table: pd.DataFrame, schema: Any) -> Iterator[Any]:
    """The rows as Arrow tables of at most ``ROWS``: as one they would take as much memory again as the texts."""
    for start in range(0, max(len(table), 1), ROWS):
        yield pa.Table.from_pandas(_typed(table.iloc[start : start + ROWS]), schema=schema, preserve_index=False)


def _without_formulas(column: Any) -> Any:
    formula = pc.is_in(pc.utf8_slice_codeunits(column, 0, 1), _FORMULA.cast(column.type))
    if not pc.any(formula).as_py():
        return column
    return pc.if_else(
        formula, pc.binary_join_element_wise(pa.scalar("'", column.type), column, pa.scalar("", column.type)), column
    )
