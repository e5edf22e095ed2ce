"""A file of records into frames: every line is a row or a message."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd

from sconv_search.records import TrialRecord, record_fields
from sconv_search.reports.bulk import bulk_frame
from sconv_search.strict_json import LARGEST, shortened

TEXT: Any = pd.StringDtype("python")
"""Texts as Python's own, so that choosing rows copies no plan: Arrow's took a third of a large report's time."""
MOST_TOLD = 100
_PART = 8 << 20
"""Bytes of lines that are read at once: should one be damaged, only those beside it are read one by one."""


def read_records(file: Path) -> tuple[list[pd.DataFrame], list[str]]:
    """The file's records, a row each, in order and in parts, and a message for every line that was dropped."""
    frames: list[pd.DataFrame] = []
    dropped: list[str] = []
    before = 0
    # Bytes split at \n alone: text would also be cut at the line separators that JSON may hold unescaped.
    with open(file, "rb") as opened:
        while lines := opened.readlines(_PART):
            numbered = [(number, line) for number, line in enumerate(lines, start=before + 1) if not line.isspace()]
            frame = bulk_frame([line for _, line in numbered], DTYPES, LARGEST)
            if frame is None:
                frame, messages = one_by_one(numbered)
                dropped += [f"{file} {message}" for message in messages]
            frames += [frame] if len(frame) else []
            before += len(lines)
    more = len(dropped) - MOST_TOLD
    return frames, [*dropped[:MOST_TOLD], *([f"{file}: and {more} more lines"] if more > 0 else [])]


def record_frame(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Records' fields as typed columns; a field that is absent is missing."""
    return pd.DataFrame(
        {name: pd.array([row.get(name) for row in rows], dtype=dtype) for name, dtype in DTYPES.items()}
    )


def one_by_one(numbered: Iterable[tuple[int, bytes]]) -> tuple[pd.DataFrame, list[str]]:
    """The lines' records, and a message for every number of a line that was dropped."""
    rows: list[dict[str, Any]] = []
    dropped = []
    for number, line in numbered:
        try:
            rows.append(record_fields(line))
        except ValueError as error:
            dropped.append(f"line {number} dropped: {shortened(str(error), 300)}")
    return record_frame(rows), dropped


def _dtype(annotation: str) -> Any:
    kinds = annotation.split(" | ")
    return "Float64" if "float" in kinds else "Int64" if "int" in kinds else "boolean" if "bool" in kinds else TEXT


DTYPES = {f.name: _dtype(str(f.type)) for f in fields(TrialRecord)}
