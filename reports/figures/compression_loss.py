"""Scores just before and just after compression: the paper claims a negligible loss."""

from __future__ import annotations

from typing import Any

import pandas as pd

from sconv_search.reports.analysis.summary import plan_key
from sconv_search.reports.drawing.chart import Axis, Chart, Drawing, Figure, Nothing, Trace
from sconv_search.reports.reading.budgets import first_number
from sconv_search.reports.reading.records_table import REFERENCES, records
from sconv_search.reports.wording import ScoreFormat, general, multiline, network_label

_PLAN = ["budget_group", "family", "variant", "plan", "regularization"]
_STAGES = ("val_score_before", "val_score_after", "val_score")
_MEASURED = [*_STAGES, "lost", "residual"]
_WORDS = ("just before\ncompression", "just after\ncompression", "trained on")


def compression_losses(table: pd.DataFrame, task: str, scores: ScoreFormat) -> pd.DataFrame:
    """A row a confirmed plan: validation score before, after and at the end, and how much worse it got, mean and
    deviation.
    """
    rows = table[table["stage"] == "confirm"]
    rows = rows[(rows["task"] == task) & ~rows["variant"].isin(REFERENCES)]
    rows = rows[rows["val_score_before"].notna() & rows["val_score_after"].notna()]
    lost = rows["val_score_before"] - rows["val_score_after"]
    rows = rows.assign(lost=-lost if scores.metric.better == "lower" else lost)
    groups = rows.groupby(_PLAN, dropna=False)
    means, deviations = records(groups[_MEASURED].mean()), records(groups[_MEASURED].std())
    made = []
    for (keys, part), mean, deviation in zip(groups, means, deviations, strict=True):
        budget, family, variant, _, weight = keys
        entry: dict[str, Any] = {
            "budget_group": budget,
            "family": family,
            "label": network_label(str(variant), family),
            "key": plan_key(records(part.head(1))[0]),
            "name": part["name"].iloc[0],
            "regularization": weight,
        }
        for name in _MEASURED:
            entry[name], entry[f"{name}_std"] = mean[name], deviation[name]
        made.append(entry | {"seeds": len(part)})
    columns = ["budget_group", "family", "label", "key", "name", "regularization", "seeds"]
    columns += [name for stage in _MEASURED for name in (stage, f"{stage}_std")]
    losses = pd.DataFrame(made, columns=columns)
    size = losses["budget_group"].map(lambda text: -first_number(str(text)))
    return (
        losses.assign(size=size).sort_values(["size", "label"], kind="stable", ignore_index=True).drop(columns="size")
    )


def compression_loss_figure(table: pd.DataFrame, task: str, scores: ScoreFormat) -> Figure:
    """Three places on the horizontal axis, a line a plan; a drawing a budget."""
    title = "Scores before and after compression"
    losses = compression_losses(table, task, scores)
    drawings: dict[str, Drawing] = {
        str(budget): _chart(part, str(budget), scores) for budget, part in losses.groupby("budget_group", sort=False)
    }
    if not drawings:
        drawings = {
            "": Nothing(
                title=title, reason="No confirmed record holds the score just before and just after compression."
            )
        }
    return Figure(
        key="compression",
        title=title,
        drawings=drawings,
        caption=f"Validation {scores.name} of confirmed plans, mean ± standard deviation over seeds; batch norms "
        "are re-estimated.",
    )


def _chart(rows: pd.DataFrame, budget: str, scores: ScoreFormat) -> Chart:
    traces = []
    shown = (
        rows.sort_values("val_score", ascending=scores.metric.better == "lower", kind="stable")
        .drop_duplicates("label")
        .sort_values("label")
    )
    width = min(0.04, 0.4 / len(shown))
    for index, row in enumerate(records(shown)):
        shift = (index - (len(shown) - 1) / 2) * width
        known = [(at, stage) for at, stage in enumerate(_STAGES) if not pd.isna(row[stage])]
        regularized = "" if pd.isna(row["regularization"]) else f", λ = {general(row['regularization'])}"
        name = row["label"] + regularized
        traces += [
            Trace(
                name=name,
                style=str(row["family"]),
                kind=kind,
                dash="dash" if "uniform" in row["label"] else "solid",
                x=[at + shift for at, _ in known],
                y=[float(row[stage]) for _, stage in known],
                errors=[]
                if kind == "line"
                else [None if pd.isna(row[f"{s}_std"]) else float(row[f"{s}_std"]) for _, s in known],
                texts=[
                    multiline(
                        name,
                        f"{_WORDS[at]}: {scores.spread(row[s], row[f'{s}_std'])}{scores.unit}".replace("\n", " "),
                        f"lost by compression: {scores.signed(row['lost'])} {scores.difference_unit}".strip(),
                    )
                    for at, s in known
                ],
            )
            for kind in ("line", "hollow" if "uniform" in row["label"] else "strong")
        ]
    ticks = [(float(at), words) for at, words in enumerate(_WORDS)]
    x = Axis(label="", limits=(-0.35, 2.35), ticks=ticks)
    notes = [f"Drawn: the best plan and the uniform plan of each method; the table holds all {len(rows)}"]
    return Chart(
        title=f"Before and after compression at {budget}",
        x=x,
        y=Axis(label=scores.heading("val_score")),
        traces=traces,
        notes=notes if len(rows) > len(shown) else [],
    )
