"""What runs jobs, and what a job is run by: the same for trials and confirmations, here and on a cluster."""

from __future__ import annotations

from typing import Protocol, TypeVar

from sconv_search.studies.context import StudyContext
from sconv_search.studies.monitor import Monitor

MOST_ATTEMPTS = 2
"""A job whose process, node or memory is lost runs once more; what is lost twice is probably the job's own doing."""


class Job(Protocol):
    """Something to be run, small enough to be sent."""

    @property
    def title(self) -> str:
        """What messages call it, such as ``trial 3``."""


JobT = TypeVar("JobT", bound=Job)
JobT_contra = TypeVar("JobT_contra", bound=Job, contravariant=True)
ResultT = TypeVar("ResultT")
ResultT_co = TypeVar("ResultT_co", covariant=True)


class Evaluator(Protocol[JobT_contra, ResultT_co]):
    """Runs jobs: a dataclass with all that they share, which is sent to other processes once."""

    @property
    def context(self) -> StudyContext:
        """The trained dense network and the data."""

    def evaluate(self, job: JobT_contra, monitor: Monitor, /) -> ResultT_co:
        """The job's result; an exception of the job becomes its result, too."""

    def failure(self, job: JobT_contra, reason: str, /) -> ResultT_co:
        """The result of a job that could not be run."""


class Executor(Protocol[JobT, ResultT_co]):
    """Runs several jobs at the same time, as many as there are slots."""

    @property
    def slots(self) -> int:
        """Jobs that may run at the same time, at least 1; it may change from one look to the next."""

    def submit(self, job: JobT) -> None:
        """Takes a job."""

    def result(self) -> tuple[JobT, ResultT_co] | None:
        """Waits for the next finished job; None where, meanwhile, there is room for more jobs than run."""
