"""Which of the search's parameters go with the score."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from sconv_search.reports.analysis.statistics import spearman
from sconv_search.reports.analysis.summary import quality
from sconv_search.reports.drawing.chart import Figure, HeatMap, Nothing
from sconv_search.reports.figures.sites import SiteTable
from sconv_search.reports.wording import multiline

FEWEST_TRIALS = 8
MOST_ROWS = 40
WEIGHT = "regularization weight λ"
SHARE = "share of epochs before compression"
DIRECT = "trained directly (1) or regularized (0)"
_CAPTION = (
    "Spearman's rank correlation over a run's trials of the validation score (negated where a lower one is "
    "better) with each layer's saving left untaken, and with "
    "how it was regularized. "
    "+1: leaving the layer alone goes with a better score; −1: compressing it does. Under one budget a layer "
    "left alone means "
    "another compressed further, so this is what goes together, not what causes. Of n trials, values below 2/√n "
    "are noise and not written."
)


def importances(table: SiteTable) -> dict[str, float | None]:
    """Parameter -> rank correlation with the validation score over the run's trials; None where the parameter did not
    vary.
    """
    score = quality(table.rows, "val_score")
    correlations = {site: spearman(table.left[site], score) for site in table.left.columns}
    weight = table.rows["regularization"]
    penalty = {WEIGHT: weight, SHARE: table.rows["regularized_share"]}
    varied = {
        name: spearman(values, score) if values.notna().sum() >= FEWEST_TRIALS else None
        for name, values in penalty.items()
    }
    return correlations | varied | {DIRECT: spearman(weight.isna().astype("float64"), score)}


def _text(value: float | None, trials: int) -> str:
    """The correlation, unless so many trials would show as much by chance."""
    if value is None or abs(value) < 2 / math.sqrt(trials):
        return ""
    return f"{value:+.2f}".replace("-", "−")


def importance_figure(tables: Sequence[SiteTable]) -> Figure:
    """Parameter against run."""
    title = "What goes with a good score"
    enough = [table for table in tables if table.trials >= FEWEST_TRIALS]
    if not enough:
        few = f"No run has a search space and {FEWEST_TRIALS} scored trials; rank correlations over fewer say nothing."
        return Figure(key="importance", title=title, drawings={"": Nothing(title=title, reason=few)})
    columns = [importances(table) for table in enough]
    frame = pd.DataFrame(columns).T.astype("float64").dropna(how="all")
    strongest = frame.abs().max(axis=1).sort_values(ascending=False, kind="stable").index[:MOST_ROWS]
    shown = frame.loc[[name for name in frame.index if name in set(strongest)]]
    values = [[None if pd.isna(value) else float(value) for value in row] for row in shown.to_numpy()]
    drawing = HeatMap(
        title=title,
        rows=[str(name) for name in shown.index],
        columns=[f"{table.run.name} n={len(table.rows)}" for table in enough],
        values=values,
        texts=[[_text(value, len(table.rows)) for value, table in zip(row, enough, strict=True)] for row in values],
        hovers=[
            ["" if value is None else multiline(str(name), f"ρ = {value:+.2f}") for value in row]
            for name, row in zip(shown.index, values, strict=True)
        ],
        label="rank correlation with validation score",
        limits=(-1.0, 1.0),
        notes=[f"the {MOST_ROWS} strongest of {len(frame)}"] if len(frame) > MOST_ROWS else [],
    )
    return Figure(key="importance", title=title, drawings={"": drawing}, caption=_CAPTION)
