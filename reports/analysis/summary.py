"""Many records into few numbers: a row a confirmed plan, and a count of every trial, so that nothing is hidden."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pandas as pd

from sconv_search.reports.analysis.latency import plan_timing, timings
from sconv_search.reports.wording import VALIDATION_MARK, network_label

# λ and epochs are part of what was confirmed: one plan trained with and without regularization makes two rows.
_KEYS = ["task", "budget_group", "family", "variant", "methods", "plan", "regularization", "epochs"]
_ORIGIN = ["task", "run", "stage", "variant", "family"]
_SHARED = [
    "run",
    "name",
    "metric",
    "metric_unit",
    "metric_better",
    "layers",
    "machine",
    "threads",
    "dtype",
    "latency_batch",
]
_AVERAGED = ["residual", "val_score_before", "val_score_after", "val_score", "wall_s"]
_COSTS = ["flops", "flops_share", "macs", "adds", "additions", "params"]
_READ = ["stage", *_KEYS, *_COSTS, *_SHARED, *_AVERAGED]
_TESTED = ["seed", "test_score", "latency_ms", "dense_latency_ms", "speed_up_spread", "busy_share"]
_SAME = ["task", "variant", "methods", "plan"]
_TEXTS = ["task", "key", "run", "name", "label", "stage", "budget_group", "family", "variant", "methods", "plan"]
_WHOLE = ["seeds", "flops", "macs", "adds", "additions", "params", "threads", "latency_batch"]
_COLUMNS = [
    *_TEXTS,
    "metric",
    "metric_unit",
    "metric_better",
    "regularization",
    "epochs",
    "seeds",
    "flops",
    "flops_share",
    "macs",
    "adds",
    "additions",
    "params",
    "test_score",
    "test_score_std",
    "difference",
    "speed_up",
    "speed_up_spread",
    "timing",
    "latency_ms",
    "best_val_score",
    "residual",
    "val_score_before",
    "val_score_after",
    "val_score",
    "wall_s",
    "layers",
    "machine",
    "threads",
    "dtype",
    "latency_batch",
]
_TEXT_COLUMNS = {*_TEXTS, "metric", "metric_unit", "metric_better", "timing", "layers", "machine", "dtype"}
_DTYPES = {name: "string" if name in _TEXT_COLUMNS else "Int64" if name in _WHOLE else "Float64" for name in _COLUMNS}
_STATUSES = ("complete", "screened", "over_budget", "failed")
SHOWN_UNCONFIRMED = 3
"""So many of the best search trials stand in for a method that is not confirmed yet."""


def summarize(table: pd.DataFrame) -> pd.DataFrame:
    """A row a confirmed plan, by task and falling FLOPs: test score over seeds, costs, speed-up, difference to dense.

    Where a method has no confirmed plan yet, its best search trials stand in: ``stage`` is ``search``, the label says
    so, and the test columns are missing.
    """
    known = (table["stage"] == "confirm") & (table["status"] == "complete") & table["test_score"].notna()
    confirmed = table.loc[known, [*_READ, *_TESTED]]
    confirmed = confirmed.join(timings(confirmed))
    search = _scored_in_search(table)
    same = search.loc[search["plan"].isin(confirmed["plan"].dropna()), [*_SAME, "metric_better", "val_score"]]
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
    return origin | {"label": network_label(first["variant"], first["family"], first["epochs"])}


def _confirmed_row(group: pd.DataFrame, confirmed: pd.DataFrame, search: pd.DataFrame) -> dict[str, Any]:
    row = _described(group)
    # One seed confirmed in two studies is one seed: averaged first, so that the deviation is over seeds.
    scores = group.groupby("seed", dropna=False)["test_score"].mean()
    return row | {
        "label": network_label(row["variant"], row["family"], row["epochs"]),
        "seeds": len(scores),
        "test_score": scores.mean(),
        "test_score_std": scores.std(),
        "difference": scores.mean() - _dense_score(confirmed, row["task"]),
        **plan_timing(group),
        "best_val_score": _best_in_search(group, search),
    }


def _search_rows(scored: pd.DataFrame) -> list[dict[str, Any]]:
    rows = []
    kinds = ["task", "budget_group", "variant", "family"]
    order = scored[[*kinds, "flops"]].assign(quality=quality(scored, "val_score"))
    order = order.sort_values(["quality", "flops"], ascending=[False, True], kind="stable")
    best = scored.loc[order.groupby(kinds, dropna=False).head(SHOWN_UNCONFIRMED).index]
    for _, group in best.groupby(kinds, dropna=False):
        for position in range(len(group)):
            row = _described(group.iloc[position : position + 1])
            name = network_label(row["variant"], row["family"]) + VALIDATION_MARK
            rows.append(row | {"label": name, "seeds": 0, "best_val_score": group["val_score"].iloc[position]})
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
    return row["task"], "" if pd.isna(group) else group, network_label(row["variant"], row["family"])


def _scored_in_search(table: pd.DataFrame) -> pd.DataFrame:
    scored = (table["stage"] == "search") & (table["status"] == "complete") & table["val_score"].notna()
    return table.loc[scored, _READ]


def _best_in_search(group: pd.DataFrame, search: pd.DataFrame) -> Any:
    same = search
    for name in _SAME:
        value = group[name].iloc[0]
        same = same[same[name].isna() if pd.isna(value) else same[name] == value]
    return same["val_score"].min() if (same["metric_better"] == "lower").any() else same["val_score"].max()


def quality(rows: pd.DataFrame, column: str) -> pd.Series[Any]:
    """The scores of a column, negated where a lower one is better: more quality is better in every task."""
    lower = (rows["metric_better"] == "lower").fillna(False)
    return rows[column].where(~lower, -rows[column]) if lower.any() else rows[column]


def _dense_score(confirmed: pd.DataFrame, task: str) -> Any:
    dense = confirmed[(confirmed["task"] == task) & (confirmed["variant"] == "dense")]
    return dense.groupby("seed", dropna=False)["test_score"].mean().mean()
