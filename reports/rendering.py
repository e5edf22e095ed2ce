"""Figures to files: by several processes, as drawing them takes half of a large report's time."""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from sconv_search.reports.charts import Chart, HeatMap
from sconv_search.reports.figures import draw, prepare, rendered_in

MOST_WORKERS = 4


@dataclass(frozen=True, kw_only=True)
class Job:
    """A drawing, the name of its files without ending, and the words above it."""

    stem: str
    drawing: Chart | HeatMap
    heading: str


@dataclass(frozen=True, kw_only=True)
class Studio:
    """Draws what it is given, from then on where there are processes for it; else when the files are asked for.

    Args:
        kinds: endings of the files.
        progress: called with (drawings done, drawings in all) while the files are gathered.
    """

    kinds: Sequence[str]
    pool: ProcessPoolExecutor | None = None
    progress: Callable[[int, int], None] | None = None
    _waiting: list[Callable[[], dict[str, bytes]]] = field(default_factory=list)

    def submit(self, job: Job) -> None:
        """Takes a drawing on."""
        if self.pool is None:
            self._waiting.append(lambda: job_files(job, self.kinds))
        else:
            future: Future[dict[str, bytes]] = self.pool.submit(job_files, job, self.kinds)
            self._waiting.append(future.result)

    def files(self) -> dict[str, bytes]:
        """All drawings' files by name, in the order in which they were taken on: the same files whoever draws them."""
        files: dict[str, bytes] = {}
        for done, finished in enumerate(self._waiting, start=1):
            files |= finished()
            if self.progress is not None:
                self.progress(done, len(self._waiting))
        return files


@contextmanager
def studio(kinds: Sequence[str], progress: Callable[[int, int], None] | None = None) -> Iterator[Studio]:
    """A studio, to be opened before tables are read: its processes then share, and hold, none of them."""
    workers = min(MOST_WORKERS, _processors())
    if workers < 2 or not kinds:
        yield Studio(kinds=kinds, progress=progress)
        return
    prepare()  # before the processes part, so that all share one font
    # Forked, so that a library's caller needs no guarded main module. The workers only draw, with what they are sent;
    # no collection of garbage walks what they share with their parent, which would copy it.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("fork"), initializer=gc.freeze) as pool:
        pool.submit(prepare)  # starts the processes
        yield Studio(kinds=kinds, pool=pool, progress=progress)


def job_files(job: Job, kinds: Sequence[str]) -> dict[str, bytes]:
    """One drawing in every kind."""
    made = rendered_in(draw(job.drawing, job.heading), kinds)
    return {f"figures/{job.stem}.{kind}": content for kind, content in made.items()}


def _processors() -> int:
    """Processors that this process may use; 1 where processes cannot be forked."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "fork") and hasattr(os, "sched_getaffinity") else 1
