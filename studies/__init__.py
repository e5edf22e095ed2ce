"""Searches and confirmations: combinations of methods, tasks and schedules, no numerics."""

from sconv_search.studies.api import context_from_network, search_network
from sconv_search.studies.confirmation import confirm
from sconv_search.studies.context import StudyContext, context_from_task
from sconv_search.studies.methods import METHODS, compress
from sconv_search.studies.runs.folder import RunFolder
from sconv_search.studies.runs.rebuild import rebuild, save_compressed
from sconv_search.studies.search.loop import StoppingCriterion
from sconv_search.studies.search.runner import search
from sconv_search.studies.spec import StudySpec
from sconv_search.studies.task import Task
from sconv_search.studies.tasks import TASKS

__all__ = [
    "METHODS",
    "TASKS",
    "RunFolder",
    "StudyContext",
    "StoppingCriterion",
    "StudySpec",
    "Task",
    "compress",
    "confirm",
    "rebuild",
    "save_compressed",
    "search",
    "search_network",
    "context_from_task",
    "context_from_network",
]
