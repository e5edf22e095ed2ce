"""Where a study starts: the trained dense network and the data, the same for every method of a comparison."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sconv_search.cost.counting import require_forward
from sconv_search.cost.input_shape import takes
from sconv_search.cost.network_inputs import Inputs, is_shape, shape_text
from sconv_search.data.layout import data_folder
from sconv_search.data.loaders.batches import LoaderData
from sconv_search.data.splits import DataSet
from sconv_search.networks.trained import returns_trained
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.task import Task
from sconv_search.system.cache import architecture
from sconv_search.system.content import code_content
from sconv_search.system.identity import lasting_sha256
from sconv_search.system.memory_format import channels_last_
from sconv_search.system.weights import file_checksum, load_weights_, state_checksum
from sconv_search.training.checkpoint import Checkpoint
from sconv_search.training.dense_weights import (
    Identity,
    alone,
    dense_identity,
    dense_path,
    require_trained_on,
    save_dense,
    say_others,
    views_sha256,
)
from sconv_search.training.evaluation import Score, evaluate
from sconv_search.training.input_checks import (
    require_batches,
    require_fit,
    require_sound_network,
    require_training_step,
)
from sconv_search.training.loop import train_
from sconv_search.training.metrics import LogitMetric
from sconv_search.training.process_group import SINGLE_PROCESS, ProcessGroup
from sconv_search.training.schedule import EVERY_S
from sconv_search.training.user_functions import UserFit, UserScore

RECONSTRUCTION_IMAGES, RECONSTRUCTION_PIXELS = 2048, 2**23
"""At most, of CIFAR's images and of larger ones: 167 of 224x224 pixels."""


@dataclass(frozen=True, kw_only=True)
class StudyContext:
    """A task with its trained dense network and its data, on one device, and how networks are trained and scored.

    Args:
        data: a ``DataSet``, or a user's own batches as ``LoaderData``.
        train: trains a network in place, with the arguments of ``sconv_search.training.loop.train_``.
        score: scores a network on a split, with the arguments of ``sconv_search.training.evaluation.evaluate``.
        processes: those that train each network together.
        network_sha256: ``network_sha256`` of the network before its first forward, in which some networks write to
            themselves; empty where it is the network's as it is.
        made_of: checksums of the user's functions and of what a loader's data shows, as ``StudySpec`` has them.
    """

    task: Task
    network: nn.Module
    data: Any
    weights_sha256: str
    data_sha256: str
    train: Callable[..., None] = train_
    score: Callable[[nn.Module, Any, Any], Score] = evaluate
    processes: ProcessGroup = SINGLE_PROCESS
    network_sha256: str = ""
    made_of: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        takes(self.network, self.task.input_shape)

    @cached_property
    def identity(self) -> Identity:
        """All that what is measured and trained from here follows from, as texts that are equal in other processes."""
        return {
            "weights": self.weights_sha256,
            "data": self.data_sha256,
            "views of the data": "" if isinstance(self.data, LoaderData) else views_sha256(self.data),
            "calibration images": "" if isinstance(self.data, LoaderData) else str(self.data.calibration_images),
            "network": self.network_sha256 or network_sha256(self.network),
            "input shape": str(tuple(shape)) if is_shape(shape := self.task.input_shape) else shape_text(shape),
            "version": version("sconv-search"),
        }


def network_sha256(network: nn.Module) -> str:
    """SHA-256 of a network's layers and code, without its weights, equal in other processes."""
    return lasting_sha256(architecture(network))


def calibration_inputs(context: StudyContext) -> Inputs:
    """The calibration inputs as the network is called with them, (N, ...) each."""
    inputs: Inputs = context.data.calibration_inputs()
    return inputs


