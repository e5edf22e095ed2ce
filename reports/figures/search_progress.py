"""How the searches progressed: best score and hypervolume against trainings and against seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from sconv_search.reports.analysis.fronts import hypervolume, hypervolume_curve
from sconv_search.reports.drawing.chart import (
    Axis,
    Chart,
    Dash,
    Drawing,
    Figure,
    Nothing,
    Rule,
    Trace,
    point_of,
    thinned,
)
from sconv_search.reports.reading.budgets import first_number
from sconv_search.reports.reading.records_table import REFERENCES, records
from sconv_search.reports.reading.runs import RunFacts
from sconv_search.reports.wording import ScoreFormat, duration, hundredths, method_name, multiline

MOST_SHOWN = 100
_DASHES: dict[str, Dash] = {
    "tpe": "solid",
    "random": "dot",
    "gp": "dash",
    "nsga2": "dashdot",
    "nsgaii": "dashdot",
    "cmaes": "dashdot",
}
_DRAWINGS = {
    "best, by training": ("best", "training"),
    "best, by second": ("best", "seconds"),
    "hypervolume, by training": ("area", "training"),
}
_TITLES = {
    "training": "trainings",
    "seconds": "seconds of search",
    "best": "Best validation score so far",
    "area": "Hypervolume so far",
}
_LABELS = {
    "training": "trainings",
    "seconds": "seconds of search, one training after the other",
    "area": "hypervolume so far (% of the rectangle)",
}

_READ = ["task", "run", "family", "budget_group", "status", "val_score", "flops_share", "wall_s"]
_HYPERVOLUME = (
    "Hypervolume: the area that the trials dominate, of the rectangle between a network as expensive as the "
    "dense one that is "
    "always wrong, and one that costs nothing and is always right."
)
_NO_AREA = "Hypervolume is not drawn: scores by this metric have no worst value, so there is no fixed reference point."
_NOT_RANDOM = (
    "No run here was sampled at random, so this figure cannot show what the sampler adds; the uniform plan stands in"
    " the Pareto figure."
)


def search_progress(table: pd.DataFrame, task: str, scores: ScoreFormat) -> pd.DataFrame:
    """A row a complete search trial, in the order trained: ``training``, ``seconds``, ``best`` and ``area``.

    ``seconds`` counts all trials of the run, failed ones too. ``area`` is the hypervolume, missing where the metric has
    no fixed reference point.
    """
    search = table.loc[
        (table["task"] == task) & (table["stage"] == "search") & ~table["variant"].isin(REFERENCES), _READ
    ]
    parts = [_run_progress(rows, scores) for _, rows in search.groupby("run", sort=False)]
    columns = ["task", "run", "family", "budget_group", "training", "seconds", "best", "area"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def _run_progress(rows: pd.DataFrame, scores: ScoreFormat) -> pd.DataFrame:
    seconds = rows["wall_s"].fillna(0).cumsum()
    done = rows.assign(seconds=seconds)[(rows["status"] == "complete") & rows["val_score"].notna()]
    lower = scores.metric.better == "lower"
    areas = hypervolume_curve(_floats(done["flops_share"].fillna(100.0)), _floats(done["val_score"]), scores.metric)
    return done.assign(
        training=range(1, len(done) + 1),
        best=(done["val_score"].cummin() if lower else done["val_score"].cummax()).astype("float64"),
        area=[float("nan")] * len(done) if areas is None else areas,
    )


def progress_figures(
    table: pd.DataFrame, runs: Sequence[RunFacts], task: str, scores: ScoreFormat, progress: pd.DataFrame
) -> list[Figure]:
    """A figure a budget; ``progress`` is what ``search_progress`` says of the task."""
    curves = progress
    by_name = {run.name: run for run in runs}
    uniform = table[(table["task"] == task) & (table["stage"] == "search") & (table["origin"] == "uniform")]
    figures = []
    parts = curves.groupby(curves["budget_group"].fillna("no budget"), sort=False)
    for index, (budget, rows) in enumerate(sorted(parts, key=lambda part: -first_number(str(part[0]))), start=1):
        named = {run: by_name.get(str(run)) for run in rows["run"].unique()}
        by_run = dict(tuple(rows.groupby("run", sort=False)))
        areas = bool(rows["area"].notna().any())
        shown = {name: axes for name, axes in _DRAWINGS.items() if areas or axes[0] != "area"}
        drawings = {name: _drawing(rows, by_run, named, uniform, scores, *axes) for name, axes in shown.items()}
        caption = f"{_samplers_words(named)} {_HYPERVOLUME if areas else _NO_AREA}"
        figures.append(
            Figure(key=f"progress-{index}", title=f"The search at {budget}", drawings=drawings, caption=caption)
        )
    return figures


def _drawing(
    rows: pd.DataFrame,
    by_run: Mapping[Any, pd.DataFrame],
    runs: dict[str, RunFacts | None],
    uniform: pd.DataFrame,
    scores: ScoreFormat,
    height: str,
    index: str,
) -> Drawing:
    title = f"{_TITLES[height]} against {_TITLES[index]}"
    traces = [_trace(by_run[name], name, facts, scores, height, index) for name, facts in runs.items()]
    if index == "seconds" and not (rows["seconds"] > 0).any():
        return Nothing(title=title, reason="The records do not hold the wall time of the trials.")
    here = uniform[uniform["run"].isin(list(runs)) & uniform["val_score"].notna()]
    rules = [
        Rule(
            name=f"uniform plan, {method_name(row['family'])}: {scores.number(row['val_score'])}",
            at=float(row["val_score"]),
            axis="y",
            dash="dash",
        )
        for _, row in here.drop_duplicates("run").iterrows()
        if height == "best"
    ]
    last = float(rows[index].max())
    x = Axis(label=_LABELS[index], limits=(0.0, 1.03 * last), whole=index == "training")
    label = f"best {scores.heading('val_score')} so far" if height == "best" else _LABELS[height]
    return Chart(
        title=title,
        x=x,
        y=Axis(label=label, limits=_limits(rows[height], scores if height == "best" else None)),
        traces=traces,
        rules=rules,
    )


def _trace(
    rows: pd.DataFrame, name: str, facts: RunFacts | None, scores: ScoreFormat, height: str, index: str
) -> Trace:
    values = rows[height].astype("float64").reset_index(drop=True)
    changed = values.diff().fillna(1.0) != 0
    kept = sorted({*values.index[changed], len(values) - 1})
    kept = [kept[at] for at in thinned(len(kept), MOST_SHOWN)]
    shown = rows.iloc[kept]
    return Trace(
        name=run_label(name, facts, str(rows["family"].iloc[0])),
        style=str(rows["family"].iloc[0]),
        kind="steps",
        dash=_DASHES.get(facts.sampler.lower() if facts else "tpe", "dashdot"),
        x=[float(value) for value in shown[index]],
        y=[float(value) for value in shown[height]],
        texts=[
            multiline(
                name,
                f"training {row['training']} after {duration(row['seconds'])}",
                f"best {scores.text(row['best'])}",
                "" if pd.isna(row["area"]) else f"hypervolume {hundredths(row['area'])} %",
            )
            for row in records(shown)
        ],
    )


def run_label(name: str, facts: RunFacts | None, family: str) -> str:
    """What a run is called in a legend: its methods, sampler and seed."""
    if facts is None or not facts.spec:
        return f"{method_name(family)} ({name})"
    return f"{method_name(family)}, {facts.sampler}" + ("" if facts.seed is None else f", seed {facts.seed}")


def _limits(values: pd.Series[float], scores: ScoreFormat | None) -> tuple[float, float] | None:
    """The better part of the curve: first trials may be far worse, and are no news.

    Args:
        scores: how scores are written; None for areas.
    """
    known = values.astype("float64").dropna()
    if known.empty:
        return None
    lower, least = scores is not None and scores.metric.better == "lower", 0.2
    if scores is not None:
        least *= point_of([float(known.iloc[-1])], scores.metric)
    known = -known if lower else known
    low, high = float(known.quantile(0.1)), float(known.max())
    room = max(high - low, least)
    worse, better = max(low - 0.15 * room, float(known.min()) - 0.06 * room), high + 0.08 * room
    return (-better, -worse) if lower else (worse, better)


def _samplers_words(runs: dict[str, RunFacts | None]) -> str:
    samplers = {facts.sampler.lower() for facts in runs.values() if facts}
    if "random" in samplers:
        return "Dotted: runs sampled at random, beside which a sampler has to show its worth."
    return _NOT_RANDOM


def hypervolumes(table: pd.DataFrame, summary: pd.DataFrame, task: str, scores: ScoreFormat) -> pd.DataFrame:
    """A row a method: the hypervolume of its confirmed plans (test) and of its search trials (validation), in %."""
    plans = summary[summary["task"] == task]
    scored = (table["stage"] == "search") & (table["status"] == "complete") & table["val_score"].notna()
    search = table.loc[
        (table["task"] == task) & scored & table["flops_share"].notna(), ["family", "flops_share", "val_score"]
    ].groupby("family")
    confirmed = plans[(plans["stage"] == "confirm") & plans["flops_share"].notna() & plans["test_score"].notna()]
    searched: dict[Any, pd.DataFrame] = dict(tuple(search))
    families = sorted({str(name) for name in (*searched, *confirmed["family"])} - {""})
    none = table.loc[[], ["flops_share", "val_score"]]
    return pd.DataFrame(
        [
            {
                "family": family,
                "confirmed_area": _area(confirmed[confirmed["family"] == family], "test_score", scores),
                "plans": int((confirmed["family"] == family).sum()),
                "searched_area": _area(searched.get(family, none), "val_score", scores),
                "trials": len(searched.get(family, none)),
                "least_share": confirmed.loc[confirmed["family"] == family, "flops_share"].min(),
                "most_share": confirmed.loc[confirmed["family"] == family, "flops_share"].max(),
            }
            for family in families
        ],
        columns=["family", "confirmed_area", "plans", "searched_area", "trials", "least_share", "most_share"],
    )


def _area(rows: pd.DataFrame, column: str, scores: ScoreFormat) -> float | None:
    return hypervolume(_floats(rows["flops_share"]), _floats(rows[column]), scores.metric) if len(rows) else None


def _floats(values: pd.Series[Any]) -> list[float]:
    return list(map(float, values.tolist()))
