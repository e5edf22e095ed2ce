"""Where jobs are evaluated: in this process, or in several others on the same machine.

The one process that suggests and records hands jobs out, so that workers share nothing and a killed one loses its job
alone.
"""

from __future__ import annotations

import pickle
import signal
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

import torch
import torch.multiprocessing
from torch import nn

from sconv_search.data.splits import DataSet
from sconv_search.records import TrialRecord
from sconv_search.studies.context import StudyContext
from sconv_search.studies.method_registry import METHODS
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.trials.request import TrialRequest
from sconv_search.studies.trials.trial import TrialEvaluator
from sconv_search.system.malloc import keep_freed_memory
from sconv_search.system.parent_watch import EndingWithParent
from sconv_search.system.signals import held_back
from sconv_search.system.working_directory import UserModules, safe_path

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
        self._evaluator = replace(evaluator, context=replace(evaluator.context, task=_sendable(evaluator)))
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
        self._made.append(_Worker(self._evaluator, self._threads))
        return self._made[-1]


class _Worker:
    def __init__(self, evaluator: TrialEvaluator, threads: int) -> None:
        self.pipe, theirs = torch.multiprocessing.get_context("spawn").Pipe()
        # The user's modules come first: what follows may be made of their classes.
        given = (UserModules(), theirs, evaluator, threads, METHODS.added)
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
    modules: object, pipe: Connection[Any, Any], evaluator: TrialEvaluator, threads: int, methods: list[str]
) -> None:
    """Evaluates what comes through the pipe, until the process that made the worker is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    torch.set_num_threads(threads)
    for method in methods:
        METHODS.add(method)
    keep_freed_memory()
    monitor = Monitor()
    while True:
        try:
            pipe.send(evaluator.evaluate(pipe.recv(), monitor))
        except (EOFError, BrokenPipeError, ConnectionResetError):  # of the pipe: a trial's own errors become its record
            return


def _sendable(evaluator: TrialEvaluator) -> Any:
    """The task without what only its start needs: its builders may be functions that cannot be sent."""
    return replace(evaluator.context.task, network=_no_network, data=_no_data)


def _no_network() -> nn.Module:
    raise RuntimeError("a worker evaluates the network that it was given and builds none")


def _no_data(folder: object, train_was_seen: bool) -> DataSet:
    raise RuntimeError("a worker evaluates on the data that it was given and reads none")


def require_workers(context: StudyContext, count: int) -> None:
    """Refuses, before long work, a number of workers that cannot be, and what cannot be sent to several.

    Raises:
        TypeError: network or functions cannot be pickled.
        ValueError: the number is not positive.
    """
    if count < 1:
        raise ValueError(f"the number of workers must be at least 1, got {count}")
    if count == 1:
        return
    parts = {"network": context.network, "train": context.train, "score": context.score}
    for name, part in parts.items():
        try:
            pickle.dumps(part)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise TypeError(
                f"several workers need a {name} that can be pickled (defined at the top of a module, no lambda):"
                f" {error}"
            ) from error


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
