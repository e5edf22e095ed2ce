"""Run folders into one table: a row a record, and a message for every line that could not be read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pandas as pd

from sconv_search.records import TrialRecord

FILE = "trials.jsonl"
_ADVICE = "run `sconv-search search` first, or give a folder that it wrote (runs/<study>)"
_LARGEST = 2**63  # pandas holds whole numbers in 64 bits


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the run folders held.

    Args:
        table: a row a record, in the order read; the columns of ``COLUMNS`` and ``flops_share`` in %, missing is ``pd.NA``.
        dropped: a message for every line or file that gave no row.
    """

    table: pd.DataFrame
    dropped: tuple[str, ...]


def read_runs(paths: Iterable[Path | str]) -> Reading:
    """All records of the run folders; a damaged line is dropped and reported, not fatal.

    Raises:
        FileNotFoundError: a folder is missing or holds no ``trials.jsonl``.
        ValueError: no folder is given, or no line of any is readable.
    """
    files = [_records_file(Path(path)) for path in paths]
    if not files:
        raise ValueError(f"no run folder was given; {_ADVICE}")
    records: list[TrialRecord] = []
    dropped: list[str] = []
    for file in {file.resolve(): file for file in files}.values():  # a folder named twice counts once
        found, messages = _read(file)
        records += found
        dropped += messages if found else [*messages, f"{file} holds no readable record"]
    if not records:
        raise ValueError(f"nothing to report: {'; '.join(dropped)}; {_ADVICE}")
    return Reading(table=to_table(records), dropped=tuple(dropped))


def to_table(records: Iterable[TrialRecord]) -> pd.DataFrame:
    """The records as a typed table, with ``flops_share``: FLOPs in % of the dense network's."""
    table = pd.DataFrame([asdict(record) for record in records], columns=list(_DTYPES)).astype(_DTYPES)
    dense = table["dense_flops"].astype("Float64")
    table["flops_share"] = (100 * table["flops"].astype("Float64") / dense).where(dense > 0)
    return table


def _dtype(annotation: str) -> str:
    kinds = annotation.split(" | ")
    return "Float64" if "float" in kinds else "Int64" if "int" in kinds else "string"


_DTYPES = {f.name: _dtype(str(f.type)) for f in fields(TrialRecord)}


def _records_file(folder: Path) -> Path:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is {'a file' if folder.exists() else 'missing'}, not a run folder; {_ADVICE}")
    if not (folder / FILE).is_file():
        raise FileNotFoundError(f"{folder} holds no {FILE}; {_ADVICE}")
    return folder / FILE


def _read(file: Path) -> tuple[list[TrialRecord], list[str]]:
    records, dropped = [], []
    # Bytes split at \n alone: str.splitlines would also cut at the line separators that JSON may hold unescaped.
    for number, line in enumerate(file.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            records.append(_record(line))
        except ValueError as error:
            dropped.append(f"{file} line {number} dropped: {error}")
    return records, dropped


def _record(line: bytes) -> TrialRecord:
    """One line's record, refused where no table or file could hold it: half a surrogate pair, 64 bits exceeded."""
    record = TrialRecord.from_json(line.decode("utf-8"))
    record.to_json().encode("utf-8")
    for name, value in asdict(record).items():
        if isinstance(value, int) and abs(value) >= _LARGEST:
            raise ValueError(f"field {name!r} is too large: {value}")
    return record
