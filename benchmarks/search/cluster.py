"""What a search on many machines survives, and what it costs beside training.

Five parts, each of which adds a row; without ``--part`` the rows become a page.

- ``faults``: a search of trials of half a second on a Ray cluster of four nodes of one core, with the study in
  PostgreSQL. Nodes are killed and join again, the coordinator is killed, the database restarted, at random moments.
- ``overhead``: the same search, undisturbed, in this process, in two processes, and on two nodes.
- ``scaling``: trials that sleep, on 1, 2 and 4 nodes, and in up to 32 slots that are threads of the coordinator, so
  that the two cores of a machine do not limit.
- ``fairness``: two searches at once on two nodes, of which the second begins while the first has them all.
- ``suggestions``: seconds of a suggestion after many trials while many others run.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.search.local_cluster import LocalCluster
from benchmarks.search.local_postgres import Server
from benchmarks.search.overhead import Suggesting
from benchmarks.search.sleeping import run
from benchmarks.timing import facts, markdown_table, publish
from sconv_search import TrialRecord
from sconv_search.studies import RunFolder
from sconv_search.studies.executors import placement as placements
from sconv_search.studies.executors.placement import Placement
from sconv_search.studies.executors.ray_cluster import Cluster
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.spec import SamplerName

SECONDS, NODES, LINEAR = 0.5, 4, 0.9
SLEEP_S = 15.0
FAIR_S, FAIR_TRIALS, FAIR_NODES = 5.0, 24, 2
WORDS = (
    "Each part is a command, `python -m benchmarks.search.cluster --part faults`, `--part overhead --trials 10`,"
    " `--part scaling`, `--part fairness` and `--part suggestions --rounds 2`, whose rows lie in"
    " `benchmarks/results/cluster.jsonl`. In some parts other work kept the two cores of the machine busy; the load"
    " average is given. Suggestions are those of a study in a journal."
)
SAMPLERS: tuple[SamplerName, ...] = ("random", "tpe", "surrogate")


def _lines(out: Path) -> int:
    path = out / "trials.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


class Coordinator:
    """A search in a process of its own, started again whenever it has ended before its time."""

    def __init__(
        self, out: Path, trials: int, address: str, storage: str | None = None, seconds: float = SECONDS
    ) -> None:
        where = ["--cluster", address, *(() if storage is None else ("--storage", storage))]
        self._command = [sys.executable, "-m", "benchmarks.search.sleeping", "--out", str(out)]
        self._command += ["--trials", str(trials), "--seconds", str(seconds), *where]
        self._log = out.with_suffix(".log")
        self.started = 0
        self._start()

    def _start(self) -> None:
        self.started += 1
        with self._log.open("a") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def is_done(self) -> bool:
        """Whether the search is complete; a coordinator that failed is an error."""
        status = self._process.poll()
        if status not in (None, 0):
            raise RuntimeError(f"the coordinator ended with {status}: {self._log.read_text()[-2000:]}")
        return status == 0

    def kill(self) -> None:
        """Kills it, and starts the same command again."""
        self._process.kill()
        self._process.wait()
        self._start()

    def end(self) -> None:
        """Ends it, if it is still there."""
        self._process.kill()
        self._process.wait()


def faults(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Strikes at random numbers of finished trials, and looks at what is left."""
    draw, trials = random.Random(given.seed), given.trials
    kinds = ["node"] * given.nodes_killed + ["coordinator"] * given.coordinators_killed + ["database"] * given.restarts
    draw.shuffle(kinds)
    moments = sorted(draw.randint(1, trials - 5) for _ in kinds)
    cluster, server, out = LocalCluster(), Server(folder), folder / "run"
    nodes = [cluster.join(f"node {index}") for index in range(NODES)]
    began, coordinator = time.perf_counter(), Coordinator(out, trials, cluster.address, server.url())
    done: Counter[str] = Counter()
    try:
        while not coordinator.is_done():
            if moments and _lines(out) >= moments[0]:
                moments.pop(0)
                kind = kinds.pop()
                time.sleep(draw.uniform(0, SECONDS))
                if kind == "node":
                    cluster.kill(nodes.pop(draw.randrange(NODES)))
                    nodes.append(cluster.join(f"node {NODES + done['node']}"))
                elif kind == "coordinator":
                    coordinator.kill()
                else:
                    server.stop()
                    time.sleep(draw.uniform(0, 5))
                    server.start()
                done[kind] += 1
                print(f"{_lines(out)} records, struck: {kind}", file=sys.stderr, flush=True)
            time.sleep(0.05)
        seconds = time.perf_counter() - began
        said = out.with_suffix(".log").read_text()
        return {"part": "faults", "seconds": seconds, **done, **_after(out, server, trials), **_said(said)}
    finally:
        coordinator.end()
        cluster.end()
        server.stop()


