"""Searches from Python: a trained network and its data in place of a named task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sconv_search.copying import copied
from sconv_search.cost.counting import require_forward
from sconv_search.data.splits import DataSet, Images
from sconv_search.records import Quantity, TrialRecord
from sconv_search.studies.context import StudyContext
from sconv_search.studies.executors.placement import Placement
from sconv_search.studies.executors.ray_cluster import Cluster
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.runs.folder import RunFolder
from sconv_search.studies.search.loop import StoppingCriterion
from sconv_search.studies.search.runner import search
from sconv_search.studies.spec import StudySpec
from sconv_search.studies.task import Task
from sconv_search.system.memory_format import channels_last_
from sconv_search.system.weights import state_checksum
from sconv_search.training.evaluation import Score, evaluate
from sconv_search.training.input_checks import require_fit, require_sound_network
from sconv_search.training.loop import train_
from sconv_search.training.schedule import Schedule

SHORT, FULL = (
    Schedule(epochs=epochs, learning_rate=rate, distillation=1.0, teacher_loss="logits")
    for epochs, rate in ((1, 0.01), (10, 0.02))
)
"""A trained network is given, so its logits are learned."""


def context_from_network(
    network: nn.Module,
    data: DataSet,
    *,
    name: str = "mine",
    train: Callable[..., None] = train_,
    score: Callable[[nn.Module, DataSet, Images], Score] = evaluate,
    search_schedule: Schedule | None = None,
    confirm_schedule: Schedule | None = None,
) -> StudyContext:
    """The start of studies of a trained network, for ``search`` and ``confirm``; the network is copied.

    Args:
        data: its validation split steers the search, so the network must not have been trained on it.
        name: the task's name in records and reports.
        train: trains a network in place, with the arguments of ``sconv_search.training.loop.train_``.
        score: scores a network on a split, with the arguments of ``sconv_search.training.evaluation.evaluate``; more is
            better.
        search_schedule: of trials. By default compressed networks learn the given one's logits; labels are learned with
            ``Schedule(distillation=0, ...)``, and what a ``train`` of one's own makes of its arguments.
        confirm_schedule: of confirmations, likewise.

    Raises:
        ValueError: the network's weights are not finite or not in float32, its forward fails on the images' shape, or
            gives no logits of the classes of all splits.
    """
    shape = data.train.shape
    search_schedule, confirm_schedule = (
        given or (default if train is train_ else replace(default, distillation=0.0))
        for given, default in ((search_schedule, SHORT), (confirm_schedule, FULL))
    )
    task = Task(
        name=name,
        network=lambda: copied(network),
        data=lambda folder, seen: data,
        input_shape=shape,
        dense_schedule=confirm_schedule,
        search_schedule=search_schedule,
        confirm_schedule=confirm_schedule,
    )
    weight = next(network.parameters(), torch.zeros(()))
    require_sound_network(network)
    placed = copied(network).eval()
    require_forward(placed, shape)
    require_fit(name, shape, placed, data)
    return StudyContext(
        task=task,
        network=channels_last_(placed),
        data=data.to(weight.device),
        weights_sha256=state_checksum(placed),
        data_sha256=data.checksum(),
        train=train,
        score=score,
    )


def search_network(
    network: nn.Module,
    data: DataSet,
    out: str | Path,
    *,
    budget: str = "50%",
    quantity: Quantity = "flops",
    methods: Sequence[str] = ("structured_conv",),
    trials: int = 20,
    workers: int = 1,
    cluster: Cluster | None = None,
    stops: StoppingCriterion | None = None,
    monitor: Monitor | None = None,
    start: dict[str, Any] | None = None,
    **study: Any,
) -> list[TrialRecord]:
    """All records of a search, as ``sconv-search search`` makes it; the same call continues an interrupted one.

    Args:
        out: the run's folder.
        workers, cluster: where trials run, as for ``Placement``.
        start: further arguments of ``context_from_network``.
        study: further arguments of ``StudySpec``, such as ``sampler`` or ``screening``.

    Raises:
        KeyError: as ``search``.
        ValueError: as ``context_from_network``, ``StudySpec`` and ``search``.
        RuntimeError: as ``search``.
    """
    begun = context_from_network(network, data, **(start or {}))
    spec = StudySpec(
        task=begun.task.name,
        methods=tuple(methods),
        budget=budget,
        quantity=quantity,
        trials=trials,
        search_schedule=begun.task.search_schedule,
        confirm_schedule=begun.task.confirm_schedule,
        **study,
    )
    placement = Placement(workers=workers, cluster=cluster)
    return search(begun, spec, RunFolder(out), monitor, placement=placement, stops=stops)
