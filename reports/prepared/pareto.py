"""Accuracy against each cost, for one task."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median, median_high
from typing import Any

import pandas as pd

from sconv_search.records import COLUMNS
from sconv_search.reports.budgets import budget_share
from sconv_search.reports.charts import Axis, Chart, Drawing, Figure, Label, Nothing, Rule, Trace, spread_apart, thinned
from sconv_search.reports.pareto import front_positions
from sconv_search.reports.table import REFERENCES, records
from sconv_search.reports.words import (
    amount,
    general,
    heading,
    hundredths,
    label,
    method_words,
    multiline,
    one_line,
    spread,
    tenths,
)

MOST_SHOWN = 150
"""So many search points of a method are drawn; more would make the page large and hide each other."""
_NEEDED = [
    "stage",
    "status",
    "variant",
    "family",
    "run",
    "number",
    "regularization",
    "val_top1",
    "budget",
    "dense_flops",
    "flops_share",
    "flops",
    "macs",
    "additions",
    "params",
]
"""A table of a hundred thousand rows is chosen from often; without the plans that is cheap."""
_OF_PLANS = [
    "stage",
    "variant",
    "family",
    "label",
    "epochs",
    "key",
    "budget_group",
    "seeds",
    "test_top1",
    "test_top1_std",
    "best_val_top1",
    "difference",
    "flops_share",
    "flops",
    "macs",
    "additions",
    "params",
    "latency_ms",
    "speed_up",
]
_SAID = ["family", "run", "number", "regularization", "val_top1", "flops_share", "macs", "params"]
_CAPTION = (
    "Strong: confirmed plans, mean ± standard deviation over seeds on the test set; hollow: uniform plans. Faint:"
    " search trials, validation accuracy. Steps join each method's confirmed front. Arrows at the lower edge: points"
    " below the axis. Hover names a plan; a click opens its layers."
)
_ROOM = 0.06
_LEAST_SPAN = 3.0
_TYPICAL = 4.0
_GAP = 0.075


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A cost on the axis: in % of the dense network where ``relative`` says how to get there."""

    key: str
    name: str
    column: str


METRICS = (
    Metric(key="flops", name="FLOPs", column="flops"),
    Metric(key="macs", name="MACs", column="macs"),
    Metric(key="additions", name="additions", column="additions"),
    Metric(key="params", name="parameters", column="params"),
    Metric(key="latency", name="latency", column="latency_ms"),
)


def pareto_figure(table: pd.DataFrame, summary: pd.DataFrame, task: str) -> Figure:
    """The task's figure, with a drawing for each cost."""
    rows, plans = table.loc[table["task"] == task, _NEEDED], summary.loc[summary["task"] == task, _OF_PLANS]
    scored, budgets = _scored(rows), rows[["budget", "dense_flops"]].drop_duplicates()
    drawings = {metric.name: pareto_chart(budgets, plans, metric, scored) for metric in METRICS}
    return Figure(key="pareto", title="Accuracy against cost", drawings=drawings, caption=_CAPTION)


def pareto_chart(budgets: pd.DataFrame, plans: pd.DataFrame, metric: Metric, scored: pd.DataFrame) -> Drawing:
    """One cost's drawing, or a sentence where nothing was measured.

    Args:
        budgets: the task's, each with the dense network's FLOPs.
        scored: the search trials with a score.
    """
    title = f"Accuracy against {metric.name}"
    dense = _dense_cost(budgets, plans, metric)
    strong = _located(plans[(plans["stage"] == "confirm") & ~plans["variant"].isin(REFERENCES)], metric, dense)
    strong = strong[strong["test_top1"].notna()]
    searched = _located(scored, metric, dense)
    if strong.empty and searched.empty:
        return Nothing(title=title, reason=f"No network with a score has its {metric.name} measured.")
    references = _references(plans)
    limits = limits_of(strong, searched, references)
    faint, dropped = _faint(searched, limits)
    traces = [*faint, *_strong(strong, limits), *_fronts(strong, limits)]
    below = int((searched["val_top1"] < limits[0]).sum() + (strong["test_top1"] < limits[0]).sum())
    return Chart(
        title=title,
        x=Axis(label=_axis_label(metric, dense)),
        traces=traces,
        y=Axis(label=heading("test_top1" if len(strong) else "val_top1"), limits=limits),
        rules=[*references, *_budget_rules(budgets, metric), *_dense_rule(metric, dense)],
        labels=_labels(strong, searched, limits),
        notes=_notes(limits, below, dropped),
    )


