"""Searches and confirmations: combinations of methods, tasks and schedules, no numerics."""

from studies.api import search_network, start_with
from studies.confirmation import confirm
from studies.course import Stops
from studies.methods import METHODS, compress
from studies.rebuild import rebuild, save_compressed
from studies.run_folder import RunFolder
from studies.runner import search
from studies.spec import StudySpec
from studies.start import Start, start_from
from studies.task import Task
from studies.tasks import TASKS

__all__ = [
    "METHODS",
    "TASKS",
    "RunFolder",
    "Start",
    "Stops",
    "StudySpec",
    "Task",
    "compress",
    "confirm",
    "rebuild",
    "save_compressed",
    "search",
    "search_network",
    "start_from",
    "start_with",
]
