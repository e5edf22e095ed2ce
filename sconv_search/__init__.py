"""How small a trained network can get, and by which method: structured convolutions, searched and compared.

``import sconv_search as ss`` gives all that users need. Names are loaded when they are first used, so that this import
alone loads neither torch nor pandas.
"""

from __future__ import annotations

import sys

if sys.argv[:1] == ["-m"] and "sconv_search.studies" in sys.orig_argv and not sys.flags.safe_path:
    # Python puts the working directory first, where a ``json.py`` would stand in for everybody's; what the user names
    # there is found by ``system.working_directory``.
    _folder = sys.path.pop(0)
    if f"{_folder}/sconv_search" == __path__[0]:
        sys.path.append(_folder)  # it is not installed, and found there alone

from typing import TYPE_CHECKING

from sconv_search.system.lazy import lazy_names

if TYPE_CHECKING:
    from sconv_search.budget import Budget, Budgets
    from sconv_search.compressor import Compressor
    from sconv_search.cost.counting import measure_cost
    from sconv_search.inference.optimize import SiteChoice, choice_table, optimize_for_inference
    from sconv_search.plan import Choice, CompressionPlan, Structure
    from sconv_search.records import COLUMNS, Cost, Metric, TrialRecord
    from sconv_search.reports.page import write_report as report
    from sconv_search.structured.composite import CompositeConv2d
    from sconv_search.structured.conv import StructuredConv1d, StructuredConv2d, StructuredConv3d
    from sconv_search.structured.conv_transpose import (
        StructuredConvTranspose1d,
        StructuredConvTranspose2d,
        StructuredConvTranspose3d,
    )
    from sconv_search.structured.linear import StructuredLinear
    from sconv_search.structured.method import StructuredConvolution
    from sconv_search.structured.regularization import structural_loss
    from sconv_search.studies.api import Study
    from sconv_search.studies.api import search_network as search
    from sconv_search.studies.callbacks import lightning, transformers
    from sconv_search.studies.confirmation import confirm
    from sconv_search.studies.context import StudyContext
    from sconv_search.studies.method_registry import METHODS
    from sconv_search.studies.oneshot.compress import compress
    from sconv_search.studies.oneshot.export import export
    from sconv_search.studies.oneshot.hub import HubNetwork
    from sconv_search.studies.oneshot.networks import named_network
    from sconv_search.studies.oneshot.reconstruct import reconstruct
    from sconv_search.studies.oneshot.saving import load, save
    from sconv_search.studies.runs.folder import RunFolder
    from sconv_search.studies.runs.rebuild import rebuild, save_compressed
    from sconv_search.studies.spec import StudySpec
    from sconv_search.studies.task import Task
    from sconv_search.studies.tasks import TASKS
    from sconv_search.training.schedule import Schedule

_HOMES = {
    "Budget": "budget",
    "Budgets": "budget",
    "Choice": "plan",
    "CompressionPlan": "plan",
    "Structure": "plan",
    "COLUMNS": "records",
    "Cost": "records",
    "Metric": "records",
    "TrialRecord": "records",
    "Compressor": "compressor",
    "measure_cost": "cost.counting",
    "CompositeConv2d": "structured.composite",
    "StructuredConv1d": "structured.conv",
    "StructuredConv2d": "structured.conv",
    "StructuredConv3d": "structured.conv",
    "StructuredConvTranspose1d": "structured.conv_transpose",
    "StructuredConvTranspose2d": "structured.conv_transpose",
    "StructuredConvTranspose3d": "structured.conv_transpose",
    "StructuredLinear": "structured.linear",
    "StructuredConvolution": "structured.method",
    "structural_loss": "structured.regularization",
    "SiteChoice": "inference.optimize",
    "choice_table": "inference.optimize",
    "optimize_for_inference": "inference.optimize",
    "Study": "studies.api",
    "search": "studies.api:search_network",
    "confirm": "studies.confirmation",
    "METHODS": "studies.method_registry",
    "lightning": "studies.callbacks",
    "transformers": "studies.callbacks",
    "compress": "studies.oneshot.compress",
    "export": "studies.oneshot.export",
    "reconstruct": "studies.oneshot.reconstruct",
    "load": "studies.oneshot.saving",
    "HubNetwork": "studies.oneshot.hub",
    "named_network": "studies.oneshot.networks",
    "save": "studies.oneshot.saving",
    "RunFolder": "studies.runs.folder",
    "rebuild": "studies.runs.rebuild",
    "save_compressed": "studies.runs.rebuild",
    "StudyContext": "studies.context",
    "StudySpec": "studies.spec",
    "Task": "studies.task",
    "TASKS": "studies.tasks",
    "Schedule": "training.schedule",
    "report": "reports.page:write_report",
}
__getattr__ = lazy_names(__name__, _HOMES)

__all__ = [
    "Budget",
    "Budgets",
    "COLUMNS",
    "Choice",
    "CompositeConv2d",
    "CompressionPlan",
    "Compressor",
    "Cost",
    "HubNetwork",
    "METHODS",
    "Metric",
    "RunFolder",
    "Schedule",
    "SiteChoice",
    "Structure",
    "StructuredConv1d",
    "StructuredConv2d",
    "StructuredConv3d",
    "StructuredConvTranspose1d",
    "StructuredConvTranspose2d",
    "StructuredConvTranspose3d",
    "StructuredConvolution",
    "StructuredLinear",
    "Study",
    "StudyContext",
    "StudySpec",
    "TASKS",
    "Task",
    "TrialRecord",
    "choice_table",
    "compress",
    "confirm",
    "export",
    "lightning",
    "load",
    "measure_cost",
    "named_network",
    "optimize_for_inference",
    "rebuild",
    "reconstruct",
    "report",
    "save",
    "save_compressed",
    "search",
    "structural_loss",
    "transformers",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
