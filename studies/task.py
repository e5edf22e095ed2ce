"""A task as a value: a network, its data, how it is trained and scored, and for how long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from sconv_search.data.layout import Layout
from sconv_search.records import Metric
from sconv_search.training.metrics import TOP1
from sconv_search.training.schedule import Schedule

if TYPE_CHECKING:
    from torch import nn

    from sconv_search.data.splits import DataSet
    from sconv_search.training.evaluation import Score


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is compressed and on what it is scored.

    Args:
        network: builds the untrained dense network, or one whose weights do not matter.
        data: builds the data, a ``DataSet`` or a user's own batches as ``LoaderData``, from (folder or None, whether
            the start weights saw all training images).
        input_shape: shape of one input without the batch, or an example of what the network is called with.
        dense_schedule: trains the dense network where no start weights are given; one of 0 epochs says that they must
            be.
        search_schedule: all phases of one trial together.
        confirm_schedule: all phases of one confirmation together.
        metric: what networks are scored by; a ``LogitMetric`` scores them itself.
        layout: the files that the data builder reads; None where it reads none, or says so itself.
        trained_network: builds the dense network that is trained already, where there is one; it gives None where its
            function turns out to return an untrained one.
        train: trains a network in place, with the arguments of ``sconv_search.training.loop.train_``, which it is
            where none is given.
        score: scores a network on a split, with the arguments of ``sconv_search.training.evaluation.evaluate``, which
            it is where none is given.
    """

    name: str
    network: Callable[[], nn.Module]
    data: Callable[[Path | None, bool], Any]
    input_shape: Any
    dense_schedule: Schedule
    search_schedule: Schedule
    confirm_schedule: Schedule
    metric: Metric = TOP1
    layout: Layout | None = None
    trained_network: Callable[[], nn.Module | None] | None = None
    train: Callable[..., None] | None = None
    score: Callable[..., Score] | None = None

    @property
    def shape(self) -> tuple[int, ...] | str:
        """The shape of one input; of an example that no shape says, its shapes in words."""
        if isinstance(self.input_shape, tuple) and all(isinstance(size, int) for size in self.input_shape):
            return self.input_shape
        from sconv_search.cost.network_inputs import shape_text  # here: it needs torch, which listing tasks does not

        return shape_text(self.input_shape)


@runtime_checkable
class OfTask(Protocol):
    """What stands for a task, as a study does."""

    @property
    def task(self) -> Task:
        """The task."""


@runtime_checkable
class ListedData(Protocol):
    """A task's data in a folder, which can be listed before any work."""

    def expected(self) -> str:
        """Where files are expected, in words."""

    def is_trained(self) -> bool:
        """Whether the task's network comes trained, said without loading its weights where its name tells."""

    def __call__(self, folder: Path | None, train_was_seen: bool) -> DataSet:
        """The splits."""
