"""Scores against each cost, for one task: the front of the confirmed plans, and the trials of the search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, median_high
from typing import Any

import pandas as pd

from sconv_search.reports.analysis.choice import Choice
from sconv_search.reports.analysis.fronts import front_positions
from sconv_search.reports.analysis.latency import MEASURED
from sconv_search.reports.analysis.summary import quality
from sconv_search.reports.drawing.chart import (
    Axis,
    Chart,
    Drawing,
    Figure,
    Label,
    Nothing,
    Rule,
    Trace,
    edge_notes,
    ordered,
    point_of,
    split_at_edge,
    spread_apart,
    thinned,
    worse_end,
)
from sconv_search.reports.reading.budgets import budget_share
from sconv_search.reports.reading.records_table import REFERENCES, records
from sconv_search.reports.wording import (
    ScoreFormat,
    amount,
    general,
    heading,
    hundredths,
    method_name,
    multiline,
    network_label,
    one_line,
    plan_text,
    tenths,
)

MOST_SHOWN = 150
"""So many search points of a method are drawn; more would make the page large and hide each other."""
MOST_BEYOND = 60
"""So many arrows of a method at the edge."""
_NEEDED = [
    "stage",
    "status",
    "variant",
    "family",
    "run",
    "number",
    "regularization",
    "val_score",
    "budget",
    "dense_flops",
    "flops_share",
    "flops",
    "macs",
    "additions",
    "params",
    "metric_better",
]
"""A table of a hundred thousand rows is chosen from often; without the plans that is cheap."""
_OF_SEARCH = ["family", "run", "number", "regularization", "val_score", "flops_share", "macs", "params"]
_CAPTION = (
    "Confirmed plans: mean ± standard deviation over seeds on the test set; hollow: uniform plans. Steps join "
    "each method's "
    "front, the plans that no other of that method beats. Hover to name a plan; click to open its layers."
)
_SEARCH_CAPTION = (
    "Faint: search trials, validation score after the search's short training. Strong and hollow: confirmed "
    "plans, test score "
    "on the full schedule. Arrows at the edge: points beyond the axis."
)
_ROOM = 0.06
_LEAST_SPAN = 3.0
_TYPICAL = 4.0
_GAP = 0.075


@dataclass(frozen=True, kw_only=True)
class CostAxis:
    """A cost on the axis: in % of the dense network where that is known."""

    key: str
    name: str
    column: str


COSTS = (
    CostAxis(key="flops", name="FLOPs", column="flops"),
    CostAxis(key="macs", name="MACs", column="macs"),
    CostAxis(key="additions", name="additions", column="additions"),
    CostAxis(key="params", name="parameters", column="params"),
    CostAxis(key="latency", name="latency", column="latency_ms"),
)


SEARCHED = ("flops", "params")
"""The costs of the search's own figure: drawing many points takes most of a large report's time."""


@dataclass(frozen=True, kw_only=True)
class _Shown:
    """What the drawings of one figure share.

    Args:
        budgets: the task's, each with the dense network's FLOPs.
        scored: the search trials with a score; none for the front of the confirmed plans.
    """

    scores: ScoreFormat
    budgets: pd.DataFrame
    plans: pd.DataFrame
    scored: pd.DataFrame
    tolerance: tuple[Rule, ...] = ()


def front_figure(table: pd.DataFrame, summary: pd.DataFrame, choice: Choice) -> Figure:
    """The confirmed plans of the choice's task, with a drawing for each cost."""
    rules = []
    if choice.dense is not None and choice.options:
        least = choice.dense - choice.scores.metric.quality(choice.tolerance)
        rules = [Rule(name="tolerance", at=least, axis="y", dash="dot", moves=True)]
    rows = table.loc[table["task"] == choice.task, _NEEDED]
    shown = _shown(rows, rows.iloc[:0], summary, choice.task, choice.scores, tolerance=tuple(rules))
    drawings = {cost.name: pareto_chart(shown, cost) for cost in COSTS}
    return Figure(key="front", title="Confirmed networks: score against cost", drawings=drawings, caption=_CAPTION)


def search_figure(table: pd.DataFrame, summary: pd.DataFrame, task: str, scores: ScoreFormat) -> Figure:
    """The search's trials beside the confirmed plans, with a drawing for FLOPs and for parameters."""
    rows = table.loc[table["task"] == task, _NEEDED]
    scored = (rows["stage"] == "search") & (rows["status"] == "complete") & rows["val_score"].notna()
    searched = rows[scored & ~rows["variant"].isin(REFERENCES)]
    shown = _shown(rows, searched, summary, task, scores)
    drawings = {cost.name: pareto_chart(shown, cost) for cost in COSTS if cost.key in SEARCHED}
    return Figure(key="trials", title="Where the search looked", drawings=drawings, caption=_SEARCH_CAPTION)


