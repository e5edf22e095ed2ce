"""Jobs run in several other processes on the same machine.

The one process that suggests and records hands jobs out, so that workers share nothing and a killed one loses its job
alone.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, Generic

import torch
import torch.multiprocessing

from sconv_search.studies.executors.protocol import MOST_ATTEMPTS, Evaluator, JobT, ResultT
from sconv_search.studies.executors.sending import MadeAgain, Notes, Sent, sendable
from sconv_search.studies.monitor import Monitor
from sconv_search.system.parent_watch import EndingWithParent
from sconv_search.system.signals import held_back
from sconv_search.system.working_directory import safe_path


class Processes(Generic[JobT, ResultT]):
    """Runs jobs in processes of their own, among which the threads are divided. A job whose worker dies is tried once
    more.
    """

    def __init__(self, evaluator: Evaluator[JobT, ResultT], count: int, monitor: Monitor) -> None:
        self.slots, self._monitor, self._evaluator = count, monitor, evaluator
        threads, again = max(1, torch.get_num_threads() // count), MadeAgain.of(evaluator.context)
        self._sent = Sent(evaluator=sendable(evaluator), threads=threads, made_again=again)
        self._made: list[_Worker] = []
        self._idle: list[_Worker] = []
        self._busy: dict[Any, tuple[_Worker, JobT, int]] = {}
        try:
            for _ in range(count):
                self._idle.append(self._new_worker())
        except BaseException:  # Ctrl-C too: those that were started have to end
            self.close()
            raise

    def submit(self, job: JobT) -> None:
        """Hands a job to an idle worker."""
        self._hand(self._idle.pop(), job, 1)

    def result(self) -> tuple[JobT, ResultT] | None:
        """Waits for the next finished job."""
        while True:
            ready = wait([worker.pipe for worker, _, _ in self._busy.values()])
            worker, job, attempt = self._busy.pop(ready[0])
            try:
                lines, result = worker.pipe.recv()
            except (EOFError, OSError):  # it died before or while it answered
                worker.process.join()
                reason = f"its worker process ended with exit code {worker.process.exitcode}"
                worker = self._new_worker()
                if attempt < MOST_ATTEMPTS:
                    self._monitor.say(f"{job.title}: {reason}; it runs once more")
                    self._hand(worker, job, attempt + 1)
                    continue
                lines, result = (), self._evaluator.failure(job, f"{reason}, {attempt} times")
            self._idle.append(worker)
            say_all(self._monitor, job.title, lines)
            return job, result

    def close(self) -> None:
        """Ends all workers, whatever they are at."""
        for worker in self._made:
            worker.process.kill()
            worker.process.join()

    def _hand(self, worker: _Worker, job: JobT, attempt: int) -> None:
        try:
            worker.pipe.send(job)
        except OSError:  # it died while it was idle
            worker.process.join()
            worker = self._new_worker()
            worker.pipe.send(job)
        self._busy[worker.pipe] = (worker, job, attempt)

    def _new_worker(self) -> _Worker:
        self._made.append(_Worker(self._sent))
        return self._made[-1]


class _Worker:
    def __init__(self, sent: Sent) -> None:
        self.pipe, theirs = torch.multiprocessing.get_context("spawn").Pipe()
        self.process = EndingWithParent(target=_work, args=(sent, theirs), daemon=True)
        try:
            with held_back(), safe_path():
                self.process.start()
        except BaseException:  # Ctrl-C too
            if self.process.pid is not None:
                self.process.kill()
                self.process.join()
            raise
        theirs.close()


def _work(sent: Sent, pipe: Connection[Any, Any]) -> None:
    """Evaluates what comes through the pipe, until the process that made the worker is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    evaluator = sent.begin()
    while True:
        try:
            job, notes = pipe.recv(), Notes()
            result = evaluator.evaluate(job, notes)
            pipe.send((notes.lines, result))
        except (EOFError, BrokenPipeError, ConnectionResetError):  # of the pipe: a job's own errors become its result
            return


def say_all(monitor: Monitor, title: str, lines: Sequence[str]) -> None:
    """Tells what a job said elsewhere."""
    for line in lines:
        monitor.say(f"{title}: {line}")
