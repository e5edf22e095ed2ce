"""Which method is best at a budget: the best confirmed plan of each, how sure that is, and one sentence that says
it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any

import pandas as pd

from sconv_search.reports.analysis.choice import speed_cell, speed_words
from sconv_search.reports.analysis.latency import MEASURED
from sconv_search.reports.analysis.statistics import FEWEST, LEVEL, Paired, holm, paired
from sconv_search.reports.analysis.summary import quality
from sconv_search.reports.reading.budgets import first_number
from sconv_search.reports.wording import ScoreFormat, method_name, probability, score_format

_SAME = ["budget_group", "family", "variant", "plan", "regularization", "epochs"]
_READ = ["task", *_SAME, "seed", "test_score"]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A method's best plan at a budget.

    Args:
        name: of the plan in its run.
        scores: test score by seed.
        difference: mean test score minus the dense network's; None without a dense network.
        speed: the measured speed-up ± its spread in words; empty where none counts.
        speed_cell: the same for a table, marked where it does not count.
        against_best: paired with the verdict's first entry; None for that entry, and where no seed is common.
        p: the paired t-test's p, Holm-corrected over the verdict's tests.
    """

    family: str
    label: str
    key: str
    run: str
    name: str
    scores: dict[int, float]
    difference: float | None
    flops_share: float | None
    plans: int
    speed: str
    speed_cell: str
    against_best: Paired | None = None
    p: float | None = None

    @property
    def mean(self) -> float:
        """Mean test score over seeds."""
        return fmean(self.scores.values())

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation over seeds; None for one seed."""
        return stdev(self.scores.values()) if len(self.scores) > 1 else None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The methods at one budget of a task, best first.

    Args:
        scores: how scores are written.
        dense: the dense network's test score.
        finetuned: that of the dense network trained on for the same epochs.
        waiting: methods searched at this budget of which no plan is confirmed.
    """

    task: str
    budget: str
    scores: ScoreFormat
    entries: tuple[Entry, ...]
    dense: float | None
    finetuned: Entry | None
    waiting: tuple[str, ...]
    sentence: str = ""


def verdicts(table: pd.DataFrame, summary: pd.DataFrame) -> list[Verdict]:
    """A verdict for each task and budget, in the order of the budgets."""
    groups = table[["task", "budget_group"]].dropna().drop_duplicates().itertuples(index=False, name=None)
    ordered = sorted(groups, key=lambda pair: (pair[0], -first_number(pair[1]), pair[1]))
    return [_verdict(table, summary, task, budget) for task, budget in ordered]


def _verdict(table: pd.DataFrame, summary: pd.DataFrame, task: str, budget: str) -> Verdict:
    confirmed = table.loc[
        (table["stage"] == "confirm") & (table["status"] == "complete") & table["test_score"].notna(), _READ
    ]
    confirmed = confirmed[confirmed["task"] == task]
    scores = confirmed.groupby(["variant", "seed"])["test_score"].mean()
    dense = float(scores["dense"].mean()) if "dense" in scores else None
    plans = summary[(summary["task"] == task) & (summary["stage"] == "confirm")]
    here = plans[(plans["budget_group"] == budget).fillna(False)]
    best = [_best_plan(part, confirmed, dense) for _, part in here.groupby("family")]
    scored = score_format(table[table["task"] == task])
    entries = _tested(sorted((entry for entry in best if entry), key=lambda entry: -scored.metric.quality(entry.mean)))
    searched = set(table.loc[((table["budget_group"] == budget) & (table["task"] == task)).fillna(False), "family"])
    waiting = tuple(sorted(method_name(family) for family in searched - {entry.family for entry in entries} if family))
    verdict = Verdict(
        task=task,
        budget=budget,
        scores=scored,
        entries=entries,
        dense=dense,
        waiting=waiting,
        finetuned=_finetuned(plans, confirmed, dense),
    )
    return replace(verdict, sentence=sentence(verdict))


def _best_plan(plans: pd.DataFrame, confirmed: pd.DataFrame, dense: float | None) -> Entry | None:
    """Chosen by validation score, so that the choice does not flatter the test score; by test only where that is
    missing.
    """
    by = "val_score" if plans["val_score"].notna().all() else "test_score"
    ranked = plans.assign(quality=quality(plans, by)).sort_values(
        ["quality", "flops"], ascending=[False, True], kind="stable"
    )
    chosen = ranked.iloc[0]
    return _entry(chosen, confirmed, dense, plans=len(plans))


def _finetuned(plans: pd.DataFrame, confirmed: pd.DataFrame, dense: float | None) -> Entry | None:
    matching = plans[plans["variant"] == "dense_finetuned"]
    return None if matching.empty else _entry(matching.iloc[0], confirmed, dense, plans=1)


