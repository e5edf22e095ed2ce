"""Tables as files: CSV that no spreadsheet runs, and Parquet."""

from __future__ import annotations

import io

import pandas as pd
import pyarrow  # type: ignore[import-untyped]  # pyarrow ships no types
import pyarrow.csv  # type: ignore[import-untyped]

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def to_csv(table: pd.DataFrame) -> bytes:
    """The table as CSV in UTF-8; a text that a spreadsheet would run as a formula gets a quote in front."""
    safe = table.copy(deep=False)
    for name in safe.columns:
        if not pd.api.types.is_numeric_dtype(safe[name]):
            texts = safe[name].astype("string")
            formula = texts.str.startswith(_FORMULA).fillna(False).astype(bool)
            safe[name] = texts.mask(formula, "'" + texts) if formula.any() else texts
    file = io.BytesIO()
    # Arrow quotes every text; pandas leaves a lone carriage return bare, at which a reader would end the row.
    pyarrow.csv.write_csv(pyarrow.Table.from_pandas(safe, preserve_index=False), file)
    return file.getvalue()


def to_parquet(table: pd.DataFrame) -> bytes:
    """The table as Parquet, texts as they are."""
    file = io.BytesIO()
    texts = {name: "string" for name in table.columns if table[name].dtype == object}
    table.astype(texts).to_parquet(file, index=False)
    return file.getvalue()
