"""Which network to take: the smallest, and the fastest, of the confirmed ones that lose no more than a tolerance."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from sconv_search.records import code_of
from sconv_search.reports.analysis.latency import BUSY, ELSEWHERE, MEASURED
from sconv_search.reports.reading.records_table import REFERENCES, records
from sconv_search.reports.reading.runs import RunFacts
from sconv_search.reports.wording import MISSING, ScoreFormat, hundredths, method_name, one_line, score_format, tenths

TOLERANCE = 1.0
"""Points that a network may lose at first, where scores are in %; the reader changes it in the page."""
RELATIVE_TOLERANCE = 0.01
"""The same for other metrics: this share of the dense network's score."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """A confirmed network that may be taken.

    Args:
        key: by which the page finds its layers.
        lost: how much worse than the dense network it is, in the metric's unit; negative where it is better.
        deviation: sample standard deviation of its score over seeds; None for one seed.
        size: FLOPs in % of the dense network's.
        speed_up: over the dense network, from undisturbed measurements; None where there is none.
        words: what it is, in a sentence without a verb.
        path: folder of its plan and weights, of the first seed; empty where the run holds none.
        command: exports it.
    """

    key: str
    lost: float
    deviation: float | None
    size: float
    speed_up: float | None
    words: str
    path: str
    command: str


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The networks of one task, smallest first, and what may be lost.

    Args:
        dense: the dense network's test score; None without a dense network, with which nothing can then be compared.
        step: by which the page changes the tolerance.
    """

    task: str
    scores: ScoreFormat
    dense: float | None
    tolerance: float
    step: float
    options: tuple[Option, ...]

    @property
    def tolerance_text(self) -> str:
        """The tolerance with the decimals of a step: ``1.0``."""
        return f"{self.tolerance:.{max(0, -math.floor(math.log10(self.step) + 1e-9))}f}"

    def within(self, tolerance: float | None = None) -> tuple[Option, ...]:
        """The options that lose no more than the tolerance, smallest first."""
        most = self.tolerance if tolerance is None else tolerance
        return tuple(option for option in self.options if option.lost <= most + 1e-9)


def smallest(options: Sequence[Option]) -> Option | None:
    """The option with the fewest FLOPs; of equal ones the better."""
    return min(options, key=lambda option: (option.size, option.lost), default=None)


def fastest(options: Sequence[Option]) -> Option | None:
    """The option with the largest measured speed-up; None where none is measured."""
    return max((o for o in options if o.speed_up is not None), key=lambda option: option.speed_up or 0.0, default=None)


def choices(summary: pd.DataFrame, runs: Sequence[RunFacts]) -> list[Choice]:
    """A choice for each task that has a scored network."""
    return [_choice(str(task), rows, {run.name: run for run in runs}) for task, rows in summary.groupby("task")]


def _choice(task: str, plans: pd.DataFrame, runs: dict[str, RunFacts]) -> Choice:
    scores = score_format(plans)
    confirmed = plans[plans["stage"] == "confirm"]
    dense_rows = confirmed.loc[confirmed["variant"] == "dense", "test_score"]
    dense = float(dense_rows.mean()) if len(dense_rows) else None
    rows = confirmed[~confirmed["variant"].isin(REFERENCES) & confirmed["flops_share"].notna()]
    options = [] if dense is None else [_option(row, scores, runs.get(str(row["run"]))) for row in records(rows)]
    tolerance = TOLERANCE
    if scores.metric.unit != "%" and dense:
        tolerance = float(f"{RELATIVE_TOLERANCE * abs(dense):.1g}")
    ordered = tuple(sorted(options, key=lambda option: (option.size, option.lost)))
    return Choice(task=task, scores=scores, dense=dense, tolerance=tolerance, step=tolerance / 10, options=ordered)


def _option(row: dict[str, Any], scores: ScoreFormat, run: RunFacts | None) -> Option:
    lost = -scores.metric.quality(float(row["difference"]))
    deviation = None if pd.isna(row["test_score_std"]) else float(row["test_score_std"])
    usable = row["timing"] == MEASURED if not pd.isna(row["timing"]) else False
    words = f"{network_name(row)}: {tenths(row['flops_share'])} % of the FLOPs, {speed_words(row)}, "
    words += f"test {scores.name} {scores.spread(row['test_score'], row['test_score_std'])}{scores.unit} "
    words += f"({loss_words(lost, scores)}, {seeds_words(row['seeds'])})"
    return Option(
        key=str(row["key"]),
        lost=lost,
        deviation=deviation,
        size=float(row["flops_share"]),
        speed_up=float(row["speed_up"]) if usable else None,
        words=words,
        path=network_path(row, run),
        command=export_command(row, run),
    )


def network_name(row: dict[str, Any]) -> str:
    """The method, and the plan's name in its run: what ``sconv-search export --plan`` takes."""
    name = "" if str(row["name"]) == "uniform" else f" {one_line(str(row['name']))}"
    kind = "uniform plan" if row["variant"] == "uniform" else "plan"
    return f"{method_name(row['family'])}, {kind}{name} of run {one_line(str(row['run']))}"