def _entry(plan: pd.Series[Any], confirmed: pd.DataFrame, dense: float | None, *, plans: int) -> Entry:
    same = confirmed
    for name in _SAME:
        same = same[same[name].isna() if pd.isna(plan[name]) else (same[name] == plan[name]).fillna(False)]
    by_seed = same.assign(seed=same["seed"].fillna(-1)).groupby("seed")["test_score"].mean()
    scores = {int(seed): float(score) for seed, score in by_seed.items()}  # type: ignore[call-overload]  # an index of integers
    return Entry(
        family=str(plan["family"]),
        label=str(plan["label"]),
        key=str(plan["key"]),
        run=str(plan["run"]),
        name=str(plan["name"]),
        scores=scores,
        plans=plans,
        speed_cell=speed_cell(dict(plan)),
        speed=speed_words(dict(plan)) if not pd.isna(plan["timing"]) and plan["timing"] == MEASURED else "",
        difference=None if dense is None else fmean(scores.values()) - dense,
        flops_share=None if pd.isna(plan["flops_share"]) else float(plan["flops_share"]),
    )


def _tested(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """Each but the first paired with the first; the tests share one level (Holm)."""
    pairs = [None, *(paired(entry.scores, entries[0].scores) for entry in entries[1:])][: len(entries)]
    corrected = holm([pair.t_test if pair else None for pair in pairs])
    return tuple(
        replace(entry, against_best=pair, p=p) for entry, pair, p in zip(entries, pairs, corrected, strict=True)
    )


def sentence(verdict: Verdict) -> str:
    """The verdict in words, made from its numbers."""
    at = f"At {verdict.budget}"
    if not verdict.entries:
        return f"{at} no plan is confirmed yet; `sconv-search confirm` trains the best ones over several seeds."
    first, *others = verdict.entries
    said = f"{at}, {_effect(first, verdict.scores)}"
    if others:
        said += f"; {', '.join(_short(entry, verdict.scores) for entry in others)}. {_certainty(first, others)}"
    else:
        said += (
            f" (n = {len(first.scores)}). No other method is confirmed at this budget, so there is nothing to compare"
        )
    if verdict.waiting:
        said += f". Not confirmed yet: {', '.join(verdict.waiting)}"
    return said + "."


def _name(entry: Entry) -> str:
    return method_name(entry.family) + (" (uniform plan)" if entry.label.endswith(", uniform") else "")


def _effect(entry: Entry, scores: ScoreFormat) -> str:
    speed = f", {entry.speed}" if entry.speed else ""
    if entry.difference is None:
        return f"{_name(entry)} reaches {_reached(entry, scores)} (no dense network to compare with){speed}"
    return f"{_short(entry, scores)} against the dense network{speed}"


def _short(entry: Entry, scores: ScoreFormat) -> str:
    if entry.difference is None:
        return f"{_name(entry)} {_reached(entry, scores)}"
    verb = "gains" if scores.metric.quality(entry.difference) > 0 else "loses"
    return f"{_name(entry)} {verb} {scores.difference(abs(entry.difference), entry.deviation)}"


def _reached(entry: Entry, scores: ScoreFormat) -> str:
    return f"{scores.spread(entry.mean, pd.NA if entry.deviation is None else entry.deviation)}{scores.unit}"


def _certainty(first: Entry, others: Sequence[Entry]) -> str:
    """How sure the first place is: one difference in full, several by what their tests found."""
    if len(others) == 1:
        return f"The difference {_finding(others[0])}"
    words: dict[str, list[str]] = {}
    for entry in others:
        finding, p = _kind_of_finding(entry)
        words.setdefault(finding, []).append(_name(entry) + (f" ({p})" if p else ""))
    tested = [entry.against_best.n for entry in others if entry.against_best and entry.p is not None]
    pairs = f"{min(tested)} to {max(tested)}" if tested and min(tested) < max(tested) else f"{max(tested, default=0)}"
    clauses = "; ".join(f"{finding} over {', '.join(names)}" for finding, names in words.items())
    method = f" (paired t-tests, Holm-corrected, n = {pairs})" if tested else ""
    return f"The lead is {clauses}{method}"


def _kind_of_finding(entry: Entry) -> tuple[str, str]:
    pair = entry.against_best
    if pair is None or pair.n < FEWEST:
        return "not tested, for want of seeds,", f"n = {pair.n if pair else 0}"
    if entry.p is None:
        return "the same with every seed", f"n = {pair.n}"
    return ("significant" if entry.p < LEVEL else "not significant"), probability(entry.p)


def _finding(entry: Entry) -> str:
    pair = entry.against_best
    if pair is None:
        return "cannot be tested: no seed was trained with both"
    if pair.n < FEWEST:
        return f"cannot be tested: not enough seeds (n = {pair.n})"
    if entry.p is None:
        return f"is the same with every seed, which a t-test cannot judge (n = {pair.n})"
    significant = "is significant" if entry.p < LEVEL else "is not significant"
    return f"{significant} (paired t-test, {probability(entry.p)}, n = {pair.n})"


def paired_words(entry: Entry, *, best: bool) -> str:
    """What the paired tests against the best method say, for a table's cell."""
    pair = entry.against_best
    if best:
        return "best"
    if pair is None:
        return "no common seed"
    if pair.n < FEWEST:
        return f"not enough seeds (n = {pair.n})"
    student = "differences do not vary" if entry.p is None else probability(entry.p)
    flip = "" if pair.sign_flip is None else f"; sign flips {probability(pair.sign_flip)}"
    return f"{student}{flip}; n = {pair.n}"
