"""Many records into few numbers: a row a confirmed plan, and a count of every trial, so that nothing is hidden."""

from __future__ import annotations

from typing import Any

import pandas as pd

from reports.words import VALIDATION_MARK, label

# λ and epochs are part of what was confirmed: one plan trained with and without regularisation makes two rows.
_KEYS = ["task", "variant", "methods", "plan", "regularization", "epochs"]
_ORIGIN = ["task", "study", "stage", "variant", "methods"]
_AVERAGED = ["residual", "val_top1_before", "val_top1_after", "wall_s"]
_COSTS = ["flops", "flops_share", "macs", "adds", "params"]
_DTYPES = {
    "task": "string",
    "label": "string",
    "stage": "string",
    "variant": "string",
    "methods": "string",
    "plan": "string",
    "regularization": "Float64",
    "epochs": "Float64",
    "seeds": "Int64",
    "flops": "Int64",
    "flops_share": "Float64",
    "macs": "Int64",
    "adds": "Int64",
    "params": "Int64",
    "test_top1": "Float64",
    "test_top1_std": "Float64",
    "difference": "Float64",
    "latency_ms": "Float64",
    "speed_up": "Float64",
    "best_val_top1": "Float64",
    "residual": "Float64",
    "val_top1_before": "Float64",
    "val_top1_after": "Float64",
    "wall_s": "Float64",
}
_STATUSES = ("complete", "over_budget", "failed")
SHOWN_UNCONFIRMED = 3
"""So many of the best search trials stand in for a method that is not confirmed yet."""


def summarize(table: pd.DataFrame) -> pd.DataFrame:
    """A row a confirmed plan, by task and falling FLOPs: test top-1 over seeds, costs, latency, distance to dense.

    Where a method has no confirmed plan yet, its best search trials stand in: ``stage`` is ``search``, the label says so,
    and the test columns are missing.
    """
    confirmed = table[(table["stage"] == "confirm") & (table["status"] == "complete") & table["test_top1"].notna()]
    rows = [_confirmed_row(group, table) for _, group in confirmed.groupby(_KEYS, dropna=False)]
    done = {_kind(row) for row in rows}
    rows += [row for row in _search_rows(table) if _kind(row) not in done]
    summary = pd.DataFrame(rows, columns=list(_DTYPES)).astype(_DTYPES)
    return summary.sort_values(["task", "flops", "label", "plan"], ascending=[True, False, True, True], ignore_index=True)


def counts(table: pd.DataFrame) -> pd.DataFrame:
    """Complete, over-budget and failed trials of each study, stage and method, with their total wall time."""
    rows = []
    for _, group in table.groupby(_ORIGIN, dropna=False):
        tally: dict[str, Any] = {status: int((group["status"] == status).sum()) for status in _STATUSES}
        rows.append(_origin(group) | tally | {"wall_s": group["wall_s"].sum(min_count=1)})
    return pd.DataFrame(rows, columns=["task", "study", "stage", "label", *_STATUSES, "wall_s"])


def failures(table: pd.DataFrame) -> pd.DataFrame:
    """Failed trials by reason: how many of which study, stage and method."""
    failed = table[table["status"] == "failed"]
    groups = [group for _, group in failed.groupby([*_ORIGIN, "reason"], dropna=False)]
    rows = [_origin(group) | {"trials": len(group), "reason": group["reason"].iloc[0]} for group in groups]
    return pd.DataFrame(rows, columns=["task", "study", "stage", "label", "trials", "reason"])


def _origin(group: pd.DataFrame) -> dict[str, Any]:
    first = group.iloc[0]
    return {name: first[name] for name in ("task", "study", "stage")} | {"label": label(first["variant"], first["methods"])}


def _confirmed_row(group: pd.DataFrame, table: pd.DataFrame) -> dict[str, Any]:
    row = _described(group)
    # One seed confirmed in two studies is one seed: averaged first, so that the deviation is over seeds.
    scores = group.groupby("seed", dropna=False)["test_top1"].mean()
    speed_ups = (group["dense_latency_ms"] / group["latency_ms"]).where(group["latency_ms"] > 0)
    return row | {
        "label": label(row["variant"], row["methods"]),
        "seeds": len(scores),
        "test_top1": scores.mean(),
        "test_top1_std": scores.std(),
        "difference": scores.mean() - _dense_top1(table, row["task"]),
        "latency_ms": group["latency_ms"].median(),
        "speed_up": speed_ups.median(),
        "best_val_top1": _best_in_search(group, table),
    }


def _search_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    rows = []
    ordered = _scored_in_search(table).sort_values(["val_top1", "flops"], ascending=[False, True], kind="stable")
    for _, group in ordered.groupby(["task", "variant", "methods"], dropna=False):
        for position in range(min(len(group), SHOWN_UNCONFIRMED)):
            row = _described(group.iloc[position : position + 1])
            name = label(row["variant"], row["methods"]) + VALIDATION_MARK
            rows.append(row | {"label": name, "seeds": 0, "best_val_top1": group["val_top1"].iloc[position]})
    return rows


def _described(group: pd.DataFrame) -> dict[str, Any]:
    shared = {name: group[name].iloc[0] for name in ["stage", *_KEYS]}
    # The rows of one plan cost the same; should they not, the dearest is shown, which flatters nobody.
    dearest = {name: group[name].max() for name in _COSTS}
    return shared | dearest | {name: group[name].mean() for name in _AVERAGED}


def _kind(row: dict[str, Any]) -> tuple[str, str]:
    return row["task"], label(row["variant"], row["methods"])


def _scored_in_search(table: pd.DataFrame) -> pd.DataFrame:
    return table[(table["stage"] == "search") & (table["status"] == "complete") & table["val_top1"].notna()]


def _best_in_search(group: pd.DataFrame, table: pd.DataFrame) -> Any:
    same = _scored_in_search(table)
    for name in ("task", "variant", "methods", "plan"):
        value = group[name].iloc[0]
        same = same[same[name].isna() if pd.isna(value) else same[name] == value]
    return same["val_top1"].max()


def _dense_top1(table: pd.DataFrame, task: str) -> Any:
    dense = table[(table["task"] == task) & (table["variant"] == "dense") & (table["stage"] == "confirm")]
    return dense[dense["status"] == "complete"].groupby("seed", dropna=False)["test_top1"].mean().mean()
