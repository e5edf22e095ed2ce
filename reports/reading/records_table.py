"""The records of run folders as one table: a row a record, and a message for every line that could not be read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sconv_search.records import TrialRecord, read_lines
from sconv_search.reports.reading.budgets import budget_group
from sconv_search.reports.reading.runs import RunFacts, read_facts

FILE = "trials.jsonl"
REFERENCES = ("dense", "dense_finetuned")
TEXT: Any = pd.StringDtype("python")
"""Texts as Python's own, so that choosing rows copies no plan: with Arrow's that took a third of a large report's
time.
"""
LARGEST = 2**63 - 1  # pandas and files hold whole numbers in 64 bits
MOST_TOLD = 100
"""Messages about damaged lines of one file."""
_PART = 8192
"""Records that become columns at once: as dictionaries all records would take more memory than as a table."""
_UNLIKE = ("plan", "layers", "residual_course")
"""Texts that hardly repeat; of others one copy is kept."""
_ADVICE = "search first, by `sconv-search search` or Study.search, or give a folder that a search wrote (runs/<study>)"


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the run folders held.

    Args:
        table: a row a record, in the order read; the columns of ``COLUMNS`` and those of ``DERIVED``, missing is
            ``pd.NA``.
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

    Tasks of one name whose scores cannot be compared, because their metrics or their data differ, get names of their
    own.

    Raises:
        FileNotFoundError: a folder is missing or holds no ``trials.jsonl``.
        ValueError: no folder is given, or no line of any is readable.
    """
    files = [_records_file(Path(path)) for path in paths]
    if not files:
        raise ValueError(f"no run folder was given; {_ADVICE}")
    unique = list({file.resolve(): file for file in files}.values())  # a folder named twice counts once
    parts: list[pd.DataFrame] = []
    origins: list[str] = []
    dropped: list[str] = []
    runs: list[RunFacts] = []
    for file, name in zip(unique, _names(unique), strict=True):
        rows, messages = read_records(file)
        facts, complaints = read_facts(file.parent, name)
        parts += [rows] if len(rows) else []
        origins += [name] * len(rows)
        runs.append(facts)
        dropped += [*(messages if len(rows) else [*messages, f"{file} holds no readable record"]), *complaints]
    if not origins:
        raise ValueError(f"nothing to report: {'; '.join(dropped)}; {_ADVICE}")
    table = with_derived(pd.concat(parts, ignore_index=True), origins, runs)
    return Reading(table=table, dropped=tuple(dropped), runs=tuple(runs))


def read_records(file: Path) -> tuple[pd.DataFrame, list[str]]:
    """The file's records, a row each, in order, and a message for every line that was dropped."""
    dropped: list[str] = []
    rows = _rows(file, dropped)
    parts = [record_frame(part) for part in iter(lambda: list(islice(rows, _PART)), [])]
    table, more = pd.concat(parts, ignore_index=True) if parts else record_frame([]), len(dropped) - MOST_TOLD
    return table, [*dropped[:MOST_TOLD], *([f"{file}: and {more} more lines"] if more > 0 else [])]


def _rows(file: Path, dropped: list[str]) -> Iterator[dict[str, Any]]:
    for number, row_fields in read_lines(file, largest=LARGEST):
        if isinstance(row_fields, str):
            dropped.append(f"{file} line {number} dropped: {row_fields}")
        else:
            yield row_fields