def limits_of(strong: pd.DataFrame, searched: pd.DataFrame, references: list[Rule]) -> tuple[float, float]:
    """Top-1 at the axis' ends: robust, so that one collapse cannot squash the rest.

    The axis reaches below the best score by four times the typical plan's distance to it (the upper median), at least
    three points, and no further than there is something to show. What is lower is drawn as an arrow at the edge.
    """
    scores, found = _floats(strong["test_top1"]), _floats(searched["val_top1"])
    typical = scores or [median(found)]
    reference = [rule.at for rule in references]
    high = max([*typical, *reference, *found])
    best = max([*typical, *reference])
    floor = best - max(_TYPICAL * median_high([best - score for score in typical]), _LEAST_SPAN)
    deviations = zip(scores, strong["test_top1_std"].fillna(0), strict=True) if scores else []
    bars = [(score - float(deviation), score + float(deviation)) for score, deviation in deviations if score >= floor]
    shown = [value for value in [*scores, *reference, *found] if value >= floor]
    low = max(floor, min([*shown, *(low for low, _ in bars)]))
    high = max([high, *(min(top, best + (best - low)) for _, top in bars)])
    room = max(high - low, 0.5)
    return low - _ROOM * room, min(high + _ROOM * room, 100 + 0.03 * room)


def _dense_cost(budgets: pd.DataFrame, plans: pd.DataFrame, metric: Metric) -> float | None:
    """The dense network's cost; for latency 100, as each plan's is in % of the dense one measured in turn."""
    if metric.key == "latency":
        return 100.0
    known = plans.loc[plans["variant"].isin(REFERENCES), metric.column].dropna()
    if metric.key == "flops" and known.empty:
        known = budgets["dense_flops"].dropna()
    return float(known.iloc[0]) if len(known) and float(known.iloc[0]) > 0 else None


def _located(plans: pd.DataFrame, metric: Metric, dense: float | None) -> pd.DataFrame:
    """The rows with a place ``x`` on the axis."""
    if metric.key == "latency":
        place = (
            (100 / plans["speed_up"]).where(plans["speed_up"] > 0)
            if "speed_up" in plans
            else plans["flops_share"] * float("nan")
        )
    elif metric.key == "flops":
        place = plans["flops_share"]
    else:
        place = plans[metric.column].astype("Float64") * (100 / dense if dense else 1.0)
    found = plans.assign(x=place)
    known = found["x"].notna()
    return found if known.all() else found[known]


def _scored(rows: pd.DataFrame) -> pd.DataFrame:
    scored = rows[(rows["stage"] == "search") & (rows["status"] == "complete") & rows["val_top1"].notna()]
    return scored[~scored["variant"].isin(REFERENCES)]


def _faint(searched: pd.DataFrame, limits: tuple[float, float]) -> tuple[list[Trace], list[str]]:
    """A trace a method of at most ``MOST_SHOWN`` points, its front and best always among them; and who was thinned."""
    traces, dropped = [], []
    inside = searched["val_top1"] >= limits[0]
    for family, part in _by_family(searched[inside]):
        shown = part
        if len(part) > MOST_SHOWN:
            kept = set(front_positions(part["x"], part["val_top1"])) | set(thinned(len(part), MOST_SHOWN))
            shown = part.iloc[sorted(kept)]
            dropped.append(f"{method_words(family)} {len(shown):,} of {len(part):,}")
        traces.append(
            Trace(
                name=method_words(family),
                look=family,
                kind="faint",
                x=_floats(shown["x"]),
                y=_floats(shown["val_top1"]),
                texts=[_search_text(row) for row in records(shown[_SAID])],
            )
        )
    for family, part in _by_family(searched[~inside]):
        shown = part.iloc[thinned(len(part), 60)]
        traces.append(
            Trace(
                name=method_words(family),
                look=family,
                kind="below",
                x=_floats(shown["x"]),
                y=[limits[0]] * len(shown),
                texts=[_search_text(row) for row in records(shown[_SAID])],
            )
        )
    return traces, dropped


def _strong(strong: pd.DataFrame, limits: tuple[float, float]) -> list[Trace]:
    traces = []
    for family, part in _by_family(strong):
        inside = part[part["test_top1"] >= limits[0]].sort_values("x")
        for uniform in (False, True):
            chosen = inside[(inside["variant"] == "uniform") == uniform]
            if len(chosen):
                traces.append(_points(family, chosen, "hollow" if uniform else "strong", _floats(chosen["test_top1"])))
        outside = part[part["test_top1"] < limits[0]]
        if len(outside):
            traces.append(_points(family, outside, "below", [limits[0]] * len(outside)))
    return traces


def _points(family: str, part: pd.DataFrame, kind: Any, heights: list[float]) -> Trace:
    return Trace(
        name=method_words(family),
        look=family,
        kind=kind,
        x=_floats(part["x"]),
        y=heights,
        errors=[] if kind == "below" else [None if pd.isna(value) else float(value) for value in part["test_top1_std"]],
        texts=[_plan_text(row) for row in records(part)],
        keys=[str(key) for key in part["key"]],
    )


def _fronts(strong: pd.DataFrame, limits: tuple[float, float]) -> list[Trace]:
    traces = []
    for family, part in _by_family(strong[strong["test_top1"] >= limits[0]]):
        front = part.iloc[front_positions(part["x"], part["test_top1"])]
        if len(front) > 1:
            x, y = _floats(front["x"]), _floats(front["test_top1"])
            traces.append(Trace(name=method_words(family), look=family, kind="steps", x=x, y=y))
    return traces


