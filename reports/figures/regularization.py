"""What structural regularization does: its weight against residual and accuracy, and each layer's residual while it
acts.
"""

from __future__ import annotations

import json
import re
from itertools import cycle
from typing import Any

import pandas as pd

from sconv_search.records import COLUMNS
from sconv_search.reports.analysis.summary import plan_key
from sconv_search.reports.drawing.chart import (
    Axis,
    Chart,
    Dash,
    Drawing,
    Figure,
    Nothing,
    Rule,
    Trace,
    edge_notes,
    robust_limits,
    split_at_edge,
    thinned,
    worse_end,
)
from sconv_search.reports.drawing.styles import OTHERS
from sconv_search.reports.reading.records_table import records
from sconv_search.reports.wording import ScoreFormat, general, heading, method_name, multiline, plan_text

MOST_SHOWN = 150
MOST_COURSES = 6
_DASHES: tuple[Dash, ...] = ("solid", "dash", "dot", "dashdot")
_NONE = "No trial was trained with structural regularization (λ), so there is nothing to draw."
_NO_COURSE = (
    "No confirmed record holds the residual of each layer over training: no confirmed plan was trained with "
    "regularization, or "
    "the records were made before it was recorded."
)


def weight_figure(table: pd.DataFrame, task: str, scores: ScoreFormat) -> Figure:
    """λ against the residual at compression, and against the score."""
    done = (table["task"] == task) & (table["stage"] == "search") & (table["status"] == "complete")
    search = table.loc[done, ["family", "run", "number", "regularization", "residual", "val_score"]]
    weighted = search[search["regularization"].notna() & (search["regularization"] > 0)]
    drawings = {
        "residual": _weights(weighted, search, scores, "residual"),
        scores.name: _weights(weighted, search, scores, "val_score"),
    }
    return Figure(
        key="lambda",
        title="Regularization weight λ",
        drawings=drawings,
        caption="Search trials with structural regularization. The residual is what the structure cannot hold "
        "when the network "
        "is compressed (0: compression loses nothing). Line: mean of the trials trained directly, without λ.",
    )


def _weights(weighted: pd.DataFrame, search: pd.DataFrame, scores: ScoreFormat, column: str) -> Drawing:
    title = f"{scores.label(column)} against λ"
    shown = weighted[weighted[column].notna()]
    if shown.empty:
        return Nothing(title=title, reason=_NONE)
    direct = search[search["regularization"].isna() & search[column].notna() & search["family"].isin(shown["family"])]
    means = [float(part[column].mean()) for _, part in direct.groupby("family")]
    limits = robust_limits([*map(float, shown[column]), *means], scores.metric) if column == "val_score" else None
    traces: list[Trace] = []
    for family, part in shown.groupby("family"):
        part = part.iloc[thinned(len(part), MOST_SHOWN)]
        trace = Trace(
            name=method_name(family),
            style=str(family),
            kind="strong",
            x=[float(value) for value in part["regularization"]],
            y=[float(value) for value in part[column]],
            texts=[_text(row, scores) for row in records(part)],
        )
        traces += split_at_edge(trace, limits, scores.metric) if limits else [trace]
    rules = [
        Rule(
            name=f"{method_name(family)} trained directly: {general(part[column].mean())} (n = {len(part)})",
            at=float(part[column].mean()),
            axis="y",
            dash="dash",
        )
        for family, part in direct.groupby("family")
    ]
    weight = COLUMNS["regularization"]["label"]
    notes = edge_notes(traces, scores.text(worse_end(limits, scores.metric))) if limits else []
    label = scores.heading(column) if column == "val_score" else heading(column)
    x, y = Axis(label=weight, logarithmic=True), Axis(label=label, limits=limits)
    return Chart(title=title, x=x, y=y, traces=traces, rules=rules, notes=notes)


def _text(row: dict[str, Any], scores: ScoreFormat) -> str:
    return multiline(
        f"trial {row['number']} of {row['run']}",
        f"λ = {general(row['regularization'])}, residual {general(row['residual'])}",
        f"{scores.label('val_score')} {scores.text(row['val_score'])}",
    )


def residual_figure(table: pd.DataFrame, summary: pd.DataFrame, task: str) -> Figure:
    """Each layer's residual over the regularized epochs; a drawing a confirmed plan, its first seed."""
    title = "Residual of each layer while it is regularized"
    rows = table[(table["task"] == task) & (table["stage"] == "confirm") & table["residual_course"].notna()]
    rows = rows.sort_values("seed", kind="stable").drop_duplicates(
        ["budget_group", "family", "variant", "plan", "regularization"]
    )
    drawings: dict[str, Drawing] = {}
    for row in records(rows.head(MOST_COURSES)):
        if (chart := _residual_chart(row)) is not None:
            name = f"{row['budget_group']}, {plan_text(row)}, λ = {general(row['regularization'])}"
            drawings[f"{name} ({plan_key(row)})" if name in drawings else name] = chart
    return Figure(
        key="residuals",
        title=title,
        drawings=drawings or {"": Nothing(title=title, reason=_NO_COURSE)},
        caption="Relative residual of each structured layer at points of the regularized phase of a "
        "confirmation; λ rises "
        "linearly over it. Compression comes at the right end.",
    )


def _residual_chart(row: dict[str, Any]) -> Chart | None:
    try:
        history = json.loads(row["residual_course"])
        epochs = [float(value) for value in history["epochs"]]
        sites = {str(site): [float(value) for value in values] for site, values in history["sites"].items()}
    except (TypeError, ValueError, KeyError, AttributeError):
        return None
    layers = sorted(sites, key=_natural)
    order = sorted(sites)  # colors go by it, and there are fewer colors than layers of most networks
    dashes = dict(zip(order, (dash for dash in cycle(_DASHES) for _ in OTHERS), strict=False))
    traces = [
        Trace(
            name=site,
            style=site,
            kind="line",
            x=epochs,
            y=values,
            dash=dashes[site],
            texts=[
                f"{site}\nafter {general(at)} epochs: {general(residual)}"
                for at, residual in zip(epochs, values, strict=False)
            ],
        )
        for site in layers
        if len(values := sites[site]) == len(epochs)
    ]
    if not traces:
        return None
    title = f"Residual by layer, λ = {general(row['regularization'])}"
    top = max(value for trace in traces for value in trace.y)
    y = Axis(label="relative residual", limits=(0.0, 1.05 * max(top, 0.05)))
    return Chart(title=title, x=Axis(label="epochs of the regularized phase"), y=y, traces=traces)


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts layer 9 before layer 12."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