def record_frame(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Records' fields as typed columns; a field that is absent is missing."""
    whole = itemgetter(*DTYPES)  # several times as fast as to ask for each field
    values = [whole(row) if len(row) == len(DTYPES) else tuple(map(row.get, DTYPES)) for row in rows]
    columns: Iterable[Sequence[Any]] = zip(*values, strict=True) if rows else [()] * len(DTYPES)
    return pd.DataFrame(
        {name: _column(name, values) for name, values in zip(DTYPES, columns, strict=True)}, index=range(len(rows))
    )


def _column(name: str, values: Sequence[Any]) -> Any:
    """The values as an array of the column's type, None as missing; of texts that repeat one copy is kept."""
    dtype = str(DTYPES[name])
    if dtype == "Float64":
        numbers = np.array(values, dtype="float64")  # None becomes not-a-number, which no record holds
        return pd.arrays.FloatingArray(numbers, np.isnan(numbers))
    if DTYPES[name] != TEXT:
        return pd.array(list(values), dtype=DTYPES[name])
    if name not in _UNLIKE:
        one_copy = {value: value for value in values}
        values = [one_copy[value] for value in values]
    return pd.array(list(values), dtype=TEXT)


def _dtype(annotation: str) -> Any:
    kinds = annotation.split(" | ")
    return "Float64" if "float" in kinds else "Int64" if "int" in kinds else "boolean" if "bool" in kinds else TEXT


DTYPES = {f.name: _dtype(str(f.type)) for f in fields(TrialRecord)}


def with_derived(table: pd.DataFrame, origins: Sequence[str], runs: Sequence[RunFacts]) -> pd.DataFrame:
    """The records with the columns of ``DERIVED``, which are added in place.

    Args:
        origins: name of the run of each record.
    """
    dense = table["dense_flops"].astype("Float64")
    table["flops_share"] = (100 * table["flops"].astype("Float64") / dense).where(dense > 0)
    table["additions"] = table["macs"] + table["adds"]
    table["run"] = pd.Series(list(origins), index=table.index, dtype=TEXT)
    table["name"] = table["name"].fillna(table["number"].astype(TEXT)).fillna(table["variant"])
    table["task"] = _comparable_tasks(table, runs)
    searched = table["run"].map({facts.name: facts.family for facts in runs if facts.family}).astype(TEXT)
    reference = table["variant"].isin(REFERENCES)
    table["family"] = searched.fillna(table["methods"]).fillna("").mask(reference, "")
    table["budget_group"] = _budget_groups(table).mask(reference)
    return table


def _comparable_tasks(table: pd.DataFrame, runs: Sequence[RunFacts]) -> pd.Series[str]:
    """The tasks' names; with the metric, or the beginning of the data's checksum, where one name stands for several."""
    data = {facts.name: str(facts.spec.get("data_sha256") or "") for facts in runs}
    facts = table[["task", "metric", "metric_unit", "metric_better", "run"]]
    kinds = facts.drop_duplicates().assign(data=lambda kinds: kinds["run"].map(data).fillna(""))
    names = kinds["task"].copy()
    for _, same in kinds.groupby("task"):
        if len(same[["metric", "metric_unit", "metric_better"]].drop_duplicates()) > 1:
            units = same["metric_unit"].where(same["metric_unit"] == "", ", " + same["metric_unit"])
            names[same.index] += " (" + same["metric"] + units + ", " + same["metric_better"] + " is better)"
        if same.loc[same["data"] != "", "data"].nunique() > 1:
            names[same.index] += (" (data " + same["data"].str[:8] + ")").where(
                same["data"] != "", " (data not recorded)"
            )
    if names.equals(kinds["task"]):
        return table["task"]
    return facts.merge(kinds.assign(named=names), how="left")["named"].astype(TEXT)


def _budget_groups(table: pd.DataFrame) -> pd.Series[str]:
    pairs = table[["budget", "dense_flops"]].drop_duplicates()
    groups: Any = [budget_group(budget, dense) for budget, dense in pairs.itertuples(index=False, name=None)]
    return table[["budget", "dense_flops"]].merge(pairs.assign(group=groups), how="left")["group"].astype(TEXT)


def records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as tables of column name -> value."""
    values = [
        column.tolist() for _, column in rows.items()
    ]  # column by column: pandas' own way takes four times as long
    return [dict(zip(rows.columns, row, strict=True)) for row in zip(*values, strict=True)]


def _names(files: Sequence[Path]) -> list[str]:
    """The folders' own names, with those above them where two are alike."""
    names = [file.parent.resolve().name for file in files]
    whole = [str(file.parent.resolve()) for file in files]
    return [name if names.count(name) == 1 else long for name, long in zip(names, whole, strict=True)]


def _records_file(folder: Path) -> Path:
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is {'a file' if folder.exists() else 'missing'}, not a run folder; {_ADVICE}"
        )
    if not (folder / FILE).exists():
        raise FileNotFoundError(f"{folder} holds no {FILE}; {_ADVICE}")
    return folder / FILE
