"""What changed between two reports, from their tidy data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from reports.words import MISSING, amount, general, one_line, signed, spread

_IDENTITY = ["task", "key"]
_SHOWN = {"flops": amount, "macs": amount, "params": amount, "latency_ms": general, "seeds": general}
_ADVICE = "give two folders that `sconv-search report` wrote"
_TOLERANCE = 0.005


def compare_reports(before: Path | str, after: Path | str) -> list[str]:
    """Lines that say what changed from one report folder to another: verdicts, plans, their scores and costs, and the effort.

    Raises:
        FileNotFoundError: a folder is missing or holds no data of a report.
        ValueError: its data cannot be read.
    """
    old, new = _read(Path(before)), _read(Path(after))
    lines = [
        *_counts(old["trials"], new["trials"]),
        *_verdicts(old["verdict"], new["verdict"]),
        *_plans(old["summary"], new["summary"]),
        *_facts(old["trials"], new["trials"]),
    ]
    return lines or ["Nothing changed: verdicts, plans, scores, costs and effort are the same."]


def _read(folder: Path) -> dict[str, pd.DataFrame]:
    found = {}
    for name in ("trials", "summary", "verdict"):
        file = folder / "data" / f"{name}.parquet"
        if not file.is_file():
            raise FileNotFoundError(f"{folder} holds no data/{name}.parquet; {_ADVICE}")
        try:
            found[name] = pd.read_parquet(file)
        except (OSError, ValueError) as error:
            raise ValueError(f"{file} cannot be read: {error}; {_ADVICE}") from error
    return found


def _counts(old: pd.DataFrame, new: pd.DataFrame) -> list[str]:
    first, second = _tally(old), _tally(new)
    return [f"trials: {name}: {first[name]} → {second[name]}" for name in sorted(first | second) if first[name] != second[name]]


def _tally(table: pd.DataFrame) -> Counter[str]:
    kinds = table[["run", "stage", "status"]].itertuples(index=False, name=None)
    return Counter(f"{one_line(run)}, {stage}, {status.replace('_', ' ')}" for run, stage, status in kinds)


def _verdicts(old: pd.DataFrame, new: pd.DataFrame) -> list[str]:
    first, second = _leaders(old), _leaders(new)
    lines = []
    for key in sorted(set(first) | set(second)):
        was, now = first.get(key, "no plan confirmed"), second.get(key, "no plan confirmed")
        if was != now:
            lines.append(f"verdict: {one_line(key[0])} at {key[1]}: {was} → {now}")
    return lines


def _leaders(verdict: pd.DataFrame) -> dict[tuple[str, str], str]:
    methods = verdict[verdict["family"].fillna("") != ""].drop_duplicates(["task", "budget_group"])
    return {
        (str(row["task"]), str(row["budget_group"])): f"{row['label']} {row['score']} %" for row in methods.to_dict("records")
    }


def _plans(old: pd.DataFrame, new: pd.DataFrame) -> list[str]:
    first, second = _by_plan(old), _by_plan(new)
    lines = [f"plan gone: {_plan_words(first[key])}" for key in sorted(set(first) - set(second))]
    lines += [f"plan new: {_plan_words(second[key])}" for key in sorted(set(second) - set(first))]
    for key in sorted(set(first) & set(second)):
        if changes := _changes(first[key], second[key]):
            lines.append(f"plan changed: {one_line(second[key]['label'])}, {key[1]} ({one_line(key[0])}): {'; '.join(changes)}")
    return lines


def _by_plan(summary: pd.DataFrame) -> dict[tuple[str, str], dict[Any, Any]]:
    confirmed = summary[summary["stage"] == "confirm"]
    return {(str(row["task"]), str(row["key"])): row for row in confirmed.to_dict("records")}


def _plan_words(row: dict[Any, Any]) -> str:
    score = spread(row["test_top1"], row["test_top1_std"])
    return f"{one_line(row['label'])}, {row['key']} ({one_line(row['task'])}): {score} % at {amount(row['flops'])} FLOPs"


def _changes(old: dict[Any, Any], new: dict[Any, Any]) -> list[str]:
    found = []
    if _differs(old["test_top1"], new["test_top1"], _TOLERANCE):
        moved = signed(new["test_top1"] - old["test_top1"])
        scores = (spread(row["test_top1"], row["test_top1_std"]) for row in (old, new))
        found.append(f"test top-1 {' → '.join(scores)} % ({moved} points)")
    for name, form in _SHOWN.items():
        scale = 0 if pd.isna(old[name]) else abs(float(old[name]))
        if _differs(old[name], new[name], 0.02 * scale if name == "latency_ms" else 0.0):
            found.append(f"{name} {form(old[name])} → {form(new[name])}")
    return found


def _differs(old: Any, new: Any, tolerance: float) -> bool:
    if pd.isna(old) or pd.isna(new):
        return bool(pd.isna(old) != pd.isna(new))
    return abs(float(new) - float(old)) > tolerance


def _facts(old: pd.DataFrame, new: pd.DataFrame) -> list[str]:
    lines = []
    for name in ("machine", "versions", "commit", "threads", "dtype", "latency_batch"):
        was, now = (_values(table, name) for table in (old, new))
        if was != now:
            lines.append(f"{name.replace('_', ' ')}: {'; '.join(was) or MISSING} → {'; '.join(now) or MISSING}")
    return lines


def _values(table: pd.DataFrame, name: str) -> Sequence[str]:
    return sorted({one_line(str(value)) for value in table[name].dropna()}) if name in table else []
