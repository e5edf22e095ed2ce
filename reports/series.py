"""What the Pareto figure of one task shows, as plain numbers: testable without pixels."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

import pandas as pd

from reports.pareto import pareto_front
from reports.words import method_words
from sconv_search.records import Budget, Cost

REFERENCES = ("dense", "dense_finetuned")


@dataclass(frozen=True, kw_only=True)
class Series:
    """Points of one method: FLOPs kept in %, top-1 in %, and for confirmed ones the deviation over seeds (None: one seed)."""

    methods: str
    name: str
    shares: tuple[float, ...]
    scores: tuple[float, ...]
    deviations: tuple[float | None, ...] = ()
    uniform: bool = False


@dataclass(frozen=True, kw_only=True)
class Reference:
    """An uncompressed network's top-1 in %, drawn as a line across the figure."""

    variant: str
    name: str
    score: float
    deviation: float | None


@dataclass(frozen=True, kw_only=True)
class ParetoData:
    """All that the figure of one task shows.

    Args:
        limits: lowest and highest top-1 on the axis, or None where there is nothing to show.
        below: search trials with a score under the axis.
    """

    task: str
    trials: tuple[Series, ...]
    confirmed: tuple[Series, ...]
    fronts: tuple[Series, ...]
    references: tuple[Reference, ...]
    budget_shares: tuple[float, ...]
    limits: tuple[float, float] | None
    below: int


def pareto_data(table: pd.DataFrame, summary: pd.DataFrame, task: str) -> ParetoData:
    """The task's search trials, confirmed plans, fronts and references as plain numbers."""
    rows, plans = table[table["task"] == task], summary[summary["task"] == task]
    plans = plans[plans["flops_share"].notna()]
    confirmed_plans = plans[(plans["stage"] == "confirm") & ~plans["variant"].isin(REFERENCES)]
    trials, confirmed = _trials(rows), _confirmed(confirmed_plans)
    references = _references(summary[summary["task"] == task])
    limits = _limits(trials, confirmed, references)
    return ParetoData(
        task=task,
        trials=trials,
        confirmed=confirmed,
        fronts=_fronts(confirmed_plans),
        references=references,
        budget_shares=_budget_shares(rows),
        limits=limits,
        below=sum(score < limits[0] for series in trials for score in series.scores) if limits else 0,
    )


def _trials(rows: pd.DataFrame) -> tuple[Series, ...]:
    scored = rows[(rows["stage"] == "search") & (rows["status"] == "complete")]
    scored = scored[scored["val_top1"].notna() & scored["flops_share"].notna() & ~scored["variant"].isin(REFERENCES)]
    return tuple(_series(methods, part, "val_top1") for methods, part in _by_method(scored))


def _confirmed(plans: pd.DataFrame) -> tuple[Series, ...]:
    made = []
    for methods, part in _by_method(plans):
        for variant, points in part.groupby("variant"):
            made.append(_series(methods, points.sort_values("flops"), "test_top1", uniform=variant == "uniform"))
    return tuple(made)


def _fronts(plans: pd.DataFrame) -> tuple[Series, ...]:
    parts = [(methods, pareto_front(part, "flops", "test_top1")) for methods, part in _by_method(plans)]
    return tuple(_series(methods, front, "test_top1") for methods, front in parts if len(front) > 1)


def _by_method(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    named = rows["methods"].fillna("")
    return [(str(methods), part) for methods, part in rows.groupby(named)]


def _series(methods: str, rows: pd.DataFrame, score: str, *, uniform: bool = False) -> Series:
    deviations = rows["test_top1_std"] if "test_top1_std" in rows else pd.Series([pd.NA] * len(rows))
    return Series(
        methods=methods,
        name=method_words(methods),
        shares=tuple(float(share) for share in rows["flops_share"]),
        scores=tuple(float(value) for value in rows[score]),
        deviations=tuple(_known(value) for value in deviations),
        uniform=uniform,
    )


def _references(plans: pd.DataFrame) -> tuple[Reference, ...]:
    """One line each network: its confirmed test score, or while there is none its validation score, and named so."""
    made = []
    for variant in REFERENCES:
        rows = plans[plans["variant"] == variant]
        for _, row in rows.drop_duplicates("label").iterrows():
            score = float(row["test_top1"] if row["stage"] == "confirm" else row["best_val_top1"])
            deviation = _known(row["test_top1_std"])
            made.append(Reference(variant=variant, name=row["label"], score=score, deviation=deviation))
    return tuple(made)


def _budget_shares(rows: pd.DataFrame) -> tuple[float, ...]:
    pairs = rows[["budget", "dense_flops"]].dropna().drop_duplicates()
    shares = (_budget_share(text, int(dense)) for text, dense in pairs.itertuples(index=False))
    return tuple(sorted({round(share, 1) for share in shares if share is not None}))


def _budget_share(text: str, dense_flops: int) -> float | None:
    """The budget, such as ``50% flops``, in % of the dense FLOPs; None where it has no place on this axis."""
    amount, _, quantity = text.partition(" ")
    if quantity not in ("", "flops") or dense_flops <= 0:
        return None
    try:
        budget = Budget.parse(amount, dense=Cost(macs=0, adds=dense_flops, params=0))
    except ValueError:  # above the dense network or not an amount: no line; the text itself stands in the provenance
        return None
    return 100 * budget.limit / dense_flops


def _limits(
    trials: tuple[Series, ...], confirmed: tuple[Series, ...], references: tuple[Reference, ...]
) -> tuple[float, float] | None:
    """An axis that gives confirmed plans room: search trials reach it from above, but only a little from below."""
    searched = [score for series in trials for score in series.scores]
    strong = [reference.score + sign * (reference.deviation or 0) for reference in references for sign in (-1, 1)]
    for series in confirmed:
        for score, deviation in zip(series.scores, series.deviations, strict=True):
            strong += [score - (deviation or 0), score + (deviation or 0)]
    if not confirmed and searched:
        strong += [median(searched), max(searched)]
    if not strong:
        return None
    low, high = min(strong), max([*strong, *searched])
    room = max(high - low, 1.0)
    lowest = max(low - 0.6 * room, min([low, *searched]))
    return lowest - 0.06 * room, min(high + 0.08 * room, 100 + 0.03 * room)  # a deviation may reach past 100 %


def _known(value: float | None) -> float | None:
    return None if pd.isna(value) else float(value)
