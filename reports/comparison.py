"""What changed between two reports, from their tidy data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd

from sconv_search.reports.wording import MISSING, ScoreFormat, amount, general, one_line, score_format

_SHOWN = {"flops": amount, "macs": amount, "params": amount, "latency_ms": general, "seeds": general}
_FACTS = ("machine", "versions", "commit", "threads", "dtype", "latency_batch")
_ADVICE = "give two folders that `sconv-search report` wrote"
_TOLERANCE = 0.00005
"""Of the larger score: less is what rounding leaves, as 0.005 points of 100 %."""
_OF_0_1 = {"test_top1": "test_score", "test_top1_std": "test_score_std"}
"""Columns of reports of version 0.1, which have no metric: all their scores are in %."""
_NOTHING = "Nothing changed: verdicts, plans, scores, costs and effort are the same."


@dataclass(frozen=True, kw_only=True)
class Change:
    """One difference between two reports.

    Args:
        kind: ``trials``, ``verdict``, ``plan gone``, ``plan new``, ``plan changed``, or a fact such as ``commit``.
        subject: the runs, the task and budget, or the plan; empty for a fact.
        quantity: the column of a changed plan, else empty.
        before: the value itself; None where there is none.
        after: the same in the newer report.
        words: before and after, as a report writes them.
        difference: after less before in words; empty where it means nothing.
    """

    kind: str
    subject: str = ""
    quantity: str = ""
    before: Any
    after: Any
    words: tuple[str, str]
    difference: str = ""


def compare_reports(before: Path | str, after: Path | str) -> list[str]:
    """Lines that say what changed from one report folder to another: verdicts, plans, their scores and costs, and the
    effort.

    Raises:
        FileNotFoundError, ValueError: as ``report_changes``.
    """
    changes = report_changes(before, after)
    return [_line(kind, subject, list(group)) for (kind, subject), group in groupby(changes, _origin)] or [_NOTHING]


def report_changes(before: Path | str, after: Path | str) -> list[Change]:
    """The differences themselves, in the order of the lines; none where nothing changed.

    Raises:
        FileNotFoundError: a folder is missing or holds no data of a report.
        ValueError: its data cannot be read.
    """
    old, new = _read(Path(before)), _read(Path(after))
    return [
        *_counts(old["trials"], new["trials"]),
        *_verdicts(old["verdict"], new["verdict"]),
        *_plans(old["summary"], new["summary"]),
        *_facts(old["trials"], new["trials"]),
    ]


def _origin(change: Change) -> tuple[str, str]:
    return change.kind, change.subject


def _line(kind: str, subject: str, changes: Sequence[Change]) -> str:
    parts = []
    for change in changes:
        known = [
            words for words, value in zip(change.words, (change.before, change.after), strict=True) if value is not None
        ]
        words = " → ".join(known if kind in ("plan gone", "plan new") else change.words)
        difference = f" ({change.difference})" if change.difference else ""
        parts.append(f"{change.quantity} {words}{difference}".strip())
    return ": ".join(part for part in (kind, subject, "; ".join(parts)) if part)


def _read(folder: Path) -> dict[str, pd.DataFrame]:
    tables = {}
    for name in ("trials", "summary", "verdict"):
        file = folder / "data" / f"{name}.parquet"
        if not file.is_file():
            raise FileNotFoundError(f"{folder} holds no data/{name}.parquet; {_ADVICE}")
        try:
            tables[name] = _with_metric(pd.read_parquet(file).rename(columns=_OF_0_1))
        except (OSError, ValueError) as error:
            raise ValueError(f"{file} cannot be read: {error}; {_ADVICE}") from error
    return tables


def _with_metric(table: pd.DataFrame) -> pd.DataFrame:
    """The table, with the columns of the metric, the run and the plan's name where an older version wrote none."""
    metric = table["metric"].fillna("top-1") if "metric" in table else "top-1"
    known: dict[str, Any] = {
        "metric_unit": "%",
        "metric_better": "higher",
        "run": pd.NA,
        "name": table.get("key", pd.NA),
    }
    return table.assign(metric=metric, **{name: value for name, value in known.items() if name not in table})


def _counts(old: pd.DataFrame, new: pd.DataFrame) -> Iterator[Change]:
    first, second = _tally(old), _tally(new)
    for name in sorted(first | second):
        if (was := first[name]) != (now := second[name]):
            yield Change(kind="trials", subject=name, before=was, after=now, words=(str(was), str(now)))


def _tally(table: pd.DataFrame) -> Counter[str]:
    kinds = table[["run", "stage", "status"]].itertuples(index=False, name=None)
    return Counter(f"{one_line(run)}, {stage}, {status.replace('_', ' ')}" for run, stage, status in kinds)


