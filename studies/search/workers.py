"""Where jobs are evaluated: in this process, or in several others on the same machine.

The one process that suggests and records hands jobs out, so that workers share nothing and a killed one loses its job
alone.
"""

from __future__ import annotations

import pickle
import signal
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

import torch
import torch.multiprocessing
from torch import Tensor, nn

from sconv_search.data.loader import LoaderData
from sconv_search.data.splits import DataSet
from sconv_search.records import TrialRecord
from sconv_search.studies.context import StudyContext
from sconv_search.studies.method_registry import METHODS
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.task import Task
from sconv_search.studies.tasks import task_named
from sconv_search.studies.trials.request import TrialRequest
from sconv_search.studies.trials.trial import TrialEvaluator
from sconv_search.system.malloc import keep_freed_memory
from sconv_search.system.memory_format import channels_last_
from sconv_search.system.parent_watch import EndingWithParent
from sconv_search.system.signals import held_back
from sconv_search.system.working_directory import UserModules, safe_path
from sconv_search.training.evaluation import evaluate
from sconv_search.training.loop import train_

MOST_ATTEMPTS = 2


class Executor(Protocol):
    """Evaluates jobs."""

    slots: int

    def submit(self, request: TrialRequest) -> None:
        """Takes a job; at most ``slots`` at a time."""

    def result(self) -> tuple[TrialRequest, TrialRecord]:
        """Waits for the next finished job."""


class Here:
    """Evaluates in this process, when the result is asked for."""

    slots = 1

    def __init__(self, evaluator: TrialEvaluator, monitor: Monitor) -> None:
        self._evaluator, self._monitor, self._jobs = evaluator, monitor, deque[TrialRequest]()

    def submit(self, request: TrialRequest) -> None:
        """Takes a job."""
        self._jobs.append(request)

    def result(self) -> tuple[TrialRequest, TrialRecord]:
        """Evaluates the oldest job."""
        request = self._jobs.popleft()
        return request, self._evaluator.evaluate(request, self._monitor)


