"""Structural regularization against direct training: one plan, equal epochs, several seeds, on CIFAR-10.

Direct training compresses first and trains the structured layers for all epochs; regularized training spends half of
them on the dense network with the penalty, whose weight rises to lambda, and compresses then. Rows are appended as they
come, so an interrupted run continues; without ``--data`` they become a table.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.timing import facts, markdown_table, publish
from sconv_search.budget import Budgets
from sconv_search.search_space.heuristics import RULES
from sconv_search.search_space.space import SearchSpace
from sconv_search.studies import context_from_task
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.space.measuring import measured_space
from sconv_search.studies.tasks import task_named
from sconv_search.studies.trials.trial import run_trial
from sconv_search.system.malloc import keep_freed_memory
from sconv_search.training.evaluation import evaluate
from sconv_search.training.schedule import Schedule

TASK, METHOD, RULE, RATE = "cifar10/resnet20", "structured_conv", "minimax", 0.01
DIRECT = "direct"


def measure(given: argparse.Namespace) -> None:
    """Appends the rows that the file lacks."""
    cpu, weights = torch.device("cpu"), given.data / "weights" / "cifar10_resnet20.safetensors"
    start = context_from_task(
        task_named(TASK), data=given.data, weights=weights, cache=given.data, device=cpu, monitor=Monitor()
    )
    cache = given.rows.with_suffix(".space.json")
    if not cache.exists():
        cache.write_text(measured_space(start, [METHOD], Monitor()).to_json())
    space = SearchSpace.from_json(cache.read_text())
    plan = RULES[RULE](space, Budgets.parse(f"{given.budget}%", dense=space.dense))
    if plan is None:
        raise SystemExit(f"no plan of {METHOD} fits {given.budget} % of the dense FLOPs")
    done = {(row["budget"], row["epochs"], row["way"], row["seed"]) for row in _rows(given.rows)}
    schedule = Schedule(epochs=given.epochs, learning_rate=RATE)
    for seed in range(given.seeds):
        for weight in (None, *given.weight):
            way = DIRECT if weight is None else f"regularized, λ = {weight:g}"
            if (given.budget, given.epochs, way, seed) in done:
                continue
            began = time.perf_counter()
            outcome = run_trial(
                start,
                plan,
                schedule,
                seed=seed,
                regularization=weight,
                regularized_share=0.5,
                monitor=Monitor(),
                watch_compression=True,
            )
            row = {
                "budget": given.budget,
                "epochs": given.epochs,
                "way": way,
                "seed": seed,
                "residual": outcome.residual,
                "before": outcome.before and outcome.before.value,
                "after": outcome.after and outcome.after.value,
                "final": outcome.final.value,
                "test": evaluate(outcome.network, start.data, start.data.test).value,
                "seconds": time.perf_counter() - began,
            }
            with given.rows.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(row, flush=True)


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _spread(values: list[float], digits: int = 2) -> str:
    shown = f"{statistics.fmean(values):.{digits}f}"
    return f"{shown} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else shown


def report(rows: list[dict[str, Any]]) -> str:
    """A line for each way: mean and standard deviation over the seeds."""
    columns = (
        "FLOPs budget, %",
        "epochs",
        "training",
        "seeds",
        "relative residual at compression",
        "top-1 before compression",
        "just after",
        "at the end",
        "test top-1",
        "seconds relative to direct",
    )
    lines: list[tuple[object, ...]] = []
    for budget, epochs, way in dict.fromkeys((r["budget"], r["epochs"], r["way"]) for r in rows):
        same = [r for r in rows if (r["budget"], r["epochs"]) == (budget, epochs)]
        own = [r for r in same if r["way"] == way]
        direct = {r["seed"]: r["seconds"] for r in same if r["way"] == DIRECT}
        ratios = [r["seconds"] / direct[r["seed"]] for r in own if r["seed"] in direct]
        values = (_spread([r[name] for r in own], 3 if name == "residual" else 2) for name in COLUMNS)
        lines.append((budget, epochs, way, len(own), *values, f"{statistics.median(ratios):.2f}" if ratios else ""))
    return markdown_table(columns, lines)


COLUMNS = ("residual", "before", "after", "final", "test")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with weights/ and cifar10/; without it, write the table")
    parser.add_argument("--budget", type=int, default=50, help="%% of the dense FLOPs")
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--weight", type=float, action="append", help="weight of the penalty (default 0.5 and 2)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", type=Path, default=Path("benchmarks/results/regularized_training.jsonl"))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    keep_freed_memory()
    if given.data:
        given.weight = given.weight or [0.5, 2.0]
        measure(given)
        return
    note = (
        f"ResNet-20, pretrained; the {RULE} plan of {METHOD}; learning rate {RATE}, batch 128. Top-1 in % on 5,000 test"
        " images (validation) and, in the test column, on the other 5,000; mean ± standard deviation over the seeds."
    )
    text = f"# Regularized against direct training\n\n{facts(['fp32'], 1)}\n\n{note}\n\n{report(_rows(given.rows))}"
    publish(text, given.out)


if __name__ == "__main__":
    main()
