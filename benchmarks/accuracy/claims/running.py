"""Carries cells out: plan, fit, reconstruction, training; each can be interrupted and goes on where it was."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from benchmarks.accuracy.claims.cells import BATCH, METHODS, TASK, Cell, plan_of
from benchmarks.accuracy.post_training import Case, layer_space
from sconv_search.calibration.reconstruction import Reconstruction, reconstruct
from sconv_search.cost.counting import measure_cost
from sconv_search.plan import CompressionPlan
from sconv_search.search_space.space import SearchSpace
from sconv_search.studies import context_from_task
from sconv_search.studies.context import StudyContext
from sconv_search.studies.executors.placement import HERE, Placement
from sconv_search.studies.executors.running import results
from sconv_search.studies.methods import compress
from sconv_search.studies.monitor import Monitor, RichMonitor
from sconv_search.studies.runs.rebuild import rebuild, save_compressed
from sconv_search.studies.tasks import task_named
from sconv_search.studies.trials.checkpoints import TrialCheckpoints
from sconv_search.studies.trials.trial import run_trial
from sconv_search.system.files import atomic_write
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
class Start:
    """The network that cells of a kind and budget begin from."""

    kind: str
    budget: int

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"start of {self.kind}, {self.budget} %"


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a job gave: rows, or why there are none."""

    rows: tuple[Row, ...] = ()
    lost: str | None = None


def start_context(data: Path, work: Path) -> StudyContext:
    """The dense network, and data whose halves of the test set are validation and test.

    Args:
        data: folder with weights/cifar10_resnet20.safetensors and CIFAR-10.
        work: where a search space is kept.
    """
    weights = data / "weights" / "cifar10_resnet20.safetensors"
    context = context_from_task(
        task_named(TASK), data=data, weights=weights, cache=work, device=torch.device("cpu"), monitor=Monitor()
    )
    return replace(context, data=replace(context.data, calibration_images=FITTED))


