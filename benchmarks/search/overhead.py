"""What a search costs beside training: the time of a suggestion, a trial's other seconds, and what a second worker
brings.

Three parts, each of which appends rows; without ``--part`` the rows become a report.

- ``suggestions``: from asking for the next plan to having it, with 60 layers of 19 options (costs as of 3x3
convolutions,
  damages drawn), after 1, 100 and 500 trials by the same sampler; the GP's trials are drawn at random, as it keeps no
  state.
- ``trials``: a real search on CIFAR-10 with ResNet-20. Training and scoring are timed; all other seconds from one
record to the
  next are overhead: suggesting, compressing, measuring, batch-norm re-estimation, writing.
- ``workers``: the same search with one and with two workers of one thread each, once every worker has ended a trial.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.timing import facts, markdown_table, publish, quartiles
from sconv_search import Choice, CompressionPlan, Cost, TrialRecord
from sconv_search.budget import Budgets
from sconv_search.search_space.space import Option, SearchSpace
from sconv_search.search_space.tables import SpaceArrays
from sconv_search.studies import RunFolder, StudyContext, StudySpec, context_from_task
from sconv_search.studies.executors.placement import Placement
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.samplers.random_keys import RandomKeys
from sconv_search.studies.samplers.study import Domain, Sampler
from sconv_search.studies.search.proposals import Proposals
from sconv_search.studies.search.runner import search
from sconv_search.studies.spec import SAMPLERS, SamplerName
from sconv_search.studies.tasks import task_named
from sconv_search.system.malloc import keep_freed_memory

SITES, OPTIONS = 60, 19
AFTER = (1, 100, 500)
MOST_SUGGESTION_MS, MOST_SHARE, LEAST_GAIN = 100.0, 0.05, 1.8
REGULARIZATION = (0.05, 2.0)
TASK = "cifar10/resnet20"


def made_up_space(seed: int = 0) -> SearchSpace:
    """3x3 convolutions of 16 to 128 channels at 4 to 16 positions a side, each with options that keep 5 % to 95 %."""
    rng = np.random.default_rng(seed)
    sites = {}
    for index in range(SITES):
        channels, side = 2 ** int(rng.integers(4, 8)), 2 ** int(rng.integers(2, 5))
        sensitivity = np.exp(rng.normal(-3, 1))
        sites[f"layer{index // 20}.{index % 20}.conv"] = tuple(
            _option(kept, channels, side, float(sensitivity * np.exp(rng.normal(0, 0.3))))
            for kept in range(1, OPTIONS + 1)
        )
    dense = sum(int(options[0].cost.macs / (1 / (OPTIONS + 1) - 1)) for options in sites.values())
    return SearchSpace(dense=Cost(macs=dense, adds=0, params=10**6), sites=sites)


def _option(kept: int, channels: int, side: int, sensitivity: float) -> Option:
    share = kept / (OPTIONS + 1)
    weights = 9 * channels**2
    choice = Choice(method="structured_conv", structure={"c": kept, "n": 3})
    cost = Cost(macs=-int((1 - share) * weights * side**2), adds=channels * side**2, params=-int((1 - share) * weights))
    return Option(choice=choice, cost=cost, damage=sensitivity * (1 - share) ** 2)


@dataclass(kw_only=True)
class Suggesting:
    """A study without trainings: a plan's score follows from damages that the table does not know."""

    kind: SamplerName
    folder: Path
    space: SearchSpace = field(default_factory=made_up_space)

    def __post_init__(self) -> None:
        task = task_named("demo")
        spec = StudySpec(
            task="demo",
            methods=("structured_conv",),
            budget="50%",
            trials=2,
            sampler=self.kind,
            search_schedule=task.search_schedule,
            confirm_schedule=task.confirm_schedule,
        )
        random_keys = RandomKeys(SpaceArrays(self.space), {name: name for name in self.space.sites})
        domain = Domain(random_keys=random_keys.names, regularization=REGULARIZATION)
        self._sampler = Sampler(self.folder / "journal", domain, self.kind, 0, startup=10)
        budgets = Budgets.parse(spec.budget, dense=self.space.dense)
        self._proposals = Proposals(spec, self.space, budgets, self._sampler, random_keys, REGULARIZATION)
        rng = np.random.default_rng(1)
        self._true = {name: float(np.exp(rng.normal(0, 1))) for name in self.space.sites}

    def trial(self) -> tuple[float, float]:
        """Seconds of the processor, and by the clock, that the suggestion of one more trial takes."""
        began, worked = time.perf_counter(), time.process_time()
        request = self._proposals.next()
        seconds = time.process_time() - worked, time.perf_counter() - began
        told = TrialRecord(
            study="",
            task="",
            stage="search",
            variant="searched",
            status="complete",
            number=request.number,
            plan=request.plan.to_json(),
            regularization=request.regularization,
            val_score=self._score(request.plan),
            origin=request.origin,
        )
        self._sampler.tell(request.number, told)
        self._proposals.learn([told])
        return seconds

    def _score(self, plan: CompressionPlan) -> float:
        harms = (self._true[name] * self.space.option(name, choice).damage for name, choice in plan.sites.items())
        return 90 - 20 * sum(harms)

    def suggest(self) -> None:
        """Begins one more trial, which runs and is told nothing; the next are suggested while others run."""
        self._sampler.parallel = True
        self._proposals.next()

    def by(self, kind: SamplerName) -> None:
        """Another sampler goes on."""
        self._sampler.kind = kind