def _labels(strong: pd.DataFrame, searched: pd.DataFrame, limits: tuple[float, float]) -> list[Label]:
    """Each method's name at the height of its dearest shown point."""
    heights: dict[str, float] = {}
    for rows, score in ((searched, "val_top1"), (strong, "test_top1")):
        for family, part in _by_family(rows):
            inside = part[part[score] >= limits[0]]
            if len(inside):
                heights[family] = float(inside.loc[inside["x"] == inside["x"].max(), score].max())
            else:
                heights.setdefault(family, limits[0])
    gap = _GAP * (limits[1] - limits[0])
    moved = spread_apart(list(heights.values()), gap, (limits[0] + gap / 2, limits[1] - gap / 2))
    return [
        Label(text=method_words(family), look=family, y=height) for family, height in zip(heights, moved, strict=True)
    ]


def _references(plans: pd.DataFrame) -> list[Rule]:
    """One line each dense network: its confirmed test score, or while there is none its validation score, and named
    so.
    """
    made = []
    for variant, dash in zip(REFERENCES, ("dash", "dashdot"), strict=True):
        for _, row in plans[plans["variant"] == variant].drop_duplicates("label").iterrows():
            score = float(row["test_top1"] if row["stage"] == "confirm" else row["best_val_top1"])
            deviation = None if pd.isna(row["test_top1_std"]) else float(row["test_top1_std"])
            name = f"{row['label']}: {spread(score, deviation)}"
            made.append(Rule(name=name, at=score, axis="y", dash=dash, deviation=deviation))  # type: ignore[arg-type]  # a literal
    return made


def _budget_rules(budgets: pd.DataFrame, metric: Metric) -> list[Rule]:
    pairs = budgets.dropna()
    if metric.key == "flops":
        shares = {
            share for pair in pairs.itertuples(index=False, name=None) if (share := budget_share(*pair)) is not None
        }
    else:
        texts = {str(text) for text in pairs["budget"]}
        shares = {float(text.partition("%")[0]) for text in texts if text.endswith(f"% {metric.key}")}
    return [
        Rule(name=f"budget {share:g} %", at=share, axis="x", dash="dot")
        for share in sorted({round(share, 1) for share in shares})
    ]


def _dense_rule(metric: Metric, dense: float | None) -> list[Rule]:
    return (
        [Rule(name="dense 100 %", at=100.0, axis="x", dash="dash")]
        if dense is not None and metric.key != "flops"
        else []
    )


def _axis_label(metric: Metric, dense: float | None) -> str:
    if metric.key == "latency":
        return "latency, % of the dense network measured in turn"
    words = heading(metric.column)
    return f"{words}, % of the dense network" if dense is not None else words


def _notes(limits: tuple[float, float], below: int, dropped: list[str]) -> list[str]:
    notes = []
    if below:
        notes.append(f"▼ {below} point{'s' * (below > 1)} below {hundredths(limits[0])} %, drawn at the edge")
    if dropped:
        notes.append(f"Thinned: drawn are {', '.join(dropped)} search trials; the tables hold all")
    return notes


def _search_text(row: dict[str, Any]) -> str:
    number = "" if pd.isna(row["number"]) else f" {row['number']}"
    weight = "trained directly" if pd.isna(row["regularization"]) else f"λ = {general(row['regularization'])}"
    return multiline(
        f"{method_words(row['family'])}, search trial{number} of {one_line(row['run'])}",
        f"{COLUMNS['val_top1']['label']} {hundredths(row['val_top1'])} %",
        f"FLOPs {tenths(row['flops_share'])} %, MACs {amount(row['macs'])}, parameters {amount(row['params'])}",
        weight,
    )


def _plan_text(row: dict[str, Any]) -> str:
    return multiline(
        f"{label(row['variant'], row['family'], row['epochs'])}, plan {row['key']}",
        f"test top-1 {spread(row['test_top1'], row['test_top1_std'])} % (n = {row['seeds']})",
        f"{points_to_dense(row['difference'])}",
        f"FLOPs {tenths(row['flops_share'])} %, MACs {amount(row['macs'])}, parameters {amount(row['params'])}",
        "" if pd.isna(row["speed_up"]) else f"speed-up {hundredths(row['speed_up'])} times",
        "" if pd.isna(row["budget_group"]) else f"budget: {row['budget_group']}",
    )


def points_to_dense(difference: Any) -> str:
    """The difference in words; empty where there is none."""
    return "" if pd.isna(difference) else f"{difference:+.2f} points to dense".replace("-", "−")


def _by_family(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    return [(str(family), part) for family, part in rows.groupby(rows["family"].fillna(""))]


def _floats(values: pd.Series[Any]) -> list[float]:
    return list(map(float, values.tolist()))
