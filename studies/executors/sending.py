"""What other processes are sent: the network, the data and the functions of a study, without its builders."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from sconv_search.copying import copied
from sconv_search.data.loaders.batches import LoaderData
from sconv_search.data.splits import DataSet
from sconv_search.studies.context import StudyContext
from sconv_search.studies.method_registry import METHODS
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.task import Task
from sconv_search.studies.tasks import task_named
from sconv_search.system.malloc import keep_freed_memory
from sconv_search.system.memory_format import channels_last_
from sconv_search.system.working_directory import UserModules
from sconv_search.training.evaluation import evaluate
from sconv_search.training.loop import train_


@dataclass(frozen=True, kw_only=True)
class Sent:
    """All that another process needs to run jobs.

    Args:
        modules: the user's modules, unpickled first: what follows may be made of their classes.
        threads: of torch.
        made_again: what cannot be sent, as it is made again there.
        methods: classes of methods that no installed package provides.
        arguments: the command line, which records tell.
    """

    modules: UserModules = field(default_factory=UserModules)
    evaluator: Any
    threads: int
    made_again: MadeAgain | None = None
    methods: tuple[str, ...] = field(default_factory=lambda: tuple(METHODS.added))
    arguments: tuple[str, ...] = field(default_factory=lambda: tuple(sys.argv))

    def begin(self) -> Any:
        """Readies this process; returns what runs the jobs."""
        sys.argv[:] = self.arguments
        torch.set_num_threads(self.threads)
        for method in self.methods:
            METHODS.add(method)
        keep_freed_memory()
        if self.made_again is None:
            return self.evaluator
        return replace(self.evaluator, context=self.made_again.context(self.evaluator.context))


@dataclass(frozen=True, kw_only=True)
class MadeAgain:
    """What another process makes by itself of the code that a task's name says, as parts of it cannot be sent."""

    name: str
    weights: Mapping[str, Tensor]
    device: torch.device

    @classmethod
    def of(cls, context: StudyContext, device: torch.device | None = None) -> MadeAgain | None:
        """None where all can be sent.

        Args:
            device: where it is to be made; by default where it is.
        """
        if _unsendable(context) is None:
            return None
        weights = {name: tensor.detach().cpu() for name, tensor in context.network.state_dict().items()}
        own = next(context.network.parameters(), torch.zeros(())).device
        return cls(name=context.task.name, weights=weights, device=device or own)

    def context(self, sent: StudyContext) -> StudyContext:
        """The context from the code and the weights."""
        task = task_named(self.name)
        network = task.network().to(self.device)
        network.load_state_dict(dict(self.weights))
        own: dict[str, Any] = {"train": task.train} if task.train else {}
        own |= {"score": task.score} if task.score else {}
        return replace(
            sent,
            task=_without_builders(task),
            network=channels_last_(network).eval(),
            data=task.data(None, False).to(self.device),
            **own,
        )


def sendable(evaluator: Any) -> Any:
    """The evaluator without what only its start needs, whose builders may be functions that cannot be sent; where more
    cannot be sent, without that, too, as ``MadeAgain`` makes it again.
    """
    context = evaluator.context
    bare = replace(context, task=_without_builders(context.task))
    if _unsendable(context) is not None:
        none: Any = None
        bare = replace(bare, network=nn.Module(), data=none, train=train_, score=evaluate)
    return replace(evaluator, context=bare)


def _without_builders(task: Task) -> Task:
    return replace(task, network=_no_network, trained_network=None, data=_no_data, train=None, score=None)


def on_device(evaluator: Any, device: torch.device) -> Any:
    """The evaluator with network and data on a device."""
    context = evaluator.context
    weight = next(context.network.parameters(), torch.zeros(()))
    if weight.device == device:
        return evaluator
    network = channels_last_(copied(context.network).to(device)).eval()
    return replace(evaluator, context=replace(context, network=network, data=context.data.to(device)))


def _no_network() -> nn.Module:
    raise RuntimeError("a worker evaluates the network that it was given and builds none")


def _no_data(folder: object, train_was_seen: bool) -> DataSet:
    raise RuntimeError("a worker evaluates on the data that it was given and reads none")


def _unsendable(context: StudyContext) -> tuple[str, Exception] | None:
    """The first part that cannot be pickled, and why; data in memory can."""
    parts = {"network": context.network, "train": context.train, "score": context.score}
    if isinstance(context.data, LoaderData):
        parts["loader"] = context.data
    for name, part in parts.items():
        try:
            pickle.dumps(part)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            return name, error
    return None


def require_sendable(context: StudyContext) -> None:
    """Refuses, before long work, what can neither be sent to other processes nor made again by them.

    Raises:
        TypeError: network or functions cannot be pickled, and the task's name is not that of the code that makes them.
    """
    if ":" not in context.task.name and (obstacle := _unsendable(context)) is not None:
        name, error = obstacle
        raise TypeError(
            f"several workers need a {name} that can be pickled (defined at the top of a module, no lambda), or a"
            f" function that makes the study, named as --task package.module:function: {error}"
        )


class Notes(Monitor):
    """Keeps what a job says, to be told where the job came from."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        """One line of news."""
        self.lines.append(text)
