"""What each trial of a run did at each site, and how much damage was predicted for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from sconv_search.reports.drawing.chart import thinned
from sconv_search.reports.reading.runs import RunFacts, plan_choices

MOST_READ = 600
"""So many trials of a run are looked into; evenly spread where there are more."""

_READ = ["run", "family", "plan", "regularization", "regularized_share", "screen_score", "val_score", "metric_better"]


@dataclass(frozen=True, kw_only=True)
class SiteTable:
    """One run's complete search trials, site by site.

    Args:
        trials: number of complete trials, of which the tables may hold fewer.
        left: a row a trial, a column a site: share of the site's largest possible saving that the plan leaves untaken,
            0..1.
        damage: predicted damage of each plan, the sum over its sites.
    """

    run: RunFacts
    trials: int
    rows: pd.DataFrame
    left: pd.DataFrame
    damage: pd.Series[float]


def site_tables(table: pd.DataFrame, runs: Sequence[RunFacts], task: str) -> list[SiteTable]:
    """The tables of the task's runs that have a search space and scored trials."""
    done = (table["task"] == task) & (table["stage"] == "search") & (table["status"] == "complete")
    scored = table.loc[done & table["val_score"].notna() & table["plan"].notna(), _READ]
    parts = {str(name): rows for name, rows in scored.groupby("run")}
    return [_site_table(run, parts[run.name]) for run in runs if run.options and run.name in parts]


def plan_damage(run: RunFacts, plan: object) -> float | None:
    """Sum of the predicted damages of a plan's choices; None where the space does not know one of them."""
    choices = plan_choices(plan)
    options = [run.options.get(site, {}).get(key) for site, key in choices.items()]
    known = [option.damage for option in options if option is not None]
    return sum(known) if known and len(known) == len(options) else None


def _site_table(run: RunFacts, rows: pd.DataFrame) -> SiteTable:
    shown = rows.iloc[thinned(len(rows), MOST_READ)].reset_index(drop=True)
    most = {site: max(option.saving for option in options.values()) for site, options in run.options.items() if options}
    sites = [site for site in run.options if most.get(site, 0) > 0]
    left, damage = [], []
    for text in shown["plan"]:
        choices = plan_choices(text)
        taken = {
            site: option for site in choices if (option := run.options.get(site, {}).get(choices[site])) is not None
        }
        left.append([1 - taken[site].saving / most[site] if site in taken else 1.0 for site in sites])
        damage.append(sum(option.damage for option in taken.values()) if taken and len(taken) == len(choices) else None)
    return SiteTable(
        run=run,
        trials=len(rows),
        rows=shown,
        left=pd.DataFrame(left, columns=sites, index=shown.index),
        damage=pd.Series(damage, index=shown.index, dtype="float64"),
    )
