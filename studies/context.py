"""Where a study starts: the trained dense network and the data, the same for every method of a comparison."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from sconv_search.channels.groups import takes
from sconv_search.cost.counting import example_input, require_forward
from sconv_search.data.splits import DataSet, Images
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.task import Task
from sconv_search.system.memory_format import channels_last_
from sconv_search.system.weights import file_checksum, load_weights_, save_weights
from sconv_search.training.checkpoint import Checkpoint
from sconv_search.training.evaluation import Score, evaluate
from sconv_search.training.loop import train_
from sconv_search.training.process_group import SINGLE_PROCESS, ProcessGroup
from sconv_search.training.schedule import EVERY_S


@dataclass(frozen=True, kw_only=True)
class StudyContext:
    """A task with its trained dense network and its data, on one device, and how networks are trained and scored.

    Args:
        train: trains a network in place, with the arguments of ``sconv_search.training.loop.train_``.
        score: scores a network on a split, with the arguments of ``sconv_search.training.evaluation.evaluate``.
        processes: those that train each network together.
    """

    task: Task
    network: nn.Module
    data: DataSet
    weights_sha256: str
    data_sha256: str
    train: Callable[..., None] = train_
    score: Callable[[nn.Module, DataSet, Images], Score] = evaluate
    processes: ProcessGroup = SINGLE_PROCESS

    def __post_init__(self) -> None:
        takes(self.network, self.task.input_shape)


def calibration_inputs(start: StudyContext) -> Tensor:
    """The calibration images as the network's input, (N, C, H, W)."""
    return start.data.normalized(start.data.calibration)


def context_from_task(
    task: Task,
    *,
    data: Path | None,
    weights: Path | None,
    cache: Path,
    device: torch.device,
    monitor: Monitor,
    seed: int = 0,
    processes: ProcessGroup = SINGLE_PROCESS,
    checkpoint_s: float = EVERY_S,
) -> StudyContext:
    """Loads the start weights; without any, trains the dense network once and keeps it in the cache folder.

    Args:
        weights: safetensors file of the dense network, taken to have seen all training images.
        cache: folder for dense networks of our own, shared by the runs beside it.
        processes: those that call this together, and train together.
        checkpoint_s: seconds between checkpoints of the dense network's training, which lie beside it meanwhile.

    Raises:
        FileNotFoundError: data or weights are missing.
        ValueError: the task needs weights and has none, they do not fit the network, its forward fails on the task's
            input shape, or network, images and labels do not fit each other.
    """
    require_data(task, data, weights)
    torch.manual_seed(seed)  # the network's initial weights; module constructors take no generator
    network = task.network().eval()
    require_forward(network, task.input_shape)
    if weights is not None:
        load_weights_(network, weights)
    with monitor.bar("reading the data"):
        found = task.data(data, weights is not None)
    require_fit(task, network, found)
    checksum = found.checksum()
    path = weights or cache / f"{task.name.replace('/', '-')}-seed{seed}.safetensors"
    if processes.broadcast(weights is None and not path.exists()):
        monitor.say(f"training the dense network of task {task.name} (kept in {path})")
        identity = {"task": task.name, "data": checksum}
        checkpoint = Checkpoint(
            path=path.with_suffix(".checkpoint"), identity=identity, every_s=checkpoint_s, say=monitor.say
        )
        _train_dense_(network.to(device), found.to(device), task, seed, path, checkpoint, monitor, processes)
    load_weights_(network, path)
    placed = channels_last_(network.to(device)).eval()
    return StudyContext(
        task=task,
        network=placed,
        data=found.to(device),
        weights_sha256=file_checksum(path),
        data_sha256=checksum,
        score=partial(evaluate, metric=task.metric),
        processes=processes,
    )


def _train_dense_(
    network: nn.Module,
    data: DataSet,
    task: Task,
    seed: int,
    path: Path,
    checkpoint: Checkpoint,
    monitor: Monitor,
    processes: ProcessGroup,
) -> None:
    """Trains the dense network and writes its weights, before any process goes on."""
    with monitor.bar("dense network") as step:
        train_(network, data, task.dense_schedule, seed=seed, progress=step, checkpoint=checkpoint, processes=processes)
    if processes.is_main:
        save_weights(network, path)
        checkpoint.remove()
    processes.broadcast(None)


def require_data(task: Task, data: Path | None, weights: Path | None) -> None:
    """Refuses, before any work, a task whose files are missing, or that trains no dense network and is given no
    weights.

    Raises:
        FileNotFoundError: data is missing; the expected layout is given.
        ValueError: weights are missing.
    """
    if weights is None and not task.dense_schedule.epochs:
        raise ValueError(
            f"task {task.name!r} trains no dense network; give trained weights with --weights FILE.safetensors"
        )
    if task.layout is not None and not task.layout.downloads:
        task.layout.root(data)


def require_fit(task: Task, network: nn.Module, data: DataSet) -> None:
    """Refuses images of another shape than the task's, and outputs that are no logits of the data's classes."""
    images, spatial, classes = data.train.shape, data.train.label_shape, data.train.classes
    if images != tuple(task.input_shape):
        raise ValueError(f"task {task.name!r} has input_shape {tuple(task.input_shape)}, its images are {images}")
    with torch.no_grad():
        logits = network(example_input(network, task.input_shape))
    given = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if not isinstance(logits, Tensor) or logits.shape[2:] != spatial or logits.dim() < 2 or logits.shape[1] < classes:
        raise ValueError(
            f"{type(network).__name__} of task {task.name!r} gives {given} for one input; "
            f"the data's {classes} classes need logits of shape {(1, classes, *spatial)}"
        )
