"""The Pareto front of a table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sconv_search.records import COLUMNS


def pareto_front(table: pd.DataFrame, cost: str, score: str) -> pd.DataFrame:
    """Rows for which no other is as good in one column and better in the other, best cost first.

    Which way is better stands in ``COLUMNS``. Rows without a cost or a score are ignored; of equal rows the first
    stays.

    Raises:
        ValueError: a column is not in the table or has no better direction.
    """
    known = table[table[_directed(table, cost)].notna() & table[_directed(table, score)].notna()]
    return known.iloc[front_positions(_lower_is_better(known, cost), -_lower_is_better(known, score))]


def front_positions(costs: pd.Series[Any], scores: pd.Series[Any]) -> list[int]:
    """Positions of the rows that no other beats, a lower cost and a higher score being better; cheapest first."""
    worse = -scores.to_numpy("float64", na_value=np.nan)
    order = np.lexsort((worse, costs.to_numpy("float64", na_value=np.nan)))  # stable, what is missing last
    best_before = np.fmin.accumulate(np.concatenate([[np.nan], worse[order][:-1]]))
    front = order[np.isnan(best_before) | (worse[order] < best_before)]
    return [int(place) for place in front]


def _directed(table: pd.DataFrame, name: str) -> str:
    directed = [column for column in COLUMNS if column in table and COLUMNS[column]["better"]]
    if name not in directed:
        usable = ", ".join(directed)
        raise ValueError(f"no Pareto front over column {name!r}; columns with a better direction: {usable or 'none'}")
    return name


def _lower_is_better(table: pd.DataFrame, name: str) -> pd.Series[Any]:
    values = table[name].astype("Float64")
    return values if COLUMNS[name]["better"] == "lower" else -values
