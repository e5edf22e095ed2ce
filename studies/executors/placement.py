"""Which executor a command asks for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sconv_search.studies.context import StudyContext
from sconv_search.studies.executors.here import Here
from sconv_search.studies.executors.processes import Processes
from sconv_search.studies.executors.protocol import Evaluator, Executor, JobT, ResultT
from sconv_search.studies.executors.ray_cluster import Cluster, RayExecutor
from sconv_search.studies.executors.sending import require_sendable
from sconv_search.studies.monitor import Monitor
from sconv_search.system.packages import require_package


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where trials run: in this process, in so many processes of this machine, or on a cluster.

    Args:
        workers: processes among which the threads are divided; 1 runs trials here.

    Raises:
        ValueError: the number is not positive, or both are asked for.
    """

    workers: int = 1
    cluster: Cluster | None = None

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"the number of workers must be at least 1, got {self.workers}")
        if self.cluster is not None and self.workers > 1:
            raise ValueError("a cluster runs as many trials as its nodes have room for; give workers or a cluster")

    def require(self, context: StudyContext) -> None:
        """Refuses, before long work, what is missing or cannot be sent to other processes.

        Raises:
            TypeError: network or functions cannot be pickled.
            ValueError: Ray is not installed.
        """
        if self.cluster is not None:
            require_package("ray", "cluster", "trials on a cluster need")
        if self.cluster is not None or self.workers > 1:
            require_sendable(context)

    @contextmanager
    def executor(self, evaluator: Evaluator[JobT, ResultT], monitor: Monitor) -> Iterator[Executor[JobT, ResultT]]:
        """The executor, which ends what it has started."""
        if self.cluster is None and self.workers == 1:
            yield Here(evaluator, monitor)
            return
        made: Processes[JobT, ResultT] | RayExecutor[JobT, ResultT]
        if self.cluster is not None:
            made = RayExecutor(evaluator, self.cluster, monitor)
        else:
            made = Processes(evaluator, self.workers, monitor)
        try:
            yield made
        finally:
            made.close()


HERE = Placement()
"""In this process."""
