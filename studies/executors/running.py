"""A list of jobs run by an executor, as many at a time as it has slots."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

from sconv_search.studies.executors.protocol import Executor, JobT, ResultT_co


def results(
    jobs: Iterable[JobT], executor: Executor[JobT, ResultT_co], step: Callable[[int, int], None]
) -> Iterator[tuple[JobT, ResultT_co]]:
    """Each job with its result, as they finish; slots that are free meanwhile are filled in the jobs' order.

    Args:
        step: is told how many results were taken, of how many.
    """
    waiting, running = deque(jobs), 0
    total = len(waiting)
    while waiting or running:
        step(total - len(waiting) - running, total)
        while waiting and running < executor.slots:
            executor.submit(waiting.popleft())
            running += 1
        if (finished := executor.result()) is not None:
            running -= 1
            yield finished