def suggestions(kind: SamplerName, rounds: int) -> Iterator[dict[str, Any]]:
    """Seconds of suggestions after so many trials."""
    with tempfile.TemporaryDirectory() as folder:
        study, done = Suggesting(kind=kind, folder=Path(folder)), 0
        for after in AFTER:
            if kind == "gp":
                study.by("random")
            done += len([study.trial() for _ in range(after - done)])
            study.by(kind)
            taken = [study.trial() for _ in range(rounds)]
            done += rounds
            processor, clock = zip(*taken, strict=True)
            load = os.getloadavg()[0]
            yield {
                "part": "suggestions",
                "sampler": kind,
                "after": after,
                "processor": processor,
                "clock": clock,
                "load": load,
            }


@dataclass
class Clock(Monitor):
    """Notes when records are written, and how long training and scoring took until then."""

    written: list[float] = field(default_factory=list)
    spent: dict[str, float] = field(default_factory=lambda: {"train": 0.0, "score": 0.0})
    rows: list[dict[str, float]] = field(default_factory=list)

    def recorded(self, record: TrialRecord) -> None:
        """A trial has ended."""
        now = time.perf_counter()
        if record.status != "complete":
            raise RuntimeError(f"trial {record.number} gave nothing: {record.reason}")
        if self.written:
            self.rows.append({**self.spent, "all": now - self.written[-1]})
        self.written.append(now)
        self.spent |= {"train": 0.0, "score": 0.0}

    def timed(self, part: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its seconds added to a part's."""

        def working(*arguments: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return work(*arguments, **options)
            finally:
                self.spent[part] += time.perf_counter() - began

        return working


def _context(given: argparse.Namespace) -> StudyContext:
    weights = given.data / "weights" / "cifar10_resnet20.safetensors"
    options = {"weights": weights, "cache": given.data, "device": torch.device("cpu"), "monitor": Monitor()}
    return context_from_task(task_named(TASK), data=given.data / "cifar10", **options)


def _spec(context: StudyContext, epochs: float, trials: int) -> StudySpec:
    schedule = replace(context.task.search_schedule, epochs=epochs)
    return StudySpec(
        task=TASK,
        methods=("structured_conv",),
        budget="50%",
        trials=trials,
        search_schedule=schedule,
        confirm_schedule=context.task.confirm_schedule,
    )


def _folder(name: str, given: argparse.Namespace) -> RunFolder:
    """A run's folder that knows the search space, where one is given."""
    folder = RunFolder(Path(name))
    if given.space is not None:
        folder.write_space(SearchSpace.from_json(given.space.read_text(encoding="utf-8")))
    return folder


def trials(given: argparse.Namespace) -> dict[str, Any]:
    """Seconds of training, scoring and all of each trial but the first, from record to record."""
    context, clock = _context(given), Clock()
    timed = replace(context, train=clock.timed("train", context.train), score=clock.timed("score", context.score))
    with tempfile.TemporaryDirectory() as name:
        search(timed, _spec(context, given.epochs, given.trials), _folder(name, given), clock)
    return {"part": "trials", "epochs": given.epochs, "rows": clock.rows}


def workers(count: int, given: argparse.Namespace) -> dict[str, Any]:
    """Moments at which the records of a search were written."""
    context, clock = _context(given), Clock()
    torch.set_num_threads(count)  # a search divides its threads among the workers
    with tempfile.TemporaryDirectory() as name:
        spec, placement = _spec(context, given.epochs, given.trials * count), Placement(workers=count)
        search(context, spec, _folder(name, given), clock, placement=placement)
    return {"part": "workers", "workers": count, "epochs": given.epochs, "written": clock.written}


def per_minute(row: dict[str, Any]) -> float:
    """Trials a minute, once every worker has ended its first one."""
    written: list[float] = row["written"]
    count: int = row["workers"]
    return float(60 * (len(written) - count) / (written[-1] - written[count - 1]))


def report(rows: Sequence[dict[str, Any]]) -> str:
    """The tables of all parts that were measured."""
    parts: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        parts.setdefault(row["part"], []).append(row)
    made = {"suggestions": _suggestions_table, "trials": _trials_table, "workers": _workers_table}
    return "\n\n".join(make(parts[part]) for part, make in made.items() if part in parts)


def _suggestions_table(rows: Sequence[dict[str, Any]]) -> str:
    cells: dict[str, dict[int, str]] = {}
    for row in rows:
        ms = quartiles(row["processor"])
        bar = "" if row["sampler"] == "gp" or 1e3 * ms.median < MOST_SUGGESTION_MS else " **missed**"
        clock = 1e3 * quartiles(row["clock"]).median
        cells.setdefault(row["sampler"], {})[row["after"]] = f"{ms.milliseconds()}{bar}; {clock:.0f}"
    table = markdown_table(
        ["sampler", *(f"after {after}, ms" for after in AFTER)],
        [(kind, *(cell.get(after, "") for after in AFTER)) for kind, cell in cells.items()],
    )
    rounds, loads = len(rows[0]["clock"]), [row["load"] for row in rows]
    words = f"{SITES} layers of {OPTIONS} options; {rounds} suggestions in a row (3 by the GP): "
    words += "median (first to third quartile) of the "
    words += (
        "processor's milliseconds, then the median by the clock, which other work on the machine lengthens (load"
        " average "
    )
    words += f"{min(loads):.1f} to {max(loads):.1f}). At most {MOST_SUGGESTION_MS:g} ms but for the GP."
    return f"## Suggestions\n\n{words}\n\n{table}"


def _trials_table(rows: Sequence[dict[str, Any]]) -> str:
    cells = []
    for row in rows:
        seconds = {key: quartiles([trial[key] for trial in row["rows"]]).median for key in ("train", "score", "all")}
        rest = quartiles([trial["all"] - trial["train"] - trial["score"] for trial in row["rows"]]).median
        epoch = seconds["train"] / row["epochs"]
        share = rest / (epoch + seconds["score"] + rest)
        held = "holds" if share < MOST_SHARE else "**missed**"
        numbers = (f"{value:.1f}" for value in (seconds["train"], seconds["score"], rest, epoch))
        cells.append((f"{row['epochs']:g}", len(row["rows"]), *numbers, f"{share:.1%}", held))
    columns = (
        "epochs",
        "trials",
        "training, s",
        "scoring, s",
        "all else, s",
        "one epoch, s",
        "share of all else at one epoch",
    )
    words = (
        "ResNet-20 on CIFAR-10, structured convolutions at 50 %; medians. The seconds of one epoch follow from those"
        " trained."
    )
    return f"## A trial's other seconds\n\n{words}\n\n{markdown_table((*columns, f'under {MOST_SHARE:.0%}'), cells)}"


def _workers_table(rows: Sequence[dict[str, Any]]) -> str:
    rates = {row["workers"]: per_minute(row) for row in rows}
    gains = {count: rate / rates[1] for count, rate in rates.items()}
    held = {
        count: "" if count == 1 else "holds" if gain >= LEAST_GAIN else "**missed**" for count, gain in gains.items()
    }
    table = markdown_table(
        ("workers of one thread", "trials a minute", "times one worker's", f"at least {LEAST_GAIN:g}"),
        [(count, f"{rate:.2f}", f"{gains[count]:.2f}", held[count]) for count, rate in rates.items()],
    )
    return f"## Workers\n\nThe same search, {rows[0]['epochs']:g} epochs a trial.\n\n{table}"


def measured(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The rows of one part."""
    if given.part == "suggestions":
        for kind in given.sampler or SAMPLERS:
            yield from suggestions(kind, given.rounds if kind != "gp" else min(given.rounds, 3))
    elif given.part == "trials":
        yield trials(given)
    else:
        yield from (workers(count, given) for count in (1, 2))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("suggestions", "trials", "workers"), help="measure this; without it, report")
    parser.add_argument("--sampler", action="append", choices=SAMPLERS)
    parser.add_argument("--rounds", type=int, default=9, help="suggestions at each place; at most 3 by the GP")
    parser.add_argument("--data", type=Path, help="folder with weights/ and cifar10/")
    parser.add_argument("--space", type=Path, help="space.json of an earlier search, instead of measuring it again")
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--trials", type=int, default=3, help="trials a worker")
    parser.add_argument("--rows", type=Path, default=Path("benchmarks/results/search_overhead.jsonl"))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    if given.part:
        for row in measured(given):
            with open(given.rows, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), file=sys.stderr, flush=True)
        return
    rows = [json.loads(line) for line in given.rows.read_text(encoding="utf-8").splitlines()]
    publish(f"# What a search costs beside training\n\n{facts(['fp32'], 1)}\n\n{report(rows)}", given.out)


if __name__ == "__main__":
    main()
