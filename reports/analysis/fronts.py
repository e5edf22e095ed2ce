"""Pareto fronts, and the area that a front dominates, both by moocore."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import moocore
import numpy as np
import pandas as pd

from sconv_search.records import COLUMNS, Metric

DENSE_COST = 100.0
"""Cost in % of the dense network at the reference point: a network as expensive as the dense one adds no area."""
_BLOCK = 256
"""Networks that are compared with the front at once."""


def pareto_front(table: pd.DataFrame, cost: str, score: str) -> pd.DataFrame:
    """Rows for which no other is as good in one column and better in the other, best cost first.

    Which way is better stands in ``COLUMNS``; of scores in the table's column ``metric_better``, where more is better
    if there is none. Rows without a cost or a score are ignored; of equal rows the first stays.

    Raises:
        ValueError: a column is not in the table or has no better direction, or the rows' metrics differ in it.
    """
    known = table[table[_directed(table, cost)].notna() & table[_directed(table, score)].notna()]
    return known.iloc[front_positions(_lower_is_better(known, cost), -_lower_is_better(known, score))]


def front_positions(costs: pd.Series[Any], qualities: pd.Series[Any]) -> list[int]:
    """Positions of the rows that no other beats, a lower cost and a higher quality being better; cheapest first.

    Rows where one of both is missing are on no front; of equal rows the first is.
    """
    points = np.stack(
        [costs.to_numpy("float64", na_value=np.nan), -qualities.to_numpy("float64", na_value=np.nan)], axis=1
    )
    known = np.flatnonzero(~np.isnan(points).any(axis=1))
    front = known[moocore.is_nondominated(points[known])] if len(known) else known
    return [int(position) for position in front[np.argsort(points[front, 0], kind="stable")]]


def worst_score(metric: Metric) -> float | None:
    """The score of a network that is always wrong, which fixes a reference point; None where the metric has none: then
    areas of different reports could not be compared. Percentages have one."""
    return (0.0 if metric.better == "higher" else 100.0) if metric.unit == "%" else None


def hypervolume(costs: Sequence[float], scores: Sequence[float], metric: Metric) -> float | None:
    """The area that networks dominate, in % of the rectangle between the reference point and a perfect network that
    costs nothing.

    Args:
        costs: in % of the dense network's; the reference point has 100 % and ``worst_score``.
        scores: in %, one a cost.
    """
    worst = worst_score(metric)
    if worst is None:
        return None
    points, reference = _points(costs, scores, metric), _reference(worst, metric)
    return _share(points[(points < reference).all(axis=1)], reference)


def hypervolume_curve(costs: Sequence[float], scores: Sequence[float], metric: Metric) -> list[float] | None:
    """The area after each network, in their order; None where the metric fixes no reference point."""
    worst = worst_score(metric)
    if worst is None:
        return None
    reference, front, areas, area = _reference(worst, metric), np.empty((0, 2)), [], 0.0
    points = _points(costs, scores, metric)
    for start in range(0, len(points), _BLOCK):
        block = points[start : start + _BLOCK]
        # The front is short, and few points join it: only then is the area computed anew.
        is_dominated = (front[:, None] <= block).all(axis=2).any(axis=0)
        may_join = np.logical_not(is_dominated) & (block < reference).all(axis=1)
        for point, joins in zip(block, may_join, strict=True):
            if joins and not (front <= point).all(axis=1).any():
                front = np.vstack([front[~(point <= front).all(axis=1)], point])
                area = _share(front, reference)
            areas.append(area)
    return areas


def _points(costs: Sequence[float], scores: Sequence[float], metric: Metric) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The networks as points (N, 2), of which less is better in both columns."""
    return np.array([costs, [-metric.quality(score) for score in scores]], dtype="float64").T.reshape(-1, 2)


def _reference(worst: float, metric: Metric) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([DENSE_COST, -metric.quality(worst)])


def _share(points: np.ndarray[Any, np.dtype[np.float64]], reference: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    """The area in % of the rectangle, whose sides are 100 % of the cost and of the score."""
    return float(moocore.hypervolume(points, ref=reference)) / DENSE_COST if len(points) else 0.0


def _directed(table: pd.DataFrame, name: str) -> str:
    directed = [column for column in COLUMNS if column in table and COLUMNS[column]["better"]]
    if name not in directed:
        usable = ", ".join(directed)
        raise ValueError(f"no Pareto front over column {name!r}; columns with a better direction: {usable or 'none'}")
    return name


def _lower_is_better(table: pd.DataFrame, name: str) -> pd.Series[Any]:
    values, better = table[name].astype("Float64"), COLUMNS[name]["better"]
    if better == "by metric":
        directions = set(table["metric_better"].dropna()) if "metric_better" in table else set()
        if len(directions) > 1:
            raise ValueError(f"no Pareto front over column {name!r}: its metrics differ in which way is better")
        better = next(iter(directions), "higher")
    return values if better == "lower" else -values
