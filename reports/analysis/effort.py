"""Whether the compared methods had the same effort: trainings, epochs, seeds, start weights and data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from sconv_search.reports.reading.runs import RunFacts
from sconv_search.reports.wording import duration, general, method_name

EFFORT_COLUMNS = {
    "budget_group": "budget",
    "family": "methods searched",
    "samplers": "sampler",
    "planned": "trainings planned",
    "complete": "trainings complete",
    "screened": "screened, not trained",
    "over_budget": "over budget",
    "failed": "failed",
    "search_epochs": "epochs of one search training",
    "confirm_epochs": "epochs of one confirmation",
    "seeds": "seeds confirmed",
    "search_wall_s": "wall time of the search",
    "confirm_wall_s": "wall time of the confirmation",
    "weights": "start weights (SHA-256)",
    "data": "data (SHA-256)",
}
_READ = ["task", "budget_group", "family", "run", "stage", "status", "epochs", "seed", "wall_s"]
_COMPARED = ("planned", "complete", "search_epochs", "confirm_epochs", "seeds", "weights", "data")


def effort(table: pd.DataFrame, runs: Sequence[RunFacts]) -> pd.DataFrame:
    """A row a task, budget and method: what was spent on it."""
    by_name = {facts.name: facts for facts in runs}
    groups = table.loc[table["budget_group"].notna(), _READ].groupby(["task", "budget_group", "family"])
    rows = [
        _row(keys, rows, [by_name[name] for name in rows["run"].unique() if name in by_name]) for keys, rows in groups
    ]
    return pd.DataFrame(rows, columns=["task", *EFFORT_COLUMNS])


def _row(keys: Any, rows: pd.DataFrame, runs: Sequence[RunFacts]) -> dict[str, Any]:
    search, confirm = rows[rows["stage"] == "search"], rows[rows["stage"] == "confirm"]
    done, confirmed = search[search["status"] == "complete"], confirm[confirm["status"] == "complete"]
    known = [facts for facts in runs if facts.spec]
    planned = sum(facts.trials or 0 for facts in known) if known else pd.NA
    return dict(zip(("task", "budget_group", "family"), keys, strict=True)) | {
        "samplers": _joined(facts.sampler for facts in known),
        "planned": planned,
        "complete": len(done),
        "screened": int((rows["status"] == "screened").sum()),
        "over_budget": int((rows["status"] == "over_budget").sum()),
        "failed": int((rows["status"] == "failed").sum()),
        "search_epochs": _joined(general(value) for value in done["epochs"].dropna().unique()),
        "confirm_epochs": _joined(general(value) for value in confirmed["epochs"].dropna().unique()),
        "seeds": int(confirmed["seed"].nunique()),
        "search_wall_s": search["wall_s"].sum(min_count=1),
        "confirm_wall_s": confirm["wall_s"].sum(min_count=1),
        "weights": _joined(str(facts.spec.get("weights_sha256") or "")[:12] for facts in known),
        "data": _joined(str(facts.spec.get("data_sha256") or "")[:12] for facts in known),
    }


def inequalities(spent: pd.DataFrame) -> list[str]:
    """A sentence for each budget at which the methods had different effort, saying in what and how."""
    sentences = []
    for (task, budget), rows in spent.groupby(["task", "budget_group"], sort=True):
        differing = [name for name in _COMPARED if rows[name].astype("string").fillna("").nunique() > 1]
        if differing:
            clauses = [f"{EFFORT_COLUMNS[name]}: {_by_method(rows, name)}" for name in differing]
            sentences.append(f"Unequal effort in {task} at {budget}. {'; '.join(clauses)}.")
    return sentences


def unrecorded(spent: pd.DataFrame) -> list[str]:
    """What of the effort no comparison can be made of, as the runs of a method do not say it."""
    missing = [name for name in _COMPARED if (spent[name].isna() | (spent[name].astype("string") == "")).any()]
    return [EFFORT_COLUMNS[name] for name in missing]


def unfinished(spent: pd.DataFrame) -> list[str]:
    """A sentence for each method whose searches have fewer trainings than planned."""
    known = spent[spent["planned"].notna()]
    return [
        f"In progress: {method_name(row['family'])} in {row['task']} at {row['budget_group']} has {row['complete']} of "
        f"{row['planned']} trainings."
        for _, row in known[known["complete"] < known["planned"]].iterrows()
    ]


def _by_method(rows: pd.DataFrame, name: str) -> str:
    show = duration if name.endswith("wall_s") else lambda value: "–" if pd.isna(value) or value == "" else str(value)
    return ", ".join(f"{method_name(row['family'])} {show(row[name])}" for _, row in rows.iterrows())


def _joined(values: Iterable[str]) -> str:
    return ", ".join(sorted({value for value in values if value}))