class Workers:
    """Evaluates in processes of their own, among which the threads are divided. A job whose worker dies is tried once
    more.
    """

    def __init__(self, evaluator: TrialEvaluator, count: int, monitor: Monitor) -> None:
        self.slots, self._monitor = count, monitor
        self._evaluator = replace(evaluator, context=_sendable(evaluator.context))
        self._made_again = MadeAgain.of(evaluator.context)
        self._threads = max(1, torch.get_num_threads() // count)
        self._made: list[_Worker] = []
        self._idle: list[_Worker] = []
        self._busy: dict[Any, tuple[_Worker, TrialRequest, int]] = {}
        try:
            for _ in range(count):
                self._idle.append(self._new_worker())
        except BaseException:  # Ctrl-C too: those that were started have to end
            self.close()
            raise

    def submit(self, request: TrialRequest) -> None:
        """Hands a job to an idle worker."""
        self._hand(self._idle.pop(), request, 1)

    def result(self) -> tuple[TrialRequest, TrialRecord]:
        """Waits for the next finished job."""
        while True:
            ready = wait([worker.pipe for worker, _, _ in self._busy.values()])
            worker, request, attempt = self._busy.pop(ready[0])
            try:
                reply: TrialRecord = worker.pipe.recv()
            except (EOFError, OSError):  # it died before or while it answered
                worker.process.join()
                reason = f"its worker process ended with exit code {worker.process.exitcode}"
                worker = self._new_worker()
                if attempt < MOST_ATTEMPTS:
                    self._monitor.say(f"trial {request.number}: {reason}; it runs once more")
                    self._hand(worker, request, attempt + 1)
                    continue
                reply = self._evaluator.failure(request, f"{reason}, {attempt} times")
            self._idle.append(worker)
            return request, reply

    def close(self) -> None:
        """Ends all workers, whatever they are at."""
        for worker in self._made:
            worker.process.kill()
            worker.process.join()

    def _hand(self, worker: _Worker, request: TrialRequest, attempt: int) -> None:
        try:
            worker.pipe.send(request)
        except OSError:  # it died while it was idle
            worker.process.join()
            worker = self._new_worker()
            worker.pipe.send(request)
        self._busy[worker.pipe] = (worker, request, attempt)

    def _new_worker(self) -> _Worker:
        self._made.append(_Worker(self._evaluator, self._made_again, self._threads))
        return self._made[-1]


class _Worker:
    def __init__(self, evaluator: TrialEvaluator, made_again: MadeAgain | None, threads: int) -> None:
        self.pipe, theirs = torch.multiprocessing.get_context("spawn").Pipe()
        # The user's modules come first: what follows may be made of their classes.
        given = (UserModules(), theirs, evaluator, made_again, threads, METHODS.added)
        self.process = EndingWithParent(target=_work, args=given, daemon=True)
        try:
            with held_back(), safe_path():
                self.process.start()
        except BaseException:  # Ctrl-C too
            if self.process.pid is not None:
                self.process.kill()
                self.process.join()
            raise
        theirs.close()


def _work(
    modules: object,
    pipe: Connection[Any, Any],
    evaluator: TrialEvaluator,
    made_again: MadeAgain | None,
    threads: int,
    methods: list[str],
) -> None:
    """A worker's life: until the process that made it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    torch.set_num_threads(threads)
    for method in methods:
        METHODS.add(method)
    keep_freed_memory()
    if made_again is not None:
        evaluator = replace(evaluator, context=made_again.context(evaluator.context))
    monitor = Monitor()
    while True:
        try:
            pipe.send(evaluator.evaluate(pipe.recv(), monitor))
        except (EOFError, BrokenPipeError, ConnectionResetError):  # of the pipe: a trial's own errors become its record
            return


@dataclass(frozen=True, kw_only=True)
class MadeAgain:
    """What a worker makes by itself of the code that a task's name says, as parts of it cannot be sent."""

    name: str
    weights: Mapping[str, Tensor]
    device: torch.device

    @classmethod
    def of(cls, context: StudyContext) -> MadeAgain | None:
        """None where all can be sent."""
        if _unsendable(context) is None:
            return None
        weights = {name: tensor.detach() for name, tensor in context.network.state_dict().items()}
        device = next(context.network.parameters(), torch.zeros(())).device
        return cls(name=context.task.name, weights=weights, device=device)

    def context(self, sent: StudyContext) -> StudyContext:
        """The context, from the code and the weights."""
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


def _sendable(context: StudyContext) -> StudyContext:
    """The context without what only its beginning needs, whose builders may be functions that cannot be sent; where
    more cannot be sent, without that, too, as workers make it again.
    """
    bare = replace(context, task=_without_builders(context.task))
    if _unsendable(context) is None:
        return bare
    none: Any = None
    return replace(bare, network=nn.Module(), data=none, train=train_, score=evaluate)


def _without_builders(task: Task) -> Task:
    return replace(task, network=_no_network, data=_no_data, train=None, score=None)


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


def require_workers(context: StudyContext, count: int) -> None:
    """Refuses, before long work, a number of workers that cannot be, and what can neither be sent to several nor made
    again by them from the task's name.

    Raises:
        TypeError: network or functions cannot be pickled, and the task's name is not that of the code that makes them.
        ValueError: the number is not positive.
    """
    if count < 1:
        raise ValueError(f"the number of workers must be at least 1, got {count}")
    if count > 1 and ":" not in context.task.name and (found := _unsendable(context)) is not None:
        name, error = found
        raise TypeError(
            f"several workers need a {name} that can be pickled (defined at the top of a module, no lambda), or a"
            f" function that makes the study, named as --task package.module:function: {error}"
        )


@contextmanager
def executor(evaluator: TrialEvaluator, count: int, monitor: Monitor) -> Iterator[Executor]:
    """An executor with so many workers, as ``require_workers`` lets pass; one evaluates here."""
    if count == 1:
        yield Here(evaluator, monitor)
        return
    workers = Workers(evaluator, count, monitor)
    try:
        yield workers
    finally:
        workers.close()
