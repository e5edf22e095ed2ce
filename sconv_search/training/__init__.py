"""One training loop for every method, its loss, schedule, checkpoints and scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sconv_search.system.lazy import lazy_names

if TYPE_CHECKING:
    from sconv_search.training.batch_norm import batch_norms, reestimate_batch_norm_
    from sconv_search.training.checkpoint import EVERY_S, Checkpoint, Stopwatch, Watched
    from sconv_search.training.compile import CompiledForward
    from sconv_search.training.distributed import is_main_process, launch, launched
    from sconv_search.training.evaluation import Score, evaluate, predict
    from sconv_search.training.loop import Progress, TrainingDiverged, train_
    from sconv_search.training.loss import Forward
    from sconv_search.training.metrics import MEAN_IOU, TOP1, Metric
    from sconv_search.training.process_group import SINGLE_PROCESS, OutOfStep, ProcessGroup
    from sconv_search.training.schedule import Schedule

_HOMES = {
    "batch_norms": "batch_norm",
    "reestimate_batch_norm_": "batch_norm",
    "Checkpoint": "checkpoint",
    "EVERY_S": "checkpoint",
    "Stopwatch": "checkpoint",
    "Watched": "checkpoint",
    "CompiledForward": "compile",
    "is_main_process": "distributed",
    "launch": "distributed",
    "launched": "distributed",
    "Score": "evaluation",
    "evaluate": "evaluation",
    "predict": "evaluation",
    "Progress": "loop",
    "TrainingDiverged": "loop",
    "train_": "loop",
    "Forward": "loss",
    "MEAN_IOU": "metrics",
    "Metric": "metrics",
    "TOP1": "metrics",
    "OutOfStep": "process_group",
    "ProcessGroup": "process_group",
    "SINGLE_PROCESS": "process_group",
    "Schedule": "schedule",
}
__getattr__ = lazy_names(__name__, _HOMES)

__all__ = [
    "Checkpoint",
    "CompiledForward",
    "EVERY_S",
    "Forward",
    "MEAN_IOU",
    "Metric",
    "OutOfStep",
    "ProcessGroup",
    "Progress",
    "SINGLE_PROCESS",
    "Schedule",
    "Score",
    "Stopwatch",
    "TOP1",
    "TrainingDiverged",
    "Watched",
    "batch_norms",
    "evaluate",
    "is_main_process",
    "launch",
    "launched",
    "predict",
    "reestimate_batch_norm_",
    "train_",
]