def _said(log: str) -> dict[str, int]:
    return {
        "ran once more": log.count("it runs once more"),
        "interrupted trials": sum(line.count(",") + 1 for line in log.splitlines() if "interrupted and runs" in line),
        "database waits": log.count("the database does not answer"),
    }


def _after(out: Path, server: Server, trials: int) -> dict[str, Any]:
    """What the folder and the database hold."""
    records, damaged = RunFolder(out).records()
    complete = [r for r in records if r.status == "complete"]
    space = RunFolder(out).read_space()
    assert space is not None
    limit = space.dense.flops // 2
    evaluated = Counter((r.plan, r.regularization) for r in complete)
    import psycopg

    query = (
        "SELECT value_json FROM trial_user_attributes JOIN trials USING (trial_id) JOIN studies USING (study_id)"
        " WHERE key = 'record' AND study_name = %s"
    )
    with psycopg.connect(server.url().replace("+psycopg", "")) as connection:
        there = [TrialRecord.from_json(json.loads(text)) for (text,) in connection.execute(query, (out.name,))]
    best = max(complete, key=lambda r: r.quality or 0.0)
    best_there = max((r for r in there if r.status == "complete"), key=lambda r: r.quality or 0.0)
    return {
        "wanted": trials,
        "complete": len(complete),
        "other rows": dict(Counter(r.status for r in records if r.status != "complete")),
        "damaged lines": len(damaged),
        "doubled numbers": len(records) - len({r.number for r in records}),
        "doubled evaluations": sum(count - 1 for count in evaluated.values()),
        "over budget": sum((r.flops or 0) > limit for r in complete),
        "records that folder and database share": len({r.to_json() for r in records} & {r.to_json() for r in there}),
        "records that only one has": len({r.to_json() for r in records} ^ {r.to_json() for r in there}),
        "same best plan": best.plan == best_there.plan and best.val_score == best_there.val_score,
    }