def reconstruction_inputs(context: StudyContext) -> Inputs:
    """The first training inputs as the network is called with them, as many as memory bears between two blocks."""
    count = min(RECONSTRUCTION_IMAGES, max(1, RECONSTRUCTION_PIXELS // context.data.positions))
    inputs: Inputs = context.data.first_inputs(count)
    return inputs


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
    """Loads the start weights; a network that has none, and comes untrained, is trained once and kept in the cache
    folder.

    Args:
        weights: file of the dense network's weights, as ``load_weights_`` reads it, which saw all training images.
        cache: folder for dense networks of our own, shared by the runs beside it.
        processes: those that call this together, and train together.
        checkpoint_s: seconds between checkpoints of the dense network's training, which lie beside it meanwhile.

    Raises:
        FileNotFoundError: data or weights are missing.
        ValueError: the task needs weights and has none, they do not fit the network, its forward fails on the task's
            input shape, network, images and labels do not fit each other, or the kept dense network is of another
            training.
    """
    require_data(task, data, weights)
    if task.trained_network is None:
        torch.manual_seed(seed)  # the network's initial weights; module constructors take no generator
    trained = None if weights is not None else _trained(task, monitor)
    network = (trained or task.network()).eval()
    require_sound_network(network)
    code = network_sha256(network)
    require_forward(network, task.input_shape)
    for note in load_weights_(network, weights) if weights is not None else ():
        monitor.say(note)
    if weights is None and trained is None:
        require_trainable(task)
    with monitor.bar("reading the data"):
        splits = task.data(data, weights is not None or trained is not None)
        checksum = splits.checksum()
    for note in splits.notes:
        monitor.say(note)
    if isinstance(splits, DataSet):
        require_fit(task.name, task.input_shape, network, splits)
    if weights is not None:
        weights_sha256 = file_checksum(weights)
    elif trained is not None:
        weights_sha256 = state_checksum(network)
    else:
        path = _dense_weights(
            task, network, code, splits, checksum, cache, device, monitor, seed, processes, checkpoint_s
        )
        load_weights_(network, path)
        weights_sha256 = file_checksum(path)
    placed = channels_last_(network.to(device)).eval()
    return StudyContext(
        task=task,
        network=placed,
        data=splits.to(device),
        weights_sha256=weights_sha256,
        data_sha256=checksum,
        train=task.train or train_,
        score=task.score or partial(evaluate, metric=_logit_metric(task)),
        processes=processes,
        network_sha256=code,
        made_of=_made_of(task, splits),
    )


def _made_of(task: Task, data: Any) -> tuple[str, ...]:
    """Checksums by which another loss, score, training or label is told; of what is the user's own alone."""
    parts: dict[str, object] = {}
    if isinstance(data, LoaderData):
        parts |= {"loss": data.loss, "inputs": data.inputs, "targets": data.targets, **data.parts()}
    own = {"train": task.train, "score": task.score}
    fit = {"fit": task.train.fit if isinstance(task.train, UserFit) else None}
    scores = {"score": task.score.validation, "test": task.score.test} if isinstance(task.score, UserScore) else {}
    parts |= {**fit, **scores} if scores else {name: value for name, value in own.items() if value is not None}
    return tuple(f"{name} {lasting_sha256(code_content(value))}" for name, value in parts.items())


def _logit_metric(task: Task) -> LogitMetric:
    if not isinstance(task.metric, LogitMetric):
        raise TypeError(f"task {task.name!r} has the metric {task.metric.name!r}, which needs a score of its own")
    return task.metric


def _trained(task: Task, monitor: Monitor) -> nn.Module | None:
    """The task's network where it comes trained, by its name or from its function; None where it does not."""
    if task.trained_network is not None:
        network = task.trained_network()
    else:
        network = task.network() if returns_trained(task.network) else None
    if network is not None:
        monitor.say(
            f"the network of task {task.name} is trained already: it is not trained again, and all training images"
            " count as seen by it"
        )
    return network


def _dense_weights(
    task: Task,
    network: nn.Module,
    code: str,
    data: DataSet,
    data_sha256: str,
    cache: Path,
    device: torch.device,
    monitor: Monitor,
    seed: int,
    processes: ProcessGroup,
    checkpoint_s: float,
) -> Path:
    """The file of the dense network's weights, which is trained now where there is none of this very training."""
    identity = dense_identity(task.name, code, task.dense_schedule, data, data_sha256, seed)
    path = dense_path(cache, identity)
    if processes.broadcast(not path.exists()):
        with alone(path, monitor.say) if processes.is_main else nullcontext():
            if processes.broadcast(not path.exists()):  # another command may have trained it meanwhile
                say_others(cache, identity, monitor.say)
                _train_dense_(
                    network.to(device), data.to(device), task, seed, path, identity, monitor, processes, checkpoint_s
                )
            processes.broadcast(None)
    require_trained_on(path, identity)
    return path


def _train_dense_(
    network: nn.Module,
    data: DataSet,
    task: Task,
    seed: int,
    path: Path,
    identity: Identity,
    monitor: Monitor,
    processes: ProcessGroup,
    checkpoint_s: float,
) -> None:
    """Trains the dense network and writes its weights."""
    require_batches(data, {"dense network": task.dense_schedule})
    require_training_step(network, data, task.dense_schedule)
    monitor.say(f"training the dense network of task {task.name} (kept in {path})")
    checkpoint = Checkpoint(
        path=path.with_suffix(".checkpoint"), identity=identity, every_s=checkpoint_s, say=monitor.say
    )
    with monitor.bar("dense network") as step:
        train_(network, data, task.dense_schedule, seed=seed, progress=step, checkpoint=checkpoint, processes=processes)
    if processes.is_main:
        save_dense(network, path, identity)
        checkpoint.remove()


def require_data(task: Task, data: Path | None, weights: Path | None) -> None:
    """Refuses, before any work, a task whose files are missing, or that trains no dense network and is given no
    weights.

    Raises:
        FileNotFoundError: data is missing; the expected layout is given.
        ValueError: weights are missing.
    """
    if weights is None and task.trained_network is None:
        require_trainable(task)
    if task.layout is not None:
        data_folder(data) if task.layout.downloads else task.layout.root(data)


def require_trainable(task: Task) -> None:
    """Refuses a task that trains no dense network, where none is given.

    Raises:
        ValueError: how to give one.
    """
    if not task.dense_schedule.epochs:
        raise ValueError(
            f"task {task.name!r} trains no dense network; give trained weights with --weights FILE, or a network that"
            " has its weights by name, such as --network torchvision:resnet18@DEFAULT"
        )