def speed_words(row: dict[str, Any]) -> str:
    """The measured speed-up, or why there is none that counts."""
    if pd.isna(row["timing"]):
        return "speed not measured"
    if row["timing"] == BUSY:
        return "speed not known (the machine was busy when it was measured)"
    if row["timing"] == ELSEWHERE:
        return "speed not comparable (measured under other conditions)"
    times = f"{speed_up_text(row)} times as fast as dense"
    return f"{times}, so slower" if row["speed_up"] < 1 else times


def speed_up_text(row: dict[str, Any]) -> str:
    """The speed-up ± its spread."""
    spread = "" if pd.isna(row["speed_up_spread"]) else f" ± {hundredths(row['speed_up_spread'])}"
    return f"{hundredths(row['speed_up'])}{spread}"


def speed_cell(row: dict[str, Any]) -> str:
    """The speed-up ± its spread for a table, with a mark where it does not count."""
    if pd.isna(row["speed_up"]):
        return MISSING
    if row["variant"] == "dense":
        return "1"
    return speed_up_text(row) if row["timing"] == MEASURED else f"{speed_up_text(row)} ({row['timing']})"


def loss_words(lost: float, scores: ScoreFormat) -> str:
    """How far a network is from the dense one."""
    return f"{scores.difference(abs(lost))} {'worse' if lost > 0 else 'better'} than dense"


def seeds_words(count: Any) -> str:
    """The number of seeds."""
    return f"{count} seed{'s' * (count != 1)}"


def network_path(row: dict[str, Any], run: RunFacts | None) -> str:
    """The folder of the network's plan and weights, of the least seed; empty where the run folder holds none."""
    if run is None:
        return ""
    label = f"{row['variant']}-{row['name']}" if str(row["name"]).isdecimal() else str(row["name"])
    parent = run.folder / "confirmed"
    saved = [(seed, path) for path in parent.glob(f"{glob_safe(label)}-seed*") if (seed := _seed(path)) is not None]
    return str(min(saved)[1]) if saved else ""


def glob_safe(text: str) -> str:
    """The text as a pattern that matches it alone."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in text if letter not in "/\\\0")


def _seed(path: Path) -> int | None:
    seed = path.name.rpartition("-seed")[2]
    return int(seed) if seed.isascii() and seed.isdecimal() else None


def export_command(row: dict[str, Any], run: RunFacts | None) -> str:
    """The command that writes the network as one file; empty where the run folder does not hold the network.

    Code that the run's task names is named again, as no command runs what a folder alone names.
    """
    if run is None or not network_path(row, run):
        return ""
    task = run.spec.get("task")
    named = [word for pair in code_of(task if isinstance(task, str) else "") for word in pair]
    return shlex.join(["sconv-search", "export", str(run.folder), "--plan", str(row["name"]), "--to", "onnx", *named])


def question(choice: Choice) -> tuple[str, str]:
    """The words before and after the tolerance."""
    unit = f"{choice.scores.difference_unit} of" if choice.scores.difference_unit else "of"
    return "The smallest network within", f"{unit} dense ({choice.scores.name} {choice.scores.text(choice.dense)}):"


def unanswered(choice: Choice) -> str:
    """Why no network can be named."""
    if choice.dense is None:
        return (
            "Which network to take cannot be said yet: no dense network is confirmed to compare with; "
            "`sconv-search confirm` trains the best plans over several seeds, beside the dense network."
        )
    return (
        "Which network to take cannot be said yet: no plan is confirmed; `sconv-search confirm` trains the best ones."
    )


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What to take from a tolerance on, until that of the next answer.

    Args:
        least: the tolerance from which on it holds; None for the first answer, which holds below all others.
        smallest: the smallest network in words, or that there is none.
        fastest: the same of the fastest.
        option: the smallest network; where there is none, the nearest.
    """

    least: float | None
    smallest: str
    fastest: str
    option: Option


def answers(choice: Choice) -> list[Answer]:
    """The answers to all tolerances, rising; none where nothing can be compared with a dense network."""
    if not choice.options:
        return []
    nearest = min(choice.options, key=lambda option: (option.lost, option.size))
    count = len(choice.options)
    none = f"none of the {count} confirmed networks" if count > 1 else "not the one confirmed network"
    made = [Answer(least=None, smallest=f"{none}. The nearest: {nearest.words}.", fastest="", option=nearest)]
    for least in sorted({option.lost for option in choice.options}):
        inside = choice.within(least)
        small, fast = smallest(inside), fastest(inside)
        assert small is not None
        if fast is None:
            words = "How fast they are is not known: no speed was measured undisturbed."
        elif (fast.speed_up or 0.0) <= 1:
            words = f"{'None of the networks within that is' if len(inside) > 1 else 'It is not'} faster than the "
            words += "dense one."
        elif fast is small:
            words = "It is the fastest within that, too." if len(inside) > 1 else ""
        else:
            words = f"The fastest within that: {fast.words}."
        if made[-1].option is small and made[-1].fastest == words and made[-1].least is not None:
            continue
        made.append(Answer(least=least, smallest=f"{small.words}.", fastest=words, option=small))
    return made


def answer_at(given: Sequence[Answer], tolerance: float) -> Answer:
    """The answer that holds at a tolerance."""
    return [answer for answer in given if answer.least is None or answer.least <= tolerance + 1e-9][-1]