def _shown(
    rows: pd.DataFrame,
    searched: pd.DataFrame,
    summary: pd.DataFrame,
    task: str,
    scores: ScoreFormat,
    tolerance: tuple[Rule, ...] = (),
) -> _Shown:
    return _Shown(
        scores=scores,
        budgets=rows[["budget", "dense_flops"]].drop_duplicates(),
        plans=summary[summary["task"] == task].drop(columns="layers"),
        scored=searched,
        tolerance=tolerance,
    )


def pareto_chart(shown: _Shown, cost: CostAxis) -> Drawing:
    """One cost's drawing, or a sentence where nothing was measured."""
    title = f"{shown.scores.name} against {cost.name}"
    plans, scores = shown.plans, shown.scores
    dense = _dense_cost(shown.budgets, plans, cost)
    strong = _located(plans[(plans["stage"] == "confirm") & ~plans["variant"].isin(REFERENCES)], cost, dense)
    strong = strong[strong["test_score"].notna()]
    searched = _located(shown.scored, cost, dense)
    if strong.empty and searched.empty:
        confirmed = bool((plans["stage"] == "confirm").any())
        what = f"No confirmed network has its {cost.name} measured" if confirmed else "No network is confirmed yet"
        quiet = " on an idle machine" if confirmed and cost.key == "latency" else ""
        return Nothing(title=title, reason=f"{what}{quiet}.")
    references = _references(plans, scores)
    limits = limits_of(strong, searched, references, scores)
    faint, thinned_words = _faint(searched, limits, scores)
    traces = [*faint, *_strong(strong, limits, scores), *_fronts(strong, limits, scores)]
    tolerance = [rule for rule in shown.tolerance if limits[0] <= rule.at <= limits[1]]
    return Chart(
        title=title,
        x=Axis(label=_axis_label(cost, dense)),
        traces=traces,
        y=Axis(label=scores.heading("test_score" if len(strong) else "val_score"), limits=limits),
        rules=[*references, *tolerance, *_budget_rules(shown.budgets, cost), *_dense_rule(cost, dense)],
        labels=_labels(strong, searched, limits, scores),
        notes=[*edge_notes(traces, scores.text(worse_end(limits, scores.metric))), *thinned_words],
    )


def limits_of(
    strong: pd.DataFrame, searched: pd.DataFrame, references: Sequence[Rule], scores: ScoreFormat
) -> tuple[float, float]:
    """Scores at the axis' ends: robust, so that one collapsed training cannot squash the rest.

    The axis reaches beyond the best score by four times the typical plan's distance to it (the upper median), at least
    three points, and no further than there is something to show. What is worse is drawn as an arrow at the edge.
    """
    metric = scores.metric
    tested, searched_ones = (
        _qualities(rows, name, scores) for rows, name in ((strong, "test_score"), (searched, "val_score"))
    )
    typical = tested or [median(searched_ones)]
    reference = [metric.quality(rule.at) for rule in references]
    point = point_of(typical, metric)
    best, high = max([*typical, *reference]), max([*typical, *reference, *searched_ones])
    floor = best - max(_TYPICAL * median_high([best - quality for quality in typical]), _LEAST_SPAN * point)
    deviations = _floats(strong["test_score_std"].fillna(0)) if tested else []
    bars = [(score - std, score + std) for score, std in zip(tested, deviations, strict=True) if score >= floor]
    inside = [value for value in [*tested, *reference, *searched_ones] if value >= floor]
    low = max(floor, min([*inside, *(bottom for bottom, _ in bars)]))
    high = max([high, *(min(top, best + (best - low)) for _, top in bars)])
    room = max(high - low, 0.5 * point)
    top = high + _ROOM * room
    if metric.unit == "%":  # no room beyond what is possible
        top = min(top, metric.quality(100.0 if metric.better == "higher" else 0.0) + 0.03 * room)
    return ordered(metric.quality(low - _ROOM * room), metric.quality(top))


def _qualities(rows: pd.DataFrame, column: str, scores: ScoreFormat) -> list[float]:
    return [scores.metric.quality(score) for score in _floats(rows[column])]


