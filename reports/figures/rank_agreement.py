"""Whether cheap estimates rank plans as expensive ones do: predicted damage, untrained score, short training, full
schedule.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from sconv_search.reports.analysis.statistics import spearman
from sconv_search.reports.drawing.chart import (
    Axis,
    Chart,
    Drawing,
    Figure,
    Nothing,
    Trace,
    edge_notes,
    robust_limits,
    split_at_edge,
    thinned,
    worse_end,
)
from sconv_search.reports.figures.sites import SiteTable, plan_damage
from sconv_search.reports.reading.records_table import records
from sconv_search.reports.reading.runs import RunFacts
from sconv_search.reports.wording import ScoreFormat, general, method_name, multiline

FEWEST_PAIRS = 4
MOST_SHOWN = 100
PAIRS = {
    "predicted damage against short training": ("damage", "short"),
    "untrained score against short training": ("screen", "short"),
    "short training against full schedule": ("short", "full"),
    "predicted damage against full schedule": ("damage", "full"),
}
_LABELS = {
    "screen": "validation {} compressed, batch norms re-estimated, untrained",
    "damage": "predicted damage of the plan (nat, summed over layers)",
    "short": "validation {} after the search's short training",
    "full": "test {} on the full schedule, mean over seeds",
}


def estimates(table: pd.DataFrame, runs: Sequence[RunFacts], tables: Sequence[SiteTable], task: str) -> pd.DataFrame:
    """A row a plan of a run: predicted damage, short-training and full-schedule score; missing where it was not
    measured.
    """
    done = (table["task"] == task) & (table["status"] == "complete") & table["plan"].notna() & (table["family"] != "")
    rows = table.loc[done, ["stage", "run", "family", "plan", "val_score", "screen_score", "test_score"]]
    confirmed = (
        rows[rows["stage"] == "confirm"]
        .groupby(["run", "family", "plan"])["test_score"]
        .mean()
        .rename("full")
        .reset_index()
    )
    parts = [_searched(frame) for frame in tables]
    wanted = confirmed[["run", "plan"]]
    known = rows[
        (rows["stage"] == "search") & rows["plan"].isin(wanted["plan"])
    ]  # fewer by far to look up by two columns
    short = known.merge(wanted, on=["run", "plan"])
    scores = {"short": short["val_score"].astype("float64"), "screen": short["screen_score"].astype("float64")}
    parts.append(short[["run", "family", "plan"]].assign(**scores, damage=float("nan")))
    joined = pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)
    joined = joined.sort_values("damage", kind="stable").drop_duplicates(["run", "plan", "short"])
    joined = joined.merge(confirmed, on=["run", "family", "plan"], how="outer")
    by_name = {run.name: run for run in runs}
    missing = joined["damage"].isna()
    damages = [
        plan_damage(by_name[run], plan) if run in by_name else None
        for run, plan in joined.loc[missing, ["run", "plan"]].itertuples(index=False, name=None)
    ]
    joined.loc[missing, "damage"] = pd.Series(damages, index=joined.index[missing], dtype="float64")
    return joined.astype({"damage": "float64", "screen": "float64", "short": "float64", "full": "float64"})


def _searched(table: SiteTable) -> pd.DataFrame:
    rows = table.rows[["run", "family", "plan"]]
    scores = {
        "short": table.rows["val_score"].astype("float64"),
        "screen": table.rows["screen_score"].astype("float64"),
    }
    return rows.assign(**scores, damage=table.damage)


def rank_correlations(predictions: pd.DataFrame) -> pd.DataFrame:
    """A row a pair of estimates and method: Spearman's ρ and the number of plans; ρ is missing below four plans."""
    made = []
    for family, part in predictions.groupby("family"):
        for name, (first, second) in PAIRS.items():
            both = part[part[first].notna() & part[second].notna()]
            rho = spearman(both[first], both[second]) if len(both) >= FEWEST_PAIRS else None
            made.append({"family": family, "estimates": name, "rho": rho, "n": len(both)})
    return pd.DataFrame(made, columns=["family", "estimates", "rho", "n"])


def rank_agreement_figure(predictions: pd.DataFrame, scores: ScoreFormat) -> Figure:
    """A drawing a pair."""
    return Figure(
        key="agreement",
        title="Do cheap estimates rank plans as full trainings do?",
        drawings={name: _drawing(predictions, scores, name, *columns) for name, columns in PAIRS.items()},
        caption="A point a plan. Damage is a cost: where it predicts well, scores get worse as it rises. Plans are "
        "confirmed because they were best in the search, so the last two correlations see a narrow choice.",
    )


def _drawing(predictions: pd.DataFrame, scores: ScoreFormat, name: str, first: str, second: str) -> Drawing:
    both = predictions[predictions[first].notna() & predictions[second].notna()]
    if len(both) < FEWEST_PAIRS:
        reason = f"Only {len(both)} plans have both; a correlation needs at least {FEWEST_PAIRS}."
        return Nothing(title=name, reason=reason)
    limits = robust_limits([float(value) for value in both[second]], scores.metric)
    traces: list[Trace] = []
    for family, part in both.groupby("family"):
        part = part.iloc[thinned(len(part), MOST_SHOWN)]
        x, y = ([float(value) for value in part[name]] for name in (first, second))
        texts = [_text(row, scores) for row in records(part)]
        trace = Trace(name=method_name(family), style=str(family), kind="strong", x=x, y=y, texts=texts)
        traces += split_at_edge(trace, limits, scores.metric)
    logarithmic = first == "damage" and bool((both["damage"] > 0).all())
    x_axis, y_axis = (
        Axis(label=_label(first, scores), logarithmic=logarithmic),
        Axis(label=_label(second, scores), limits=limits),
    )
    notes = edge_notes(traces, scores.text(worse_end(limits, scores.metric)))
    return Chart(title=name, x=x_axis, y=y_axis, traces=traces, notes=notes)


def _label(estimate: str, scores: ScoreFormat) -> str:
    label = _LABELS[estimate]
    return f"{label.replace('{}', scores.name)} ({scores.metric.unit})".replace(" ()", "") if "{}" in label else label


def _text(row: dict[str, Any], scores: ScoreFormat) -> str:
    return multiline(
        f"{method_name(row['family'])}, {row['run']}",
        f"damage {general(row['damage'])}",
        f"short training {scores.text(row['short'])}",
        f"full schedule {scores.text(row['full'])}",
    )
