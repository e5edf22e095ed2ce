"""Jobs run in this process, one after another."""

from __future__ import annotations

from collections import deque
from typing import Generic

from sconv_search.studies.executors.protocol import Evaluator, JobT, ResultT
from sconv_search.studies.monitor import Monitor


class Here(Generic[JobT, ResultT]):
    """Runs a job when its result is asked for."""

    slots = 1

    def __init__(self, evaluator: Evaluator[JobT, ResultT], monitor: Monitor) -> None:
        self._evaluator, self._monitor, self._jobs = evaluator, monitor, deque[JobT]()

    def submit(self, job: JobT) -> None:
        """Takes a job."""
        self._jobs.append(job)

    def result(self) -> tuple[JobT, ResultT] | None:
        """Runs the oldest job."""
        job = self._jobs.popleft()
        return job, self._evaluator.evaluate(job, self._monitor)
