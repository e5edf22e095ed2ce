"""Many records into few numbers: a row a confirmed plan, and a count of every trial, so that nothing is hidden."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pandas as pd

from sconv_search.reports.words import VALIDATION_MARK, label

# λ and epochs are part of what was confirmed: one plan trained with and without regularization makes two rows.
_KEYS = ["task", "budget_group", "family", "variant", "methods", "plan", "regularization", "epochs"]
_ORIGIN = ["task", "run", "stage", "variant", "family"]
_SHARED = ["layers", "machine", "threads", "dtype", "latency_batch"]
_AVERAGED = ["residual", "val_top1_before", "val_top1_after", "val_top1", "wall_s"]
_COSTS = ["flops", "flops_share", "macs", "adds", "additions", "params"]
_READ = ["stage", *_KEYS, *_COSTS, *_SHARED, *_AVERAGED]
_TESTED = ["seed", "test_top1", "latency_ms", "dense_latency_ms"]
_SAME = ["task", "variant", "methods", "plan"]
_DTYPES = {
    "task": "string",
    "key": "string",
    "label": "string",
    "stage": "string",
    "budget_group": "string",
    "family": "string",
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
    "additions": "Int64",
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
    "val_top1": "Float64",
    "wall_s": "Float64",
    "layers": "string",
    "machine": "string",
    "threads": "Int64",
    "dtype": "string",
    "latency_batch": "Int64",
}
_STATUSES = ("complete", "screened", "over_budget", "failed")
SHOWN_UNCONFIRMED = 3
"""So many of the best search trials stand in for a method that is not confirmed yet."""


def summarize(table: pd.DataFrame) -> pd.DataFrame:
    """A row a confirmed plan, by task and falling FLOPs: test top-1 over seeds, costs, latency, distance to dense.

    Where a method has no confirmed plan yet, its best search trials stand in: ``stage`` is ``search``, the label says
        so,
    and the test columns are missing.
    """
    known = (table["stage"] == "confirm") & (table["status"] == "complete") & table["test_top1"].notna()
    confirmed = table.loc[known, [*_READ, *_TESTED]]
    search = _scored_in_search(table)
    same = search.loc[search["plan"].isin(confirmed["plan"].dropna()), [*_SAME, "val_top1"]]
    rows = [_confirmed_row(group, confirmed, same) for _, group in confirmed.groupby(_KEYS, dropna=False)]
    done = {_kind(row) for row in rows}
    rows += [row for row in _search_rows(search) if _kind(row) not in done]
    summary = pd.DataFrame(rows, columns=list(_DTYPES)).astype(_DTYPES)
    return summary.sort_values(
        ["task", "flops", "label", "plan"], ascending=[True, False, True, True], ignore_index=True
    )


def counts(table: pd.DataFrame) -> pd.DataFrame:
    """Complete, over-budget and failed trials of each study, stage and method, with their total wall time."""
    rows = []
    for _, group in table.groupby(_ORIGIN, dropna=False):
        tally: dict[str, Any] = {status: int((group["status"] == status).sum()) for status in _STATUSES}
        rows.append(_origin(group) | tally | {"wall_s": group["wall_s"].sum(min_count=1)})
    return pd.DataFrame(rows, columns=["task", "run", "stage", "label", *_STATUSES, "wall_s"])


def failures(table: pd.DataFrame) -> pd.DataFrame:
    """Failed trials by reason: how many of which study, stage and method."""
    failed = table[table["status"] == "failed"]
    groups = [group for _, group in failed.groupby([*_ORIGIN, "reason"], dropna=False)]
    rows = [_origin(group) | {"trials": len(group), "reason": group["reason"].iloc[0]} for group in groups]
    return pd.DataFrame(rows, columns=["task", "run", "stage", "label", "trials", "reason"])


def _origin(group: pd.DataFrame) -> dict[str, Any]:
    first = group.iloc[0]
    origin = {name: first[name] for name in ("task", "run", "stage")}
    return origin | {"label": label(first["variant"], first["family"], first["epochs"])}


def _confirmed_row(group: pd.DataFrame, confirmed: pd.DataFrame, search: pd.DataFrame) -> dict[str, Any]:
    row = _described(group)
    # One seed confirmed in two studies is one seed: averaged first, so that the deviation is over seeds.
    scores = group.groupby("seed", dropna=False)["test_top1"].mean()
    speed_ups = (group["dense_latency_ms"] / group["latency_ms"]).where(group["latency_ms"] > 0)
    return row | {
        "label": label(row["variant"], row["family"], row["epochs"]),
        "seeds": len(scores),
        "test_top1": scores.mean(),
        "test_top1_std": scores.std(),
        "difference": scores.mean() - _dense_top1(confirmed, row["task"]),
        "latency_ms": group["latency_ms"].median(),
        "speed_up": speed_ups.median(),
        "best_val_top1": _best_in_search(group, search),
    }


def _search_rows(scored: pd.DataFrame) -> list[dict[str, Any]]:
    rows = []
    kinds = ["task", "budget_group", "variant", "family"]
    order = scored[[*kinds, "val_top1", "flops"]].sort_values(
        ["val_top1", "flops"], ascending=[False, True], kind="stable"
    )
    best = scored.loc[order.groupby(kinds, dropna=False).head(SHOWN_UNCONFIRMED).index]
    for _, group in best.groupby(kinds, dropna=False):
        for position in range(len(group)):
            row = _described(group.iloc[position : position + 1])
            name = label(row["variant"], row["family"]) + VALIDATION_MARK
            rows.append(row | {"label": name, "seeds": 0, "best_val_top1": group["val_top1"].iloc[position]})
    return rows


def _described(group: pd.DataFrame) -> dict[str, Any]:
    shared = {name: group[name].iloc[0] for name in ["stage", *_KEYS]}
    # The rows of one plan cost the same; should they not, the dearest is shown, which flatters nobody.
    dearest = {name: group[name].max() for name in _COSTS}
    first = {name: known.iloc[0] if len(known := group[name].dropna()) else pd.NA for name in _SHARED}
    return {"key": plan_key(shared)} | shared | first | dearest | {name: group[name].mean() for name in _AVERAGED}


def plan_key(row: dict[str, Any]) -> str:
    """Eight letters that stand for the plan and how it was trained: for links and file names, the same in every
    report.
    """
    text = "\x1f".join("" if pd.isna(row[name]) else str(row[name]) for name in _KEYS)
    return sha256(text.encode("utf-8")).hexdigest()[:8]


def _kind(row: dict[str, Any]) -> tuple[str, str, str]:
    group = row["budget_group"]
    return row["task"], "" if pd.isna(group) else group, label(row["variant"], row["family"])


def _scored_in_search(table: pd.DataFrame) -> pd.DataFrame:
    scored = (table["stage"] == "search") & (table["status"] == "complete") & table["val_top1"].notna()
    return table.loc[scored, _READ]


def _best_in_search(group: pd.DataFrame, search: pd.DataFrame) -> Any:
    same = search
    for name in _SAME:
        value = group[name].iloc[0]
        same = same[same[name].isna() if pd.isna(value) else same[name] == value]
    return same["val_top1"].max()


def _dense_top1(confirmed: pd.DataFrame, task: str) -> Any:
    dense = confirmed[(confirmed["task"] == task) & (confirmed["variant"] == "dense")]
    return dense.groupby("seed", dropna=False)["test_top1"].mean().mean()
