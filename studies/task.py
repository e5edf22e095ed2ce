"""A task as a value: a network, its data, how it is scored, and how long it is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sconv_search.data.layout import Layout
from sconv_search.training.metrics import TOP1, LogitMetric
from sconv_search.training.schedule import Schedule

if TYPE_CHECKING:
    from torch import nn

    from sconv_search.data.splits import DataSet


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is compressed and on what it is scored.

    Args:
        network: builds the untrained dense network.
        data: builds the data from (folder or None, whether the start weights saw all training images).
        input_shape: shape of one input without the batch.
        dense_schedule: trains the dense network where no start weights are given; one of 0 epochs says that they must
            be.
        search_schedule: all phases of one trial together.
        confirm_schedule: all phases of one confirmation together.
        metric: what networks are scored by.
        layout: the files that the data builder reads; None where it reads none, or says so itself.
        trained_network: builds the dense network that is trained already, where there is one; it gives None where its
            function turns out to return an untrained one.
    """

    name: str
    network: Callable[[], nn.Module]
    data: Callable[[Path | None, bool], DataSet]
    input_shape: tuple[int, ...]
    dense_schedule: Schedule
    search_schedule: Schedule
    confirm_schedule: Schedule
    metric: LogitMetric = TOP1
    layout: Layout | None = None
    trained_network: Callable[[], nn.Module | None] | None = None
