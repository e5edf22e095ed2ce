"""Whether the search earns its keep: loss without training against the number of evaluations, for rules and samplers.

The objective is real and cheap: compress a pretrained network, re-estimate its batch norms, and take the loss on
held-out images. Rules (uniform, greedy, minimax, least error) are one evaluation each. Compared are the surrogate, TPE
and random search over budget-filling preferences, and TPE and random search over one integer a layer with the budget as
a constraint. Rows are appended as they come, so an interrupted run continues; without ``--network`` they become a table
and a figure.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.accuracy.post_training import NETWORKS
from benchmarks.search.objective import Objective
from benchmarks.search.strategies import Found, Setting, Way, by_rule, filling, integers
from benchmarks.search.tables import RANDOM, draw, report
from benchmarks.timing import facts, publish
from sconv_search.budget import Budgets
from sconv_search.search_space.heuristics import RULES
from sconv_search.search_space.space import Option, SearchSpace
from sconv_search.studies import METHODS, StudyContext
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.space.measuring import measured_space
from sconv_search.studies.spec import SamplerName
from sconv_search.system.malloc import keep_freed_memory

BUDGETS = (70, 50, 35)
OURS = "ours (surrogate, fills the budget)"


def measure(name: str, shared: Path, rows_file: Path, given: argparse.Namespace) -> None:
    """Appends the rows that the file lacks: one a study, with its losses in order."""
    context = NETWORKS[name](shared)
    space = joined(
        [_measured(context, method, rows_file.with_name(f"{name}-{method}-space.json")) for method in given.method]
    )
    objective = Objective(context)
    for budget in given.budget:
        known: dict[str, Any] = {"network": name, "methods": ",".join(given.method), "budget": budget}
        done = {(r["way"], r["seed"]) for r in _rows(rows_file) if known.items() <= r.items()}
        setting = Setting(objective, space, Budgets.parse(f"{budget}%", dense=space.dense))
        for way, seed, result in _studies(setting, given):
            if (way, seed) in done:
                continue
            row = {**known, "way": way, "seed": seed, **_course(result, objective, space)}
            if row["loss"]:
                _append(rows_file, row)
            print(budget, way, seed, min(row["loss"], default="found no plan"), f"{row['seconds'][-1:]} s", flush=True)


def _studies(setting: Setting, given: argparse.Namespace) -> Iterator[tuple[str, int, Found]]:
    """Every way, seed by seed; none has begun yet."""
    for rule, make in RULES.items():
        yield rule, 0, by_rule(setting, make)
    for seed in range(given.seeds):
        ways: dict[str, tuple[Way, SamplerName, int]] = {
            OURS: (filling, "surrogate", given.ours),
            "TPE, fills the budget": (filling, "tpe", given.tpe),
            RANDOM: (filling, "random", given.others),
            "TPE on constrained integers": (integers, "tpe", given.integers),
            "random integers": (integers, "random", given.integers),
        }
        yield from ((name, seed, way(setting, kind, seed, count)) for name, (way, kind, count) in ways.items() if count)


def _measured(context: StudyContext, method: str, cache: Path) -> SearchSpace:
    if not cache.exists():
        cache.write_text(measured_space(context, [method], Monitor()).to_json())
    return SearchSpace.from_json(cache.read_text())


def joined(spaces: Sequence[SearchSpace]) -> SearchSpace:
    """The space in which every layer may choose among the options of all."""
    sites: dict[str, tuple[Option, ...]] = {}
    for space in spaces:
        for name, options in space.sites.items():
            sites[name] = sites.get(name, ()) + options
    return SearchSpace(dense=spaces[0].dense, sites=sites)


def _course(result: Found, objective: Objective, space: SearchSpace) -> dict[str, list[float]]:
    """Losses, accuracies and shares of FLOPs in the order found, and the seconds that it took to come that far.

    The seconds are those of a study on its own: evaluations that another study has already made are charged for.
    """
    began, worked, charged = time.perf_counter(), objective.worked, objective.charged
    course: dict[str, list[float]] = {"loss": [], "top1": [], "flops": [], "seconds": []}
    for plan, loss, top1 in result:
        suggesting = time.perf_counter() - began - (objective.worked - worked)
        values = (loss, top1, space.cost(plan).flops / space.dense.flops, suggesting + objective.charged - charged)
        for column, value in zip(course.values(), values, strict=True):
            column.append(value)
    return course


def _append(path: Path, row: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", choices=NETWORKS, help="measure this one; without it, write table and figure")
    parser.add_argument("--method", action="append", choices=METHODS)
    parser.add_argument("--budget", action="append", type=int, choices=BUDGETS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--ours", type=int, default=40, help="evaluations of the search; of each way, 0 leaves it out")
    parser.add_argument("--tpe", type=int, default=40, help="evaluations of TPE over budget-filling plans")
    parser.add_argument(
        "--others", type=int, default=200, help="evaluations of random search over budget-filling plans"
    )
    parser.add_argument(
        "--integers", type=int, default=40, help="evaluations of the ways that choose one integer a layer"
    )
    parser.add_argument("--data", type=Path, required="--network" in sys.argv, help="folder with weights/, cifar10/")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", type=Path, default=Path("benchmarks/results/search_quality.jsonl"))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    keep_freed_memory()
    if given.network:
        given.method, given.budget = given.method or ["structured_conv"], given.budget or BUDGETS
        measure(given.network, given.data, given.rows, given)
        return
    rows = _rows(given.rows)
    publish(f"# The search against rules and random search\n\n{facts(['fp32'], 1)}\n{report(rows)}\n", given.out)
    if given.out:
        draw(rows, given.out.with_suffix(".svg"))


if __name__ == "__main__":
    main()
