"""Carries cells out: plan, fit, reconstruction, training; each can be interrupted and goes on where it was."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.accuracy.claims.cells import BATCH, METHODS, TASK, Cell, plan_of
from benchmarks.accuracy.post_training import Case, layer_space
from sconv_search.calibration.reconstruction import Reconstruction, reconstruct
from sconv_search.cost.counting import measure_cost
from sconv_search.plan import CompressionPlan
from sconv_search.search_space.space import SearchSpace
from sconv_search.studies import context_from_task
from sconv_search.studies.context import StudyContext
from sconv_search.studies.methods import compress
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.runs.rebuild import rebuild, save_compressed
from sconv_search.studies.tasks import task_named
from sconv_search.studies.trials.checkpoints import TrialCheckpoints
from sconv_search.studies.trials.trial import run_trial
from sconv_search.training.checkpoint import Checkpoint
from sconv_search.training.evaluation import evaluate
from sconv_search.training.loop import train_
from sconv_search.training.schedule import Schedule

FITTED, RECONSTRUCTED, STEPS = 1024, 2048, 400
"""Images that layers are fitted to, images that blocks are trained on, and steps of each block."""
Row = dict[str, Any]


class ProcessorTime:
    """Seconds that the processor worked on a training, also in processes before this one that were interrupted."""

    def __init__(self) -> None:
        self._began = time.process_time()

    def state(self) -> Any:
        """Seconds so far."""
        return time.process_time() - self._began

    def resume_(self, state: Any) -> None:
        """Goes on from an earlier process's seconds."""
        self._began = time.process_time() - float(state)


def read_rows(path: Path) -> list[Row]:
    """The rows of a file; none where there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def append(path: Path, row: Mapping[str, Any]) -> None:
    """Adds a row to a file."""
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")
    print(row, flush=True)


def schedule_of(cell: Cell) -> Schedule:
    """Distillation from the dense network by the squared error of logits, for every kind alike."""
    return Schedule(
        epochs=cell.epochs,
        batch_size=BATCH,
        learning_rate=cell.rate,
        distillation=1.0,
        teacher_loss="logits",
        compiled="never",
        penalty_curve="constant" if cell.constant else "rising",
    )


@dataclass(frozen=True)
class Study:
    """The cells of one data folder.

    Args:
        data: with weights/cifar10_resnet20.safetensors and CIFAR-10.
        work: where search space, start networks and checkpoints are kept.
        rows: file that results are appended to.
    """

    data: Path
    work: Path
    rows: Path

    @cached_property
    def start(self) -> StudyContext:
        """The dense network, and data whose halves of the test set are validation and test."""
        weights = self.data / "weights" / "cifar10_resnet20.safetensors"
        context = context_from_task(
            task_named(TASK),
            data=self.data,
            weights=weights,
            cache=self.work,
            device=torch.device("cpu"),
            monitor=Monitor(),
        )
        return replace(context, data=replace(context.data, calibration_images=FITTED))

    def space(self, method: str) -> SearchSpace:
        """The method's options with the relative errors of their layers' outputs as damages, measured once."""
        path = self.work / f"space-{method}.json"
        if not path.exists():
            path.write_text(layer_space(Case(name="resnet20", context=self.start), method).to_json())
        return SearchSpace.from_json(path.read_text())

    def run(self, cell: Cell) -> None:
        """Appends the cell's row, unless it is there."""
        if any(row["step"] == "trained" and cell.key().items() <= row.items() for row in read_rows(self.rows)):
            return
        print(cell.name, flush=True)
        append(self.rows, self._regularized(cell) if cell.weight is not None else self._trained(cell))

    def scores(self, network: nn.Module) -> Row:
        """Top-1 in percent of the validation and of the test images."""
        data = self.start.data
        return {
            "validation": evaluate(network, data, data.validation).value,
            "test": evaluate(network, data, data.test).value,
        }

    def images(self, count: int) -> Tensor:
        """The first training images, normalized (N, 3, 32, 32)."""
        inputs: Tensor = self.start.data.normalized(self.start.data.train.take(torch.arange(count)).images)
        return inputs

    def start_network(self, kind: str, budget: int) -> tuple[nn.Module, CompressionPlan]:
        """The network of a kind with layers fitted in sequence and blocks reconstructed; made once, with its rows."""
        folder = self.work / "starts" / f"{kind}-{budget}"
        if not (folder / "plan.json").exists():
            spaces = [self.space(method) for method in METHODS.get(kind, ())]
            plan = plan_of(kind, budget, self.start.network, spaces)
            known: Row = {"kind": kind, "budget": budget, "plan": plan.to_json()}
            if not plan.sites:
                append(self.rows, {"step": "dense", **known, "flops": 1.0, **self.scores(self.start.network)})
                save_compressed(self.start.network, plan, folder)
                return self.start.network, plan
            began = time.process_time()
            fitted = compress(self.start.network, plan, self.images(FITTED))
            seconds = time.process_time() - began
            dense = measure_cost(self.start.network, self.start.task.input_shape)
            known["flops"] = measure_cost(fitted, self.start.task.input_shape).flops / dense.flops
            append(self.rows, {"step": "fitted", **known, "images": FITTED, "cpu_s": seconds, **self.scores(fitted)})
            began = time.process_time()
            reconstructed = reconstruct(
                fitted, self.start.network, self.images(RECONSTRUCTED), Reconstruction(steps=STEPS)
            )
            seconds += time.process_time() - began
            row = {
                "step": "reconstructed",
                **known,
                "images": RECONSTRUCTED,
                "cpu_s": seconds,
                **self.scores(reconstructed),
            }
            append(self.rows, row)
            save_compressed(reconstructed, plan, folder)
        network = rebuild(self.start.network, folder, self.start.task.input_shape)
        return network, CompressionPlan.from_json((folder / "plan.json").read_text())

    def _trained(self, cell: Cell) -> Row:
        network, plan = self.start_network(cell.kind, cell.budget)
        if not cell.reconstructed:
            network = compress(self.start.network, plan, self.images(FITTED))
        spent = ProcessorTime()
        path = self.work / "checkpoints" / f"{cell.name}.safetensors"
        path.parent.mkdir(exist_ok=True)
        checkpoint = Checkpoint(path=path, identity=cell.key(), say=print, watched=spent)
        schedule = schedule_of(cell)
        train_(network, self.start.data, schedule, seed=cell.seed, teacher=self.start.network, checkpoint=checkpoint)
        row = {"step": "trained", **cell.key(), "cpu_s": spent.state(), "wall_s": checkpoint.stopwatch.seconds}
        checkpoint.remove()
        return {**row, **self.scores(network)}

    def _regularized(self, cell: Cell) -> Row:
        """Half of the epochs towards the structure by a weight that rises, then decomposed, and the other half."""
        _, plan = self.start_network(cell.kind, cell.budget)
        kept = TrialCheckpoints(folder=self.work / "checkpoints" / cell.name, identity=cell.key())
        outcome = run_trial(
            self.start,
            plan,
            schedule_of(cell),
            seed=cell.seed,
            regularization=cell.weight,
            regularized_share=0.5,
            monitor=Monitor(),
            watch_compression=True,
            checkpoints=kept,
        )
        return {
            "step": "trained",
            **cell.key(),
            "wall_s": kept.stopwatch.seconds,
            "residual": outcome.residual,
            "before": outcome.before and outcome.before.value,
            "after": outcome.after and outcome.after.value,
            **self.scores(outcome.network),
        }
