"""How the searches got to where they are: best accuracy and hypervolume against trainings and against seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from sconv_search.reports.budgets import first_number
from sconv_search.reports.charts import Axis, Chart, Dash, Drawing, Figure, Nothing, Rule, Trace, thinned
from sconv_search.reports.hypervolume import REFERENCE, hypervolume, hypervolume_course
from sconv_search.reports.runs import RunFacts
from sconv_search.reports.table import REFERENCES
from sconv_search.reports.words import duration, hundredths, method_words, multiline

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
    "hypervolume, by second": ("area", "seconds"),
}
_TITLES = {
    "training": "trainings",
    "seconds": "seconds of search",
    "best": "Best validation accuracy so far",
    "area": "Hypervolume so far",
}
_LABELS = {
    "training": "trainings",
    "seconds": "seconds of search, one training after the other",
    "best": "best validation top-1 so far (%)",
    "area": "hypervolume so far (% of the rectangle)",
}

_READ = ["task", "run", "family", "budget_group", "status", "val_top1", "flops_share", "wall_s"]
_HYPERVOLUME = (
    "Hypervolume: the area that the trials dominate, of the rectangle from (dense FLOPs, 0 %) to (0 FLOPs, 100 %)."
)
_NOT_RANDOM = (
    "No run here was sampled at random, so this figure cannot show what the sampler adds; the uniform plan stands in"
    " the Pareto figure."
)


def courses(table: pd.DataFrame, task: str) -> pd.DataFrame:
    """A row a complete search trial, in the order trained: ``training``, ``seconds``, ``best`` and ``area``.

    ``seconds`` counts all trials of the run, failed ones too. ``area`` is in % of the rectangle between the reference
    point and a network that costs nothing and is always right.
    """
    search = table.loc[
        (table["task"] == task) & (table["stage"] == "search") & ~table["variant"].isin(REFERENCES), _READ
    ]
    parts = [_course(rows) for _, rows in search.groupby("run", sort=False)]
    columns = ["task", "run", "family", "budget_group", "training", "seconds", "best", "area"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def _course(rows: pd.DataFrame) -> pd.DataFrame:
    seconds = rows["wall_s"].fillna(0).cumsum()
    done = rows.assign(seconds=seconds)[(rows["status"] == "complete") & rows["val_top1"].notna()]
    points = zip(_floats(done["flops_share"].fillna(100.0)), _floats(done["val_top1"]), strict=True)
    return done.assign(
        training=range(1, len(done) + 1),
        best=done["val_top1"].cummax().astype("float64"),
        area=[area / REFERENCE[0] for area in hypervolume_course(points)],
    )


def course_figures(
    table: pd.DataFrame, runs: Sequence[RunFacts], task: str, course: pd.DataFrame | None = None
) -> list[Figure]:
    """A figure a budget; ``course`` is what ``courses`` says of the task, where that is known already."""
    found = courses(table, task) if course is None else course
    by_name = {run.name: run for run in runs}
    uniform = table[(table["task"] == task) & (table["stage"] == "search") & (table["origin"] == "uniform")]
    figures = []
    parts = found.groupby(found["budget_group"].fillna("no budget"), sort=False)
    for place, (budget, rows) in enumerate(sorted(parts, key=lambda part: -first_number(str(part[0]))), start=1):
        named = {run: by_name.get(str(run)) for run in rows["run"].unique()}
        by_run = dict(tuple(rows.groupby("run", sort=False)))
        drawings = {name: _drawing(rows, by_run, named, uniform, *axes) for name, axes in _DRAWINGS.items()}
        caption = f"{_spoken(named)} {_HYPERVOLUME}"
        figures.append(
            Figure(key=f"course-{place}", title=f"The search at {budget}", drawings=drawings, caption=caption)
        )
    return figures


def _drawing(
    rows: pd.DataFrame,
    by_run: Mapping[Any, pd.DataFrame],
    runs: dict[str, RunFacts | None],
    uniform: pd.DataFrame,
    height: str,
    place: str,
) -> Drawing:
    title = f"{_TITLES[height]} against {_TITLES[place]}"
    traces = [_trace(by_run[name], name, facts, height, place) for name, facts in runs.items()]
    if place == "seconds" and not (rows["seconds"] > 0).any():
        return Nothing(title=title, reason="The records do not hold the wall time of the trials.")
    here = uniform[uniform["run"].isin(list(runs)) & uniform["val_top1"].notna()]
    rules = [
        Rule(
            name=f"uniform plan, {method_words(row['family'])}: {hundredths(row['val_top1'])}",
            at=float(row["val_top1"]),
            axis="y",
            dash="dash",
        )
        for _, row in here.drop_duplicates("run").iterrows()
        if height == "best"
    ]
    last = float(rows[place].max())
    x = Axis(label=_LABELS[place], limits=(0.0, 1.03 * last), whole=place == "training")
    return Chart(
        title=title, x=x, y=Axis(label=_LABELS[height], limits=_limits(rows[height])), traces=traces, rules=rules
    )


def _trace(rows: pd.DataFrame, name: str, facts: RunFacts | None, height: str, place: str) -> Trace:
    values = rows[height].astype("float64").reset_index(drop=True)
    changed = values.diff().fillna(1.0) != 0
    kept = sorted({*values.index[changed], len(values) - 1})
    kept = [kept[at] for at in thinned(len(kept), MOST_SHOWN)]
    shown = rows.iloc[kept]
    return Trace(
        name=run_words(name, facts, str(rows["family"].iloc[0])),
        look=str(rows["family"].iloc[0]),
        kind="steps",
        dash=_DASHES.get(facts.sampler.lower() if facts else "tpe", "dashdot"),
        x=[float(value) for value in shown[place]],
        y=[float(value) for value in shown[height]],
        texts=[
            multiline(
                name,
                f"training {row.training} after {duration(row.seconds)}",
                f"best {hundredths(row.best)} %",
                f"hypervolume {hundredths(row.area)} %",
            )
            for row in shown.itertuples()
        ],
    )


def run_words(name: str, facts: RunFacts | None, family: str) -> str:
    """What a run is called in a legend: its methods, sampler and seed."""
    if facts is None or not facts.spec:
        return f"{method_words(family)} ({name})"
    return f"{method_words(family)}, {facts.sampler}" + ("" if facts.seed is None else f", seed {facts.seed}")


def _limits(values: pd.Series[float]) -> tuple[float, float] | None:
    """The upper part of the course: first trials may be far below, and are no news."""
    known = values.astype("float64").dropna()
    if known.empty:
        return None
    low, high = float(known.quantile(0.1)), float(known.max())
    room = max(high - low, 0.2)
    return max(low - 0.15 * room, float(known.min()) - 0.06 * room), high + 0.08 * room


def _spoken(runs: dict[str, RunFacts | None]) -> str:
    samplers = {facts.sampler.lower() for facts in runs.values() if facts}
    if "random" in samplers:
        return "Dotted: runs sampled at random, beside which a sampler has to show its worth."
    return _NOT_RANDOM


def hypervolumes(table: pd.DataFrame, summary: pd.DataFrame, task: str) -> pd.DataFrame:
    """A row a method: the hypervolume of its confirmed plans (test) and of its search trials (validation), in %."""
    plans = summary[summary["task"] == task]
    scored = (table["stage"] == "search") & (table["status"] == "complete") & table["val_top1"].notna()
    search = table.loc[
        (table["task"] == task) & scored & table["flops_share"].notna(), ["family", "flops_share", "val_top1"]
    ].groupby("family")
    confirmed = plans[(plans["stage"] == "confirm") & plans["flops_share"].notna() & plans["test_top1"].notna()]
    searched: dict[Any, pd.DataFrame] = dict(tuple(search))
    families = sorted({str(name) for name in (*searched, *confirmed["family"])} - {""})
    none = table.loc[[], ["flops_share", "val_top1"]]
    return pd.DataFrame(
        [
            {
                "family": family,
                "confirmed_area": _area(confirmed[confirmed["family"] == family], "test_top1"),
                "plans": int((confirmed["family"] == family).sum()),
                "searched_area": _area(searched.get(family, none), "val_top1"),
                "trials": len(searched.get(family, none)),
            }
            for family in families
        ],
        columns=["family", "confirmed_area", "plans", "searched_area", "trials"],
    )


def _area(rows: pd.DataFrame, score: str) -> float | None:
    points = list(zip(_floats(rows["flops_share"]), _floats(rows[score]), strict=True))
    return hypervolume(points) / REFERENCE[0] if points else None


def _floats(values: pd.Series[Any]) -> list[float]:
    return list(map(float, values.tolist()))
