"""Run folders into one table: a row a record, and a message for every line that could not be read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import orjson
import pandas as pd

from reports.budgets import budget_group
from reports.runs import RunFacts, read_facts
from sconv_search.records import TrialRecord

FILE = "trials.jsonl"
TEXT: Any = pd.StringDtype("python")
"""Texts as Python's own, so that choosing rows copies no plan: Arrow's took a third of a large report's time."""
REFERENCES = ("dense", "dense_finetuned")
_ADVICE = "run `sconv-search search` first, or give a folder that it wrote (runs/<study>)"
_LARGEST = 2**63 - 1  # pandas and files hold whole numbers in 64 bits
_LONG = ("plan", "layers", "residual_course")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the run folders held.

    Args:
        table: a row a record, in the order read; the columns of ``COLUMNS`` and those of ``DERIVED``, missing is ``pd.NA``.
        dropped: a message for every line or file that gave no row or no facts.
        runs: what each folder says of its study.
    """

    table: pd.DataFrame
    dropped: tuple[str, ...]
    runs: tuple[RunFacts, ...] = ()


DERIVED = {
    "flops_share": "FLOPs in % of the dense network",
    "additions": "MACs and other additions, as the paper counts additions",
    "run": "the run folder, by a name of its own",
    "family": "methods that the study searches among; for a study without a spec, those of the plan",
    "budget_group": "the budget in one spelling; missing for the references, which belong to all",
}


def read_runs(paths: Iterable[Path | str]) -> Reading:
    """All records of the run folders; a damaged line is dropped and reported, not fatal.

    Raises:
        FileNotFoundError: a folder is missing or holds no ``trials.jsonl``.
        ValueError: no folder is given, or no line of any is readable.
    """
    files = [_records_file(Path(path)) for path in paths]
    if not files:
        raise ValueError(f"no run folder was given; {_ADVICE}")
    unique = list({file.resolve(): file for file in files}.values())  # a folder named twice counts once
    read = _Columns()
    origins: list[str] = []
    dropped: list[str] = []
    runs: list[RunFacts] = []
    for file, name in zip(unique, _names(unique), strict=True):
        found, messages = _read(file, read)
        facts, complaints = read_facts(file.parent, name)
        origins += [name] * found
        runs.append(facts)
        dropped += [*(messages if found else [*messages, f"{file} holds no readable record"]), *complaints]
    if not origins:
        raise ValueError(f"nothing to report: {'; '.join(dropped)}; {_ADVICE}")
    return Reading(table=_table(read, origins, runs), dropped=tuple(dropped), runs=tuple(runs))


def to_table(found: Iterable[TrialRecord], origins: Sequence[str] | None = None, runs: Iterable[RunFacts] = ()) -> pd.DataFrame:
    """The records as a typed table with the columns of ``DERIVED``.

    Args:
        origins: name of the run of each record; the study's name where it is not given.
    """
    columns = _Columns()
    for record in found:
        columns.add(vars(record))
    return _table(columns, origins, runs)


class _Columns:
    """The fields of records, column by column: as a dictionary each, very many would take twice the memory of their texts."""

    def __init__(self) -> None:
        self._columns: dict[str, list[Any]] = {name: [] for name in _DTYPES}
        self._waiting: list[dict[str, Any]] = []
        self._known: dict[Any, Any] = {}

    def add(self, row: dict[str, Any]) -> None:
        """Adds a record; a field that is absent is missing."""
        self._waiting.append(row)
        if len(self._waiting) >= 4096:
            self._sort_in()

    def taken(self, name: str) -> list[Any]:
        """A column's values, which are then let go."""
        self._sort_in()
        return self._columns.pop(name)

    def _sort_in(self) -> None:
        for name, column in self._columns.items() if self._waiting else ():
            values = [row.get(name) for row in self._waiting]
            # Equal short texts are kept once, as studies, machines and methods repeat in every row.
            known = self._known.setdefault
            column += values if name in _LONG else [known(value, value) if type(value) is str else value for value in values]
        self._waiting = []


def _table(columns: _Columns, origins: Sequence[str] | None, runs: Iterable[RunFacts]) -> pd.DataFrame:
    table = pd.DataFrame({name: pd.array(columns.taken(name), dtype=dtype) for name, dtype in _DTYPES.items()})
    dense = table["dense_flops"].astype("Float64")
    table["flops_share"] = (100 * table["flops"].astype("Float64") / dense).where(dense > 0)
    table["additions"] = table["macs"] + table["adds"]
    table["run"] = table["study"] if origins is None else pd.Series(list(origins), index=table.index, dtype=TEXT)
    searched = table["run"].map({facts.name: facts.family for facts in runs if facts.family}).astype(TEXT)
    reference = table["variant"].isin(REFERENCES)
    table["family"] = searched.fillna(table["methods"]).fillna("").mask(reference, "")
    table["budget_group"] = _budget_groups(table).mask(reference)
    return table


def _budget_groups(table: pd.DataFrame) -> pd.Series[str]:
    pairs = table[["budget", "dense_flops"]].drop_duplicates()
    groups: Any = [budget_group(budget, dense) for budget, dense in pairs.itertuples(index=False, name=None)]
    return table[["budget", "dense_flops"]].merge(pairs.assign(group=groups), how="left")["group"].astype(TEXT)


def records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as tables of column name -> value."""
    found: Any = rows.to_dict("records")
    return list(found)


def _dtype(annotation: str) -> Any:
    kinds = annotation.split(" | ")
    return "Float64" if "float" in kinds else "Int64" if "int" in kinds else "boolean" if "bool" in kinds else TEXT


_DTYPES = {f.name: _dtype(str(f.type)) for f in fields(TrialRecord)}


def _names(files: Sequence[Path]) -> list[str]:
    """The folders' own names, with those above them where two are alike."""
    names = [file.parent.resolve().name for file in files]
    whole = [str(file.parent.resolve()) for file in files]
    return [name if names.count(name) == 1 else long for name, long in zip(names, whole, strict=True)]


def _records_file(folder: Path) -> Path:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is {'a file' if folder.exists() else 'missing'}, not a run folder; {_ADVICE}")
    if not (folder / FILE).is_file():
        raise FileNotFoundError(f"{folder} holds no {FILE}; {_ADVICE}")
    return folder / FILE


def _read(file: Path, columns: _Columns) -> tuple[int, list[str]]:
    """Adds a file's records to the columns: how many, and what was dropped."""
    found, dropped = 0, []
    # Bytes split at \n alone: text would also be cut at the line separators that JSON may hold unescaped.
    with open(file, "rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                columns.add(_fields(line))
                found += 1
            except ValueError as error:
                dropped.append(f"{file} line {number} dropped: {error}")
    return found, dropped


def _fields(line: bytes) -> dict[str, Any]:
    """One line's fields, refused where no table or file could hold them: half a surrogate pair, 64 bits exceeded."""
    fields_of_line = _by_the_fast_reader(line) or TrialRecord.checked_fields(_by_the_exact_reader(line), largest=_LARGEST)
    if rb"\u" in line:  # only an escape can hide half a pair: the bytes themselves were decoded strictly
        json.dumps(fields_of_line, ensure_ascii=False).encode("utf-8")
    return fields_of_line


def _by_the_fast_reader(line: bytes) -> dict[str, Any] | None:
    """The fields; None where it refuses what the exact reader allows, or reads a very long whole number as a float."""
    try:
        return TrialRecord.checked_fields(orjson.loads(line), largest=_LARGEST)
    except ValueError:
        return None


def _by_the_exact_reader(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from error
