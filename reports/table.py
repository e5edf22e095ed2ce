"""Run folders into one table: a row a record, and a message for every line that could not be read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from sconv_search.records import TrialRecord
from sconv_search.reports.budgets import budget_group
from sconv_search.reports.record_lines import TEXT, read_records, record_frame
from sconv_search.reports.runs import RunFacts, read_facts

FILE = "trials.jsonl"
REFERENCES = ("dense", "dense_finetuned")
_ADVICE = "run `sconv-search search` first, or give a folder that it wrote (runs/<study>)"


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
        found, messages = read_records(file)
        facts, complaints = read_facts(file.parent, name)
        parts += found
        origins += [name] * sum(map(len, found))
        runs.append(facts)
        dropped += [*(messages if found else [*messages, f"{file} holds no readable record"]), *complaints]
    if not origins:
        raise ValueError(f"nothing to report: {'; '.join(dropped)}; {_ADVICE}")
    table = _table(pd.concat(parts, ignore_index=True), origins, runs)
    return Reading(table=table, dropped=tuple(dropped), runs=tuple(runs))


def to_table(
    found: Iterable[TrialRecord], origins: Sequence[str] | None = None, runs: Iterable[RunFacts] = ()
) -> pd.DataFrame:
    """The records as a typed table with the columns of ``DERIVED``.

    Args:
        origins: name of the run of each record; the study's name where it is not given.
    """
    return _table(record_frame([vars(record) for record in found]), origins, runs)


def _table(table: pd.DataFrame, origins: Sequence[str] | None, runs: Iterable[RunFacts]) -> pd.DataFrame:
    """The records with the columns of ``DERIVED``, which are added in place."""
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
    # column by column: pandas' own way takes four times as long
    values = [column.tolist() for _, column in rows.items()]
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
    if not (folder / FILE).is_file():
        raise FileNotFoundError(f"{folder} holds no {FILE}; {_ADVICE}")
    return folder / FILE
