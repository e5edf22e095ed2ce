"""How a report of very many trials fares: processor time, peak memory and the page's size, against what is promised."""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.timing import facts, markdown_table, publish
from sconv_search.records import TrialRecord

MOST_SECONDS, MOST_GIB, MOST_MB = 20.0, 1.0, 6.0
METHODS = {"structured_conv": ("c", "n"), "spatial_svd": ("rank",), "tucker": ("rank",), "channel_pruning": ("keep",)}
BUDGETS = (50, 35)
LAYERS = [f"layer{stage}.{block}.conv{conv}" for stage in (1, 2, 3) for block in (0, 1, 2) for conv in (1, 2)]
OPTIONS = 12
DENSE = 40_000_000
WHOLE = {"macs": DENSE, "adds": 90_000, "params": 270_000}


def _space(method: str) -> dict[str, object]:
    """The same at every budget, as it is for one network."""
    sites, rng = {}, random.Random(method)
    for layer in LAYERS:
        saving = sorted(rng.randint(100_000, 2_000_000) for _ in range(OPTIONS))
        sites[layer] = [
            {
                "method": method,
                "structure": {name: OPTIONS - index for name in METHODS[method]},
                "cost": {"macs": -macs, "adds": 0, "params": -macs // 150},
                "damage": 1e-9 * macs,
            }
            for index, macs in enumerate(saving)
        ]
    return {"format": "sconv-search space 1", "dense": WHOLE, "sites": sites}


def _plan(method: str, rng: random.Random) -> str:
    sites = {
        layer: {"method": method, "structure": {name: rng.randint(1, OPTIONS) for name in METHODS[method]}}
        for layer in LAYERS
    }
    return json.dumps({"format": "sconv-search plan 1", "sites": sites})


def _records(method: str, budget: int, count: int, rng: random.Random) -> Iterator[TrialRecord]:
    """Trials, of which one in twenty fails or is over budget, and four confirmed plans over three seeds."""
    origin: dict[str, Any] = {
        "study": f"{method}-{budget}",
        "task": "synthetic/resnet20",
        "methods": method,
        "budget": f"{budget}% flops",
        "dense_flops": 2 * DENSE + 90_000,
        "machine": "synthetic",
        "versions": "synthetic",
        "commit": "synthetic",
    }
    kept: list[TrialRecord] = []
    for number in range(count - 12):
        macs = int(DENSE * budget / 100 * rng.uniform(0.9, 0.999))
        costs = {"macs": macs, "adds": 0, "flops": 2 * macs, "params": macs // 150}
        row = (
            origin
            | costs
            | {"stage": "search", "variant": "searched", "number": number, "seed": 0, "plan": _plan(method, rng)}
        )
        if (kind := rng.random()) < 0.05:
            yield TrialRecord(**row, status="failed" if kind < 0.02 else "over_budget", reason="synthetic", wall_s=1.0)
            continue
        weight = rng.choice([None, 10 ** rng.uniform(-1.3, 0.3)]) if method == "structured_conv" else None
        score = 88 + 4 * rng.random() ** 0.3 - 50 * (rng.random() < 0.03)
        row |= {"regularization": weight, "residual": 0.5 if weight is None else 0.5 / (1 + weight)}
        yield (record := TrialRecord(**row, status="complete", val_score=score, epochs=1.0, wall_s=30.0))
        kept = sorted([*kept, record], key=lambda plan: -(plan.val_score or 0))[:4]
    layers = {
        layer: {"kind": "Conv2d", "weight": [32, 32, 3, 3], "before": [2_000_000, 0, 9216], "after": [900_000, 0, 4000]}
        for layer in LAYERS
    }
    for plan in kept:
        for seed in range(3):
            same = {
                name: getattr(plan, name)
                for name in (*origin, "macs", "adds", "flops", "params", "plan", "regularization")
            }
            yield TrialRecord(
                **same,
                stage="confirm",
                variant="searched",
                status="complete",
                number=plan.number,
                seed=seed,
                epochs=10.0,
                test_score=90 + rng.random(),
                val_score=90 + rng.random(),
                val_score_before=91.0,
                wall_s=300.0,
                val_score_after=80 + rng.random(),
                latency_ms=20.0,
                dense_latency_ms=25.0,
                threads=1,
                dtype="float32",
                latency_batch=16,
                layers=json.dumps(layers),
            )


def write_runs(folder: Path, rows: int) -> list[Path]:
    """Run folders with so many records in all, each with a spec and a search space."""
    rng, runs = random.Random(0), []
    schedule = {"epochs": 1}
    for method in METHODS:
        for budget in BUDGETS:
            run = folder / f"{method}-{budget}"
            run.mkdir(parents=True)
            spec: dict[str, object] = {
                "format": "sconv-search study 1",
                "task": "synthetic/resnet20",
                "methods": [method],
                "budget": f"{budget}%",
            }
            spec |= {"trials": 0, "seed": 0, "search_schedule": schedule}
            (run / "spec.json").write_text(json.dumps(spec))
            (run / "space.json").write_text(json.dumps(_space(method)))
            count = rows // (len(METHODS) * len(BUDGETS))
            with open(run / "trials.jsonl", "w") as file:
                file.writelines(record.to_json() + "\n" for record in _records(method, budget, count, rng))
            runs.append(run)
    return runs


class Memory(threading.Thread):
    """Peak memory of a process and those that it starts, shared pages counted once; Linux alone says so."""

    def __init__(self, process: int) -> None:
        super().__init__(daemon=True)
        self.peak, self._process, self._ended = 0, process, threading.Event()

    def run(self) -> None:
        """Looks once a second: a look walks all pages of a process, and more of them would slow what is measured."""
        while not self._ended.wait(1.0):
            self.peak = max(self.peak, sum(map(_proportional, (self._process, *_children(self._process)))))

    def end(self) -> int:
        """The peak in KiB."""
        self._ended.set()
        self.join()
        return self.peak


def _children(process: int) -> list[int]:
    try:
        return [
            int(pid) for task in Path(f"/proc/{process}/task").glob("*/children") for pid in task.read_text().split()
        ]
    except (FileNotFoundError, ProcessLookupError):  # a process that just ended
        return []


def _proportional(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))


def report(rows: int) -> tuple[str, bool]:
    """The measurements of the command as Markdown, and whether all promises hold."""
    with tempfile.TemporaryDirectory() as name:
        runs, out = write_runs(Path(name) / "runs", rows), Path(name) / "report"
        size = sum((run / "trials.jsonl").stat().st_size for run in runs) / 1e6
        load = os.getloadavg()[0]  # beside other work the times are upper bounds
        before, began = os.times(), time.perf_counter()
        command = [sys.executable, "-m", "sconv_search.studies", "report", *map(str, runs), "--out", str(out)]
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        memory = Memory(running.pid)
        memory.start()
        if running.wait():
            raise RuntimeError(f"{' '.join(command)} ended with status {running.returncode}")
        seconds, after, gib = time.perf_counter() - began, os.times(), memory.end() / 2**20
        worked = sum(after[2:4]) - sum(before[2:4])  # of processes that ended: starting, and those that drew figures
        page, written = (out / "index.html").stat().st_size / 1e6, sum(path.is_file() for path in out.rglob("*"))
        thinned = "Thinned: drawn are" in (out / "summary.md").read_text()
    measured = {
        "processor time (s)": (worked, MOST_SECONDS),
        "peak memory (GiB)": (gib, MOST_GIB),
        "page (MB)": (page, MOST_MB),
    }
    table = markdown_table(
        ["what", "measured", "at most", "holds"],
        [
            (what, f"{value:.2f}", f"{most:g}", "yes" if value < most else "NO")
            for what, (value, most) in measured.items()
        ],
    )
    said = f"{rows:,} records in {len(runs)} runs ({size:.0f} MB), {written} files in {seconds:.1f} s by the clock; "
    said += f"load average before: {load:.1f} on {os.cpu_count()} processors; the page says that points are thinned: "
    head = f"# A report of {rows:,} records\n\n{facts(['none'], 1)}\n\n{said}{'yes' if thinned else 'NO'}.\n\n"
    return head + table, thinned and all(value < most for value, most in measured.values())


def main() -> None:
    """Prints the table; exit status 1 where a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--out", type=Path, help="also write the table here")
    arguments = parser.parse_args()
    text, kept = report(arguments.rows)
    publish(text, arguments.out)
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
