"""Figures to files: by several processes where there are many, as drawing them takes half of a large report's time."""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from reports.charts import Chart, HeatMap
from reports.figures import draw, prepare, rendered

FEWEST_SHARED = 8
MOST_WORKERS = 4


@dataclass(frozen=True, kw_only=True)
class Job:
    """A drawing, the name of its files without ending, and the words above it."""

    stem: str
    drawing: Chart | HeatMap
    heading: str


@contextmanager
def rendering(jobs: Sequence[Job], kinds: Sequence[str]) -> Iterator[Callable[[], dict[str, bytes]]]:
    """Starts the drawing; the function that it gives waits for the files, by name. The same files whoever draws them."""
    workers = min(MOST_WORKERS, _processors())
    if workers < 2 or not kinds or len(jobs) < FEWEST_SHARED:
        yield lambda: {name: content for job in jobs for name, content in job_files(job, kinds).items()}
        return
    prepare()  # before the processes part, so that all share one font
    # Forked, so that a library's caller needs no guarded main module. The workers only draw, with what they are sent; no
    # collection of garbage walks the tables that they share with their parent, which would copy them.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("fork"), initializer=gc.freeze) as pool:
        waiting = [pool.submit(job_files, job, kinds) for job in jobs]
        yield lambda: {name: content for one in waiting for name, content in one.result().items()}


def job_files(job: Job, kinds: Sequence[str]) -> dict[str, bytes]:
    """One drawing in every kind."""
    figure = draw(job.drawing, job.heading)
    return {f"figures/{job.stem}.{kind}": rendered(figure, kind) for kind in kinds}


def _processors() -> int:
    """Processors that this process may use; 1 where processes cannot be forked."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "fork") and hasattr(os, "sched_getaffinity") else 1
