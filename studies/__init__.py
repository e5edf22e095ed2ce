"""Searches and confirmations: tasks, methods and schedules combined into trials, run folders and commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sconv_search.system.lazy import lazy_names

if TYPE_CHECKING:
    from sconv_search.studies.api import Best, Study, context_from_network, search_network
    from sconv_search.studies.confirmation import confirm
    from sconv_search.studies.context import StudyContext, context_from_task
    from sconv_search.studies.methods import METHODS, compress
    from sconv_search.studies.runs.folder import RunFolder
    from sconv_search.studies.runs.rebuild import rebuild, save_compressed
    from sconv_search.studies.search.loop import StoppingCriterion
    from sconv_search.studies.spec import StudySpec
    from sconv_search.studies.task import Task
    from sconv_search.studies.tasks import TASKS

_HOMES = {
    "Best": "api",
    "Study": "api",
    "context_from_network": "api",
    "search_network": "api",
    "confirm": "confirmation",
    "StudyContext": "context",
    "context_from_task": "context",
    "METHODS": "methods",
    "compress": "methods",
    "RunFolder": "runs.folder",
    "rebuild": "runs.rebuild",
    "save_compressed": "runs.rebuild",
    "StoppingCriterion": "search.loop",
    "StudySpec": "spec",
    "Task": "task",
    "TASKS": "tasks",
}
__getattr__ = lazy_names("sconv_search.studies", _HOMES)

__all__ = [
    "Best",
    "METHODS",
    "RunFolder",
    "StoppingCriterion",
    "Study",
    "StudyContext",
    "StudySpec",
    "TASKS",
    "Task",
    "compress",
    "confirm",
    "context_from_network",
    "context_from_task",
    "rebuild",
    "save_compressed",
    "search_network",
]