def _dense_cost(budgets: pd.DataFrame, plans: pd.DataFrame, cost: CostAxis) -> float | None:
    """The dense network's cost; for latency 100, as each plan's is in % of the dense one measured in turn."""
    if cost.key == "latency":
        return 100.0
    known = plans.loc[plans["variant"].isin(REFERENCES), cost.column].dropna()
    if cost.key == "flops" and known.empty:
        known = budgets["dense_flops"].dropna()
    return float(known.iloc[0]) if len(known) and float(known.iloc[0]) > 0 else None


def _located(rows: pd.DataFrame, cost: CostAxis, dense: float | None) -> pd.DataFrame:
    """The rows with a place ``x`` on the axis; latencies that were disturbed have none."""
    if cost.key == "latency":
        usable = (rows["timing"] == MEASURED).fillna(False) if "timing" in rows else pd.Series(False, index=rows.index)
        position = (100 / rows["speed_up"]).where(usable) if "speed_up" in rows else rows["flops_share"] * float("nan")
    elif cost.key == "flops":
        position = rows["flops_share"]
    else:
        position = rows[cost.column].astype("Float64") * (100 / dense if dense else 1.0)
    located = rows.assign(x=position)
    known = located["x"].notna()
    return located if known.all() else located[known]


def _faint(searched: pd.DataFrame, limits: tuple[float, float], scores: ScoreFormat) -> tuple[list[Trace], list[str]]:
    """A trace a method of at most ``MOST_SHOWN`` points, its front and best always among them; and who was thinned."""
    traces, dropped = [], []
    edge = scores.metric.quality(worse_end(limits, scores.metric))
    inside = quality(searched, "val_score") >= edge
    for family, part in _by_family(searched[inside]):
        shown = part
        if len(part) > MOST_SHOWN:
            kept = set(front_positions(part["x"], quality(part, "val_score"))) | set(thinned(len(part), MOST_SHOWN))
            shown = part.iloc[sorted(kept)]
            dropped.append(f"{method_name(family)} {len(shown):,} of {len(part):,}")
        traces.append(_trials(family, shown, scores))
    for family, part in _by_family(searched[~inside]):
        shown = part.iloc[thinned(len(part), MOST_BEYOND)]
        traces += split_at_edge(_trials(family, shown, scores), limits, scores.metric)
        if len(shown) < len(part):
            dropped.append(f"{method_name(family)} {len(shown):,} of {len(part):,} beyond the axis")
    return traces, [f"Thinned: drawn are {', '.join(dropped)} search trials; the tables hold all"] if dropped else []


def _trials(family: str, rows: pd.DataFrame, scores: ScoreFormat) -> Trace:
    return Trace(
        name=method_name(family),
        style=family,
        kind="faint",
        x=_floats(rows["x"]),
        y=_floats(rows["val_score"]),
        texts=[_search_text(row, scores) for row in records(rows[_OF_SEARCH])],
    )


def _strong(strong: pd.DataFrame, limits: tuple[float, float], scores: ScoreFormat) -> list[Trace]:
    traces = []
    for family, part in _by_family(strong.sort_values("x")):
        for uniform in (False, True):
            chosen = part[(part["variant"] == "uniform") == uniform]
            kind: Any = "hollow" if uniform else "strong"
            trace = Trace(
                name=method_name(family),
                style=family,
                kind=kind,
                x=_floats(chosen["x"]),
                y=_floats(chosen["test_score"]),
                errors=[None if pd.isna(value) else float(value) for value in chosen["test_score_std"]],
                texts=[_plan_text(row, scores) for row in records(chosen)],
                keys=[str(key) for key in chosen["key"]],
            )
            traces += split_at_edge(trace, limits, scores.metric)
    return traces


def _fronts(strong: pd.DataFrame, limits: tuple[float, float], scores: ScoreFormat) -> list[Trace]:
    traces = []
    edge = scores.metric.quality(worse_end(limits, scores.metric))
    for family, part in _by_family(strong[quality(strong, "test_score") >= edge]):
        front = part.iloc[front_positions(part["x"], quality(part, "test_score"))]
        if len(front) > 1:
            x, y = _floats(front["x"]), _floats(front["test_score"])
            traces.append(Trace(name=method_name(family), style=family, kind="steps", x=x, y=y))
    return traces


