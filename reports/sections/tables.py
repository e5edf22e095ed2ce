"""Columns of data as tables of text, with the values behind the cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from sconv_search.reports import wording
from sconv_search.reports.document.blocks import Table
from sconv_search.reports.reading.records_table import records

Format = Callable[[Any], str]


def data_table(
    table: pd.DataFrame,
    formats: dict[str, Format],
    key: str,
    *,
    headings: dict[str, str] | None = None,
    texts: int = 1,
    last_is_text: bool = False,
    commands: Sequence[str] = (),
    copied: Mapping[str, Sequence[str]] | None = None,
) -> Table:
    """The columns named in ``formats`` as text, with their raw values for CSV.

    Args:
        key: name of the table's files.
        headings: column -> heading, where it is not the column's own.
        texts, last_is_text: as in ``Table``.
        commands: columns that hold commands or paths.
        copied: column -> what a button beside each cell copies.
    """
    rows = [[show(row[name]) for name, show in formats.items()] for row in records(table)]
    titles = {name: (headings or {}).get(name) or wording.heading(name) for name in formats}
    return Table(
        header=list(titles.values()),
        rows=rows,
        texts=texts,
        last_is_text=last_is_text,
        key=key,
        raw=table[list(formats)],
        commands=[titles[name] for name in commands],
        copied={titles[name]: texts_of_rows for name, texts_of_rows in (copied or {}).items()},
    )
