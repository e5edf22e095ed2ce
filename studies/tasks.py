"""Named tasks: a network, its data, and how long it is trained. A task is a value; a user's own is one more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from torch import nn

from sconv_search.data import DataSet, cifar10, embedded_digits
from sconv_search.networks import cifar_resnet, digits_network
from sconv_search.training import Schedule
from studies.lookup import named
from studies.user_network import made_by


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is compressed and on what it is scored.

    Args:
        network: builds the untrained dense network.
        data: builds the data from (folder or None, whether the start weights saw all training images).
        input_shape: shape of one input without the batch.
        dense_schedule: trains the dense network where no start weights are given.
        search_schedule: all phases of one trial together.
        confirm_schedule: all phases of one confirmation together.
    """

    name: str
    network: Callable[[], nn.Module]
    data: Callable[[Path | None, bool], DataSet]
    input_shape: tuple[int, ...]
    dense_schedule: Schedule
    search_schedule: Schedule
    confirm_schedule: Schedule


def _digits(folder: Path | None, train_was_seen: bool) -> DataSet:
    """The embedded digits need no folder; weights from elsewhere may have seen any of MNIST, so they are refused."""
    if train_was_seen:
        raise ValueError("task 'demo' trains its own dense network; start weights from elsewhere cannot be given")
    return embedded_digits()


def _cifar10(folder: Path | None, train_was_seen: bool) -> DataSet:
    return cifar10(folder, train_was_seen=train_was_seen)


def demo() -> Task:
    """A small network on the digits that are embedded: everything runs in minutes on two cores, without a download."""
    short = Schedule(epochs=1, batch_size=64, learning_rate=0.05)
    return Task(
        name="demo", network=digits_network, data=_digits, input_shape=(1, 28, 28),
        dense_schedule=Schedule(epochs=8, batch_size=64, learning_rate=0.1), search_schedule=short,
        confirm_schedule=Schedule(epochs=2, batch_size=64, learning_rate=0.05),
    )  # fmt: skip


def cifar10_resnet(depth: int) -> Task:
    """A CIFAR ResNet on CIFAR-10; compressed networks learn at a tenth of the rate that trains from nothing."""
    return Task(
        name=f"cifar10/resnet{depth}", network=partial(cifar_resnet, depth), data=_cifar10, input_shape=(3, 32, 32),
        dense_schedule=Schedule(epochs=60, learning_rate=0.2), search_schedule=Schedule(epochs=1, learning_rate=0.01),
        confirm_schedule=Schedule(epochs=10, learning_rate=0.02),
    )  # fmt: skip


TASKS: Mapping[str, Task] = {task.name: task for task in (demo(), *(cifar10_resnet(depth) for depth in (20, 32, 56)))}
"""Key on the command line -> task."""


def task_named(name: str) -> Task:
    """The task of that key, or a user's own, with a user's own network where the name says so.

    Args:
        name: a key of ``TASKS`` or ``package.module:function`` of a function that returns a ``Task``; then, after an ``@``,
            ``package.module:function`` of one that returns the network to take in place of the task's.

    Raises:
        KeyError: there is no such task, module or function; the nearest are given.
        TypeError, ValueError: what the user's name stands for is no task; see ``made_by``.
    """
    base, _, network = name.partition("@")
    found = made_by(base, Task) if ":" in base else named("task", base, TASKS)
    return replace(found, name=name, network=partial(made_by, network, nn.Module) if network else found.network)


def with_network(task: str, network: str | None) -> str:
    """The name of a task whose network is made by ``package.module:function``.

    Raises:
        ValueError: the task's name holds another network already.
    """
    if network and "@" in task:
        raise ValueError(f"task {task!r} names a network already; leave out --network {network}")
    return f"{task}@{network}" if network else task
