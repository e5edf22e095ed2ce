"""Figures to files: by several processes where there are many, as drawing them takes half of a large report's time."""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
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
def rendering(
    jobs: Sequence[Job], kinds: Sequence[str], progress: Callable[[int, int], None] | None = None
) -> Iterator[Callable[[], dict[str, bytes]]]:
    """Starts the drawing; the function that it gives waits for the files, by name. The same files whoever draws them.

    Args:
        progress: called with (drawings done, drawings in all).
    """
    told = progress or (lambda done, total: None)
    workers = min(MOST_WORKERS, _processors())
    if workers < 2 or not kinds or len(jobs) < FEWEST_SHARED:
        yield lambda: _gathered((job_files(job, kinds) for job in jobs), len(jobs), told)
        return
    prepare()  # before the processes part, so that all share one font
    # Forked, so that a library's caller needs no guarded main module. The workers only draw, with what they are sent; no
    # collection of garbage walks the tables that they share with their parent, which would copy them.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("fork"), initializer=gc.freeze) as pool:
        waiting = [pool.submit(job_files, job, kinds) for job in jobs]
        yield lambda: _gathered((one.result() for one in waiting), len(jobs), told)


def _gathered(parts: Iterable[dict[str, bytes]], total: int, told: Callable[[int, int], None]) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for done, part in enumerate(parts, start=1):
        files |= part
        told(done, total)
    return files


def job_files(job: Job, kinds: Sequence[str]) -> dict[str, bytes]:
    """One drawing in every kind."""
    figure = draw(job.drawing, job.heading)
    return {f"figures/{job.stem}.{kind}": rendered(figure, kind) for kind in kinds}


def _processors() -> int:
    """Processors that this process may use; 1 where processes cannot be forked."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "fork") and hasattr(os, "sched_getaffinity") else 1
