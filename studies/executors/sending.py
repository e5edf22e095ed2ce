"""What other processes are sent: the network, the data and the functions of a study, without its builders."""

from __future__ import annotations

import pickle
import sys
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from sconv_search.copying import copied
from sconv_search.data.splits import DataSet
from sconv_search.studies.context import StudyContext
from sconv_search.studies.method_registry import METHODS
from sconv_search.studies.monitor import Monitor
from sconv_search.system.malloc import keep_freed_memory
from sconv_search.system.memory_format import channels_last_
from sconv_search.system.working_directory import UserModules


@dataclass(frozen=True, kw_only=True)
class Sent:
    """All that another process needs to run jobs.

    Args:
        modules: the user's modules, unpickled first: what follows may be made of their classes.
        threads: of torch.
        methods: classes of methods that no installed package provides.
        arguments: the command line, which records tell.
    """

    modules: UserModules = field(default_factory=UserModules)
    evaluator: Any
    threads: int
    methods: tuple[str, ...] = field(default_factory=lambda: tuple(METHODS.added))
    arguments: tuple[str, ...] = field(default_factory=lambda: tuple(sys.argv))

    def begin(self) -> Any:
        """Readies this process; returns what runs the jobs."""
        sys.argv[:] = self.arguments
        torch.set_num_threads(self.threads)
        for method in self.methods:
            METHODS.add(method)
        keep_freed_memory()
        return self.evaluator


def sendable(evaluator: Any) -> Any:
    """The evaluator without what only its start needs: the task's builders may be functions that cannot be sent."""
    context = evaluator.context
    return replace(evaluator, context=replace(context, task=replace(context.task, network=_no_network, data=_no_data)))


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


def require_sendable(context: StudyContext) -> None:
    """Refuses, before long work, what cannot be sent to other processes.

    Raises:
        TypeError: network or functions cannot be pickled.
    """
    parts = {"network": context.network, "train": context.train, "score": context.score}
    for name, part in parts.items():
        try:
            pickle.dumps(part)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise TypeError(
                f"several workers need a {name} that can be pickled (defined at the top of a module, no lambda):"
                f" {error}"
            ) from error


class Notes(Monitor):
    """Keeps what a job says, to be told where the job came from."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        """One line of news."""
        self.lines.append(text)
