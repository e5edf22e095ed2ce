"""Whether plans rank fitted or reconstructed as they do trained: ResNet-20, random plans within one budget.

``run`` appends a row for each plan and stage, and goes on where it was; ``table`` makes the page.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from benchmarks.accuracy.claims.cells import LONG_RATE, METHODS, MIXED, RATES, Cell, merged
from benchmarks.accuracy.claims.running import FITTED, Row, Study, append, read_rows, schedule_of, start_context
from benchmarks.timing import facts, markdown_table, publish
from sconv_search.budget import Budgets
from sconv_search.calibration.reconstruction import Reconstruction, reconstruct
from sconv_search.plan import CompressionPlan
from sconv_search.reports.analysis.statistics import spearman
from sconv_search.search_space.decoder import fill
from sconv_search.search_space.space import SearchSpace
from sconv_search.studies.methods import compress
from sconv_search.training.loop import train_

PLANS, BUDGET, SPREAD = 12, 45, 1.0
"""Plans that are compared, their percent of the dense FLOPs, and standard deviation of the preferences that a plan is
drawn by."""
IMAGES, STEPS = 512, 50
"""Images that blocks are trained on, and steps of each block: what a trial can afford."""
DAMAGE, FITTED_ONLY, RECONSTRUCTED, TRAINED = "predicted damage", "fitted", "reconstructed", "trained"


def random_plans(space: SearchSpace, count: int) -> Iterator[CompressionPlan]:
    """Different plans that fill the budget, each by random preferences of its own."""
    budget, seen = Budgets.parse(f"{BUDGET}%", dense=space.dense).at(1.0), set[str]()
    for seed in itertools.count():
        draws = np.random.default_rng(seed).normal(0.0, SPREAD, len(space.sites))
        plan = fill(space, dict(zip(space.sites, draws.tolist(), strict=True)), budget)
        if plan.to_json() not in seen:
            seen.add(plan.to_json())
            yield plan
        if len(seen) == count:
            return


def predicted_damage(space: SearchSpace, plan: CompressionPlan) -> float:
    """The sum of the damages of a plan's options."""
    return sum(space.option(name, choice).damage for name, choice in plan.sites.items())


def run(study: Study, path: Path, epochs: Sequence[float], count: int) -> None:
    """Appends what the rows lack, plan by plan."""
    space = merged([study.space(method) for method in METHODS[MIXED]])
    for number, plan in enumerate(random_plans(space, count)):
        known = {(row["stage"], row["epochs"]) for row in read_rows(path) if row["plan"] == plan.to_json()}
        for stage, spent in [(FITTED_ONLY, 0.0), (RECONSTRUCTED, 0.0), *((TRAINED, wanted) for wanted in epochs)]:
            if (stage, spent) not in known:
                key = {"number": number, "stage": stage, "epochs": spent, "damage": predicted_damage(space, plan)}
                began = time.process_time()
                network = made(study, plan, stage, spent)
                seconds = time.process_time() - began
                append(path, {**key, "cpu_s": seconds, **study.scores(network), "plan": plan.to_json()})


def made(study: Study, plan: CompressionPlan, stage: str, epochs: float) -> nn.Module:
    """The network of a plan, as far as a stage makes it; each begins with layers fitted in sequence."""
    network: nn.Module = compress(study.context.network, plan, study.images(FITTED))
    if stage == RECONSTRUCTED:
        return reconstruct(network, study.context.network, study.images(IMAGES), Reconstruction(steps=STEPS))
    if stage == TRAINED:
        cell = Cell(kind=MIXED, budget=BUDGET, epochs=epochs, rate=RATES.get(epochs, LONG_RATE))
        train_(network, study.context.data, schedule_of(cell), seed=0, teacher=study.context.network)
    return network


def table(rows: Sequence[Row]) -> str:
    """The page: rank correlations of all pairs of stages over the plans that both have, and the scores."""
    scores: dict[str, dict[int, float]] = {DAMAGE: {row["number"]: -row["damage"] for row in rows}}
    seconds: dict[str, list[float]] = {}
    for row in sorted(rows, key=lambda row: (row["stage"] == TRAINED, row["stage"], row["epochs"])):
        name = f"{row['epochs']:g} {'epoch' if row['epochs'] == 1 else 'epochs'}" if row["epochs"] else row["stage"]
        scores.setdefault(name, {})[row["number"]] = (row["validation"] + row["test"]) / 2
        seconds.setdefault(name, []).append(row["cpu_s"])
    frame, names = pd.DataFrame(scores).sort_index(), list(scores)
    stages = names[1:]
    pairs = [
        (first, second, f"{spearman(frame[first], frame[second]):.2f}", str(len(frame[[first, second]].dropna())))
        for index, first in enumerate(names)
        for second in names[index + 1 :]
    ]
    plans = [
        (str(number), f"{-row[DAMAGE]:.3f}", *(f"{row[stage]:.2f}" if pd.notna(row[stage]) else "" for stage in stages))
        for number, row in frame.iterrows()
    ]
    spreads = [
        (
            stage,
            f"{frame[stage].min():.2f} to {frame[stage].max():.2f}",
            f"{frame[stage].std():.2f}",
            f"{statistics.median(seconds[stage]):.0f}",
        )
        for stage in stages
    ]
    provenance = facts(["bf16"], 1).rpartition("\n")[0]  # without its last line, on timing
    return "\n\n".join(
        [
            "# Whether plans rank before training as they do after",
            provenance,
            f"{len(frame)} plans of structured convolutions and spatial SVD for the pretrained ResNet-20, each drawn by"
            f" random preferences (standard deviation {SPREAD}) and filling {BUDGET} % of the dense FLOPs. Each stage"
            f" begins with layers fitted in sequence to {FITTED:,} images. *Reconstructed*: {STEPS} steps of each block"
            f" on {IMAGES} images. Epochs: all training images, the squared error of logits, no labels (peak rate"
            f" {RATES[1]} for one epoch, {LONG_RATE} for more). Scores are top-1 in percent of the 10,000 test images,"
            " whose standard error is 0.3 points. Spearman's rank correlation; of predicted damage, less is better.",
            markdown_table(("one stage", "another", "rank correlation", "plans"), pairs),
            markdown_table(("stage", "scores", "standard deviation", "processor seconds, median"), spreads),
            markdown_table(("plan", DAMAGE, *stages), plans),
        ]
    )


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--data", type=Path, help="folder with weights/ and cifar10/")
    parser.add_argument("--work", type=Path, help="folder for the search spaces")
    parser.add_argument("--rows", type=Path, default=Path("benchmarks/results/rank_correlation.jsonl"))
    parser.add_argument("--epochs", type=float, nargs="*", default=[1.0], help="trainings that each plan is given")
    parser.add_argument("--plans", type=int, default=PLANS)
    parser.add_argument("--out", type=Path, help="Markdown file for the page")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.what == "table":
        publish(table(read_rows(arguments.rows)), arguments.out)
    elif arguments.data is None or arguments.work is None:
        parser.error("run needs --data and --work")
    else:
        study = Study(context=start_context(arguments.data, arguments.work), work=arguments.work)
        run(study, arguments.rows, arguments.epochs, arguments.plans)


if __name__ == "__main__":
    main()