@dataclass(frozen=True, kw_only=True)
class Study:
    """Makes the rows of starts and cells: here, or where an executor has it run them.

    Args:
        context: the dense network and the data.
        work: where search spaces, start networks and checkpoints are kept; all nodes of a cluster see it.
        steps: of each reconstructed block.
    """

    context: StudyContext
    work: Path
    steps: int = STEPS

    def evaluate(self, job: Start | Cell, monitor: Monitor, /) -> Made:
        """The rows of a start, or that of a cell."""
        if isinstance(job, Start):
            self.start_network(job.kind, job.budget)
            return Made(rows=tuple(read_rows(self._start_folder(job.kind, job.budget) / "rows.jsonl")))
        return Made(rows=(self._regularized(job) if job.weight is not None else self._trained(job, monitor),))

    def failure(self, job: Start | Cell, reason: str, /) -> Made:
        """Of a job that could not be run."""
        return Made(lost=f"{job.title}: {reason}")

    def space(self, method: str) -> SearchSpace:
        """The method's options with the relative errors of their layers' outputs as damages, measured once."""
        path = self.work / f"space-{method}.json"
        if not path.exists():
            space = layer_space(Case(name="resnet20", context=self.context), method)
            with atomic_write(path) as unfinished:
                unfinished.write_text(space.to_json())
        return SearchSpace.from_json(path.read_text())

    def scores(self, network: nn.Module) -> Row:
        """Top-1 in percent of the validation and of the test images."""
        data = self.context.data
        return {
            "validation": evaluate(network, data, data.validation).value,
            "test": evaluate(network, data, data.test).value,
        }

    def images(self, count: int) -> Tensor:
        """The first training images, all where there are fewer, normalized (N, C, H, W)."""
        data = self.context.data
        inputs: Tensor = data.normalized(data.train.take(torch.arange(min(count, len(data.train)))).images)
        return inputs

    def start_network(self, kind: str, budget: int) -> tuple[nn.Module, CompressionPlan]:
        """The network of a kind with layers fitted in sequence and blocks reconstructed, and its plan.

        Made once; its rows lie beside it.
        """
        folder = self._start_folder(kind, budget)
        if not (folder / "plan.json").exists():
            plan = plan_of(kind, budget, self.context.network, [self.space(method) for method in METHODS.get(kind, ())])
            self._make_start(kind, budget, plan)
        network = rebuild(self.context.network, folder, self.context.task.input_shape)
        return network, CompressionPlan.from_json((folder / "plan.json").read_text())

    def _start_folder(self, kind: str, budget: int) -> Path:
        return self.work / "starts" / f"{kind}-{budget}"

    def start_rows(self, kind: str, budget: int, plan: CompressionPlan) -> list[Row]:
        """The rows of a start of this plan, made once."""
        folder = self._start_folder(kind, budget)
        if not (folder / "plan.json").exists():
            self._make_start(kind, budget, plan)
        return read_rows(folder / "rows.jsonl")

    def _make_start(self, kind: str, budget: int, plan: CompressionPlan) -> None:
        dense, folder = self.context.network, self._start_folder(kind, budget)
        known: Row = {"kind": kind, "budget": budget, "plan": plan.to_json()}
        network = dense
        rows: list[Row] = [{"step": "dense", **known, "flops": 1.0, **self.scores(dense)}]
        if plan.sites:
            began = time.process_time()
            fitted = compress(dense, plan, self.images(FITTED))
            seconds = time.process_time() - began
            flops = [measure_cost(one, self.context.task.input_shape).flops for one in (fitted, dense)]
            known["flops"] = flops[0] / flops[1]
            rows = [{"step": "fitted", **known, "images": FITTED, "cpu_s": seconds, **self.scores(fitted)}]
            began = time.process_time()
            network = reconstruct(fitted, dense, self.images(RECONSTRUCTED), Reconstruction(steps=self.steps))
            seconds += time.process_time() - began
            spent: Row = {"images": RECONSTRUCTED, "cpu_s": seconds}
            rows.append({"step": "reconstructed", **known, **spent, **self.scores(network)})
        with atomic_write(folder / "rows.jsonl") as unfinished:
            unfinished.write_text("".join(json.dumps(row) + "\n" for row in rows))
        save_compressed(network, plan, folder)

    def _trained(self, cell: Cell, monitor: Monitor) -> Row:
        network, plan = self.start_network(cell.kind, cell.budget)
        if not cell.reconstructed:
            network = compress(self.context.network, plan, self.images(FITTED))
        spent = ProcessorTime()
        path = self.work / "checkpoints" / f"{cell.name}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        checkpoint = Checkpoint(path=path, identity=cell.key(), say=monitor.say, watched=spent)
        schedule = schedule_of(cell)
        train_(
            network, self.context.data, schedule, seed=cell.seed, teacher=self.context.network, checkpoint=checkpoint
        )
        row = {"step": "trained", **cell.key(), "cpu_s": spent.state(), "wall_s": checkpoint.stopwatch.seconds}
        checkpoint.remove()
        return {**row, **self.scores(network)}

    def _regularized(self, cell: Cell) -> Row:
        """Half of the epochs towards the structure by a weight that rises, then decomposed, and the other half."""
        _, plan = self.start_network(cell.kind, cell.budget)
        kept = TrialCheckpoints(folder=self.work / "checkpoints" / cell.name, identity=cell.key())
        outcome = run_trial(
            self.context,
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


def fit_again(study: Study, path: Path) -> None:
    """Replaces the rows of all starts by those that the same plans give now, where fitting has changed since.

    Args:
        study: its folder holds none of these starts but such as an interrupted call left.
    """
    for row in [row for row in read_rows(path) if row["step"] == "fitted"]:
        made = study.start_rows(row["kind"], row["budget"], CompressionPlan.from_json(row["plan"]))
        by_step = {(new["step"], new["kind"], new["budget"]): new for new in made}
        rows = [by_step.get((old["step"], old["kind"], old["budget"]), old) for old in read_rows(path)]
        with atomic_write(path) as unfinished:
            unfinished.write_text("".join(json.dumps(one) + "\n" for one in rows))
        print(*made, sep="\n", flush=True)


def run(study: Study, cells: Sequence[Cell], path: Path, placement: Placement = HERE) -> list[str]:
    """Appends the rows of all cells that the file lacks, and of their starts; tells which jobs failed.

    In this process a start is made just before its first cell. Elsewhere cells run at the same time, so that all starts
    are made before them.
    """
    known = read_rows(path)
    missing = [
        cell
        for cell in cells
        if not any(row["step"] == "trained" and cell.key().items() <= row.items() for row in known)
    ]
    starts = list(dict.fromkeys(Start(cell.kind, cell.budget) for cell in missing))
    in_turn = list(dict.fromkeys(job for cell in missing for job in (Start(cell.kind, cell.budget), cell)))
    rounds: list[list[Start | Cell]] = [in_turn] if placement == HERE else [[*starts], [*missing]]
    lost, monitor = [], RichMonitor(Console())
    with placement.executor(study, monitor) as executor:
        for jobs in rounds:
            for _, made in results(jobs, executor, lambda done, total: monitor.say(f"{done} of {total} jobs are done")):
                for row in made.rows:
                    if row not in known:
                        append(path, row)
                if made.lost is not None:
                    monitor.say(made.lost)
                    lost.append(made.lost)
    return lost