def _verdicts(old: pd.DataFrame, new: pd.DataFrame) -> Iterator[Change]:
    first, second = _leaders(old), _leaders(new)
    for key in sorted(set(first) | set(second)):
        was, now = first.get(key), second.get(key)
        if was != now:
            words = (was or "no plan confirmed", now or "no plan confirmed")
            yield Change(kind="verdict", subject=f"{one_line(key[0])} at {key[1]}", before=was, after=now, words=words)


def _leaders(verdict: pd.DataFrame) -> dict[tuple[str, str], str]:
    methods = verdict[verdict["family"].fillna("") != ""].drop_duplicates(["task", "budget_group"])
    return {
        (str(row["task"]), str(row["budget_group"])): f"{row['label']} {row['score']} {row['metric_unit']}".rstrip()
        for row in methods.to_dict("records")
    }


def _plans(old: pd.DataFrame, new: pd.DataFrame) -> Iterator[Change]:
    first, second = _by_plan(old), _by_plan(new)
    for key in sorted(set(first) - set(second)):
        words = (_plan_words(first[key]), MISSING)
        yield Change(
            kind="plan gone", subject=_plan_name(first[key]), before=_plan(first[key]), after=None, words=words
        )
    for key in sorted(set(second) - set(first)):
        words = (MISSING, _plan_words(second[key]))
        yield Change(
            kind="plan new", subject=_plan_name(second[key]), before=None, after=_plan(second[key]), words=words
        )
    for key in sorted(set(first) & set(second)):
        yield from _changes(first[key], second[key])


def _by_plan(summary: pd.DataFrame) -> dict[tuple[str, str], dict[Any, Any]]:
    confirmed = summary[summary["stage"] == "confirm"]
    return {(str(row["task"]), str(row["key"])): row for row in confirmed.to_dict("records")}


def _plan_name(row: dict[Any, Any]) -> str:
    run = "" if pd.isna(row["run"]) else f" of {one_line(row['run'])}"
    return f"{one_line(row['label'])}, plan {one_line(str(row['name']))}{run} ({one_line(row['task'])})"


def _plan_words(row: dict[Any, Any]) -> str:
    scores = _scores(row)
    return f"{scores.spread(row['test_score'], row['test_score_std'])}{scores.unit} at {amount(row['flops'])} FLOPs"


def _scores(row: dict[Any, Any]) -> ScoreFormat:
    return score_format(pd.DataFrame([row]))


def _plan(row: dict[Any, Any]) -> dict[str, Any]:
    return {name: _value(row[name]) for name in ("test_score", "test_score_std", "seeds", "flops")}


def _changes(old: dict[Any, Any], new: dict[Any, Any]) -> Iterator[Change]:
    about: dict[str, Any] = {"kind": "plan changed", "subject": _plan_name(new)}
    scale = max((abs(float(row["test_score"])) for row in (old, new) if not pd.isna(row["test_score"])), default=0.0)
    if _differs(old["test_score"], new["test_score"], _TOLERANCE * scale):
        scores = _scores(new)
        values: dict[str, Any] = {"before": _value(old["test_score"]), "after": _value(new["test_score"])}
        first, second = (scores.spread(row["test_score"], row["test_score_std"]) for row in (old, new))
        moved = f"{scores.signed(new['test_score'] - old['test_score'])} {scores.difference_unit}".rstrip()
        yield Change(
            **about,
            quantity=scores.label("test_score"),
            **values,
            words=(first, f"{second}{scores.unit}"),
            difference=moved,
        )
    for name, form in _SHOWN.items():
        scale = 0 if pd.isna(old[name]) else abs(float(old[name]))
        if _differs(old[name], new[name], 0.02 * scale if name == "latency_ms" else 0.0):
            values = {"before": _value(old[name]), "after": _value(new[name])}
            yield Change(**about, quantity=name, **values, words=(form(old[name]), form(new[name])))


def _value(number: Any) -> int | float | None:
    """A cell as Python's own number; whole ones stay whole."""
    if pd.isna(number):
        return None
    return int(number) if float(number).is_integer() and not isinstance(number, float) else float(number)


def _differs(old: Any, new: Any, tolerance: float) -> bool:
    if pd.isna(old) or pd.isna(new):
        return bool(pd.isna(old) != pd.isna(new))
    return abs(float(new) - float(old)) > tolerance


def _facts(old: pd.DataFrame, new: pd.DataFrame) -> Iterator[Change]:
    for name in _FACTS:
        was, now = (_values(table, name) for table in (old, new))
        if was != now:
            words = ("; ".join(was) or MISSING, "; ".join(now) or MISSING)
            yield Change(kind=name.replace("_", " "), before=was, after=now, words=words)


def _values(table: pd.DataFrame, name: str) -> Sequence[str]:
    return sorted({one_line(str(value)) for value in table[name].dropna()}) if name in table else []