def _labels(
    strong: pd.DataFrame, searched: pd.DataFrame, limits: tuple[float, float], scores: ScoreFormat
) -> list[Label]:
    """Each method's name at the height of its most expensive shown point."""
    heights: dict[str, float] = {}
    for rows, score in ((searched, "val_score"), (strong, "test_score")):
        for family, part in _by_family(rows):
            inside = part[(part[score] >= limits[0]) & (part[score] <= limits[1])]
            if len(inside):
                heights[family] = float(inside.loc[inside["x"] == inside["x"].max(), score].max())
            else:
                heights.setdefault(family, worse_end(limits, scores.metric))
    gap = _GAP * (limits[1] - limits[0])
    moved = spread_apart(list(heights.values()), gap, (limits[0] + gap / 2, limits[1] - gap / 2))
    return [
        Label(text=method_name(family), style=family, y=height) for family, height in zip(heights, moved, strict=True)
    ]


def _references(plans: pd.DataFrame, scores: ScoreFormat) -> list[Rule]:
    """One line each dense network: its confirmed test score, or while there is none its validation score, and named
    so.
    """
    made = []
    for variant, dash in zip(REFERENCES, ("dash", "dashdot"), strict=True):
        for _, row in plans[plans["variant"] == variant].drop_duplicates("label").iterrows():
            score = float(row["test_score"] if row["stage"] == "confirm" else row["best_val_score"])
            deviation = None if pd.isna(row["test_score_std"]) else float(row["test_score_std"])
            name = f"{row['label']}: {scores.spread(score, pd.NA if deviation is None else deviation)}"
            made.append(Rule(name=name, at=score, axis="y", dash=dash, deviation=deviation))  # type: ignore[arg-type]  # a literal
    return made


def _budget_rules(budgets: pd.DataFrame, cost: CostAxis) -> list[Rule]:
    pairs = budgets.dropna()
    if cost.key == "flops":
        shares = {
            share for pair in pairs.itertuples(index=False, name=None) if (share := budget_share(*pair)) is not None
        }
    else:
        texts = {str(text) for text in pairs["budget"]}
        shares = {share for text in texts if text.endswith(f"% {cost.key}") and (share := _number(text)) is not None}
    return [
        Rule(name=f"budget {share:g} %", at=share, axis="x", dash="dot")
        for share in sorted({round(share, 1) for share in shares})
    ]


def _number(text: str) -> float | None:
    try:
        return float(text.partition("%")[0])
    except ValueError:
        return None


def _dense_rule(cost: CostAxis, dense: float | None) -> list[Rule]:
    return (
        [Rule(name="dense 100 %", at=100.0, axis="x", dash="dash")] if dense is not None and cost.key != "flops" else []
    )


def _axis_label(cost: CostAxis, dense: float | None) -> str:
    if cost.key == "latency":
        return "latency, % of the dense network measured in turn"
    label = heading(cost.column)
    return f"{label}, % of the dense network" if dense is not None else label


def _search_text(row: dict[str, Any], scores: ScoreFormat) -> str:
    number = "" if pd.isna(row["number"]) else f" {row['number']}"
    weight = "trained directly" if pd.isna(row["regularization"]) else f"λ = {general(row['regularization'])}"
    return multiline(
        f"{method_name(row['family'])}, search trial{number} of {one_line(row['run'])}",
        f"{scores.label('val_score')} {scores.text(row['val_score'])}",
        f"FLOPs {tenths(row['flops_share'])} %, MACs {amount(row['macs'])}, parameters {amount(row['params'])}",
        weight,
    )


def _plan_text(row: dict[str, Any], scores: ScoreFormat) -> str:
    mean = scores.spread(row["test_score"], row["test_score_std"])
    return multiline(
        f"{network_label(row['variant'], row['family'], row['epochs'])}, {plan_text(row)}",
        f"{scores.label('test_score')} {mean}{scores.unit} (n = {row['seeds']})",
        _difference_words(row["difference"], scores),
        f"FLOPs {tenths(row['flops_share'])} %, MACs {amount(row['macs'])}, parameters {amount(row['params'])}",
        _speed_words(row),
        "" if pd.isna(row["budget_group"]) else f"budget: {row['budget_group']}",
    )


def _difference_words(difference: Any, scores: ScoreFormat) -> str:
    """The difference to dense; empty where there is none."""
    return (
        ""
        if pd.isna(difference)
        else f"{scores.signed(difference)} {scores.difference_unit} to dense".replace("  ", " ")
    )


def _speed_words(row: dict[str, Any]) -> str:
    if pd.isna(row["speed_up"]):
        return ""
    mark = "" if row["timing"] == MEASURED else f" ({row['timing']})"
    return f"speed-up {hundredths(row['speed_up'])} times{mark}"


def _by_family(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    return [(str(family), part) for family, part in rows.groupby(rows["family"].fillna(""))]


def _floats(values: pd.Series[Any]) -> list[float]:
    return list(map(float, values.tolist()))
