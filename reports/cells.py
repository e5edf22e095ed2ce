"""Tables of a report: columns of data as cells of text, with the values behind them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from sconv_search.reports import words
from sconv_search.reports.markup import Table
from sconv_search.reports.table import records

Form = Callable[[Any], str]


def data_table(
    table: pd.DataFrame,
    forms: dict[str, Form],
    key: str,
    *,
    headings: dict[str, str] | None = None,
    texts: int = 1,
    last_is_text: bool = False,
) -> Table:
    """The named columns as cells, with their raw values for CSV."""
    rows = [[form(row[name]) for name, form in forms.items()] for row in records(table)]
    header = [(headings or {}).get(name) or words.heading(name) for name in forms]
    return Table(header=header, rows=rows, texts=texts, last_is_text=last_is_text, key=key, raw=table[list(forms)])