def overhead(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Seconds from record to record in each slot, less those of the training."""
    seconds_by_place = {}
    for name, slots in (("in this process", 1), ("two processes", 2)):
        placement = Placement(workers=slots)
        seconds_by_place[name] = _per_trial(run(folder / name, given.trials, SECONDS, placement)[1], slots)
    cluster = LocalCluster()
    try:
        for slots in (1, 2):
            cluster.join(f"node {slots}")
            name = f"Ray, {slots} node" + "s" * (slots > 1)
            placement = Placement(cluster=Cluster(address=cluster.address))
            seconds_by_place[name] = _per_trial(run(folder / name, given.trials, SECONDS, placement)[1], slots)
    finally:
        cluster.end()
    return {"part": "overhead", "trials": given.trials, "load": os.getloadavg()[0], "seconds a trial": seconds_by_place}


def _per_trial(written: list[float], slots: int) -> float:
    """Seconds of a trial beside its training, once every slot has ended one."""
    first = written[slots - 1 :]
    return (first[-1] - first[0]) / (len(first) - 1) * slots - SECONDS


class Threads:
    """Slots that are threads: enough where trials sleep."""

    def __init__(self, evaluator: Any, slots: int, monitor: Monitor) -> None:
        self.slots, self._evaluator = slots, evaluator
        self._pool, self._running = ThreadPoolExecutor(slots), dict[Future[Any], Any]()

    def submit(self, job: Any) -> None:
        """Starts a trial."""
        self._running[self._pool.submit(self._sleeping, job)] = job

    def _sleeping(self, job: Any) -> TrialRecord:
        time.sleep(SLEEP_S)
        record: TrialRecord = self._evaluator.failure(job, "")
        return replace(record, status="complete", reason=None, val_score=50.0)

    def result(self) -> tuple[Any, TrialRecord]:
        """The next finished trial."""
        ready, _ = wait(self._running, return_when=FIRST_COMPLETED)
        future = next(iter(ready))
        return self._running.pop(future), future.result()

    def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown()


def scaling(given: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Trials a minute by slots, once every slot has ended a trial, a row a number of slots."""
    for slots in (8, 16, 32):
        with patch.object(placements, "Processes", Threads):
            written = run(folder / f"threads {slots}", 3 * slots, 0.0, Placement(workers=slots))[1]
        yield _scaling_row("threads of the coordinator", slots, written)
    cluster = LocalCluster()
    try:
        for count in range(1, NODES + 1):
            cluster.join(f"node {count}")
            if count in (1, 2, 4):
                placement = Placement(cluster=Cluster(address=cluster.address))
                written = run(folder / f"nodes {count}", 3 * count, SLEEP_S, placement)[1]
                yield _scaling_row("Ray nodes", count, written)
    finally:
        cluster.end()


def _scaling_row(kind: str, slots: int, written: list[float]) -> dict[str, Any]:
    return {"part": "scaling", "kind": kind, "slots": slots, "rate": _rate(written, slots), "load": os.getloadavg()[0]}


def _rate(written: list[float], slots: int) -> float:
    """Trials a minute, once every slot has ended one."""
    first = written[slots - 1 :]
    return 60 * (len(first) - 1) / (first[-1] - first[0])


def fairness(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Trials that each of two searches ends from the first record of the second on, until one of them is complete."""
    cluster, names = LocalCluster(), ("first", "second")
    for index in range(FAIR_NODES):
        cluster.join(f"node {index}")
    searches: list[Coordinator] = []
    try:
        for name in names:
            searches.append(Coordinator(folder / name, FAIR_TRIALS, cluster.address, seconds=FAIR_S))
            while not _lines(folder / name):
                searches[-1].is_done()  # raises where it has failed
                time.sleep(0.05)
        before = [_lines(folder / name) for name in names]
        while not any([search.is_done() for search in searches]):
            time.sleep(0.05)
        ended = [_lines(folder / name) - count for name, count in zip(names, before, strict=True)]
        return {"part": "fairness", "load": os.getloadavg()[0], "before": before, "ended": ended}
    finally:
        for search in searches:
            search.end()
        cluster.end()


def suggestions(given: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Seconds of a suggestion while others run, a row a sampler."""
    study = Suggesting(kind="random", folder=folder)
    for _ in range(given.told):
        study.trial()
    for _ in range(given.pending):
        study.suggest()
    for kind in SAMPLERS:
        study.by(kind)
        seconds = []
        for _ in range(given.rounds):
            began = time.perf_counter()
            study.suggest()
            seconds.append(time.perf_counter() - began)
        amounts = {"told": given.told, "pending": given.pending, "load": os.getloadavg()[0]}
        yield {"part": "suggestions", "sampler": kind, **amounts, "seconds": seconds}


def page(rows: list[dict[str, Any]]) -> Iterator[str]:
    """The page's parts."""
    last = {row["part"]: row for row in rows}
    if (row := last.get("faults")) is not None:
        yield f"## Faults\n\n{_faults_table(row)}"
    if (row := last.get("overhead")) is not None:
        cells = [(name, f"{seconds:.2f}") for name, seconds in row["seconds a trial"].items()]
        words = f"{row['trials']} trials of {SECONDS} s of sleep; load average {row['load']:.1f}."
        table = markdown_table(("where trials run", "seconds of a trial beside its training"), cells)
        yield f"## Overhead\n\n{words}\n\n{table}"
    if rates := {(row["kind"], row["slots"]): row for row in rows if row["part"] == "scaling"}:
        yield f"## Scaling\n\nTrials sleep {SLEEP_S:g} s.\n\n{_scaling_table(list(rates.values()))}"
    if (row := last.get("fairness")) is not None:
        yield f"## Two searches at once\n\n{_fairness_words(row)}"
    if told := {row["sampler"]: row for row in rows if row["part"] == "suggestions"}:
        lines = [
            (
                kind,
                f"{row['told']:,}",
                row["pending"],
                ", ".join(f"{s:.2f}" for s in row["seconds"]),
                f"{row['load']:.1f}",
            )
            for kind, row in told.items()
        ]
        columns = ("sampler", "trials told", "trials running", "seconds of suggestions in a row", "load average")
        yield f"## Suggestions\n\n60 layers of 19 options.\n\n{markdown_table(columns, lines)}"


def _faults_table(row: dict[str, Any]) -> str:
    names = {"node": "nodes killed", "coordinator": "coordinators killed", "database": "restarts of the database"}
    shown = [
        (names.get(name, name), f"{value:.0f}" if isinstance(value, float) else value)
        for name, value in row.items()
        if name != "part"
    ]
    return markdown_table(("what", "count"), shown)


def _scaling_table(rows: list[dict[str, Any]]) -> str:
    cells = []
    for row in rows:
        linear = row["rate"] / (60 / SLEEP_S * row["slots"])
        held = "holds" if linear >= LINEAR else "**missed**"
        cells.append((row["kind"], row["slots"], f"{row['rate']:.1f}", f"{linear:.2f}", held, f"{row['load']:.1f}"))
    columns = ("slots are", "slots", "trials a minute", "of linear", f"at least {LINEAR:g}", "load average")
    return markdown_table(columns, cells)


def _fairness_words(row: dict[str, Any]) -> str:
    first, second = row["ended"]
    return (
        f"Two searches of trials that sleep {FAIR_S:g} s on {FAIR_NODES} nodes of one core; the second began when the"
        f" first had ended {row['before'][0]} trials. From the second one's first trial on, until one of them was"
        f" complete, the first ended {first} trials and the second {second}; load average {row['load']:.1f}."
    )


def main() -> None:
    """Command line."""
    parts: dict[str, Callable[[argparse.Namespace, Path], dict[str, Any] | Iterator[dict[str, Any]]]]
    parts = {"faults": faults, "overhead": overhead, "scaling": scaling, "fairness": fairness}
    parts["suggestions"] = suggestions
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=parts, help="measure this; without it, make the page")
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--nodes-killed", type=int, default=20)
    parser.add_argument("--coordinators-killed", type=int, default=5)
    parser.add_argument("--restarts", type=int, default=2, help="of the database")
    parser.add_argument("--told", type=int, default=5000)
    parser.add_argument("--pending", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=Path, default=Path("benchmarks/results/cluster.jsonl"))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.part:
        with tempfile.TemporaryDirectory() as folder:
            measured = parts[given.part](given, Path(folder))
            for row in [measured] if isinstance(measured, dict) else measured:
                with open(given.rows, "a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                print(json.dumps(row), flush=True)
        return
    rows = [json.loads(line) for line in given.rows.read_text(encoding="utf-8").splitlines()]
    head = f"# A search on many machines\n\n{facts(['fp32'], 1)}\n\n{WORDS}"
    publish("\n\n".join([head, *page(rows)]), given.out)


if __name__ == "__main__":
    main()
