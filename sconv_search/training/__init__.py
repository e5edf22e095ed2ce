"""One training loop for every method, its loss, schedule, checkpoints and scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sconv_search.system.lazy import lazy_names

if TYPE_CHECKING:
    from sconv_search.training.batch_norm import batch_norms, reestimate_batch_norm_
    from sconv_search.training.checkpoint import Checkpoint, Stopwatch, Watched
    from sconv_search.training.compile import CompiledForward
    from sconv_search.training.dense_weights import (
        Identity,
        alone,
        dense_identity,
        dense_path,
        require_trained_on,
        save_dense,
        say_others,
        views_sha256,
    )
    from sconv_search.training.distributed import is_main_process, launch, launched
    from sconv_search.training.evaluation import Score, evaluate, predict
    from sconv_search.training.input_checks import (
        require_batches,
        require_fit,
        require_sound_network,
        require_training_step,
    )
    from sconv_search.training.loop import Progress, TrainingDiverged, train_
    from sconv_search.training.loss import Forward
    from sconv_search.training.metrics import MEAN_IOU, TOP1, LogitMetric
    from sconv_search.training.process_group import SINGLE_PROCESS, OutOfStep, ProcessGroup
    from sconv_search.training.schedule import EVERY_S, Schedule

_HOMES = {
    "batch_norms": "batch_norm",
    "reestimate_batch_norm_": "batch_norm",
    "Checkpoint": "checkpoint",
    "Stopwatch": "checkpoint",
    "Watched": "checkpoint",
    "CompiledForward": "compile",
    "Identity": "dense_weights",
    "alone": "dense_weights",
    "dense_identity": "dense_weights",
    "dense_path": "dense_weights",
    "require_trained_on": "dense_weights",
    "save_dense": "dense_weights",
    "say_others": "dense_weights",
    "views_sha256": "dense_weights",
    "is_main_process": "distributed",
    "launch": "distributed",
    "launched": "distributed",
    "Score": "evaluation",
    "evaluate": "evaluation",
    "predict": "evaluation",
    "require_batches": "input_checks",
    "require_fit": "input_checks",
    "require_sound_network": "input_checks",
    "require_training_step": "input_checks",
    "Progress": "loop",
    "TrainingDiverged": "loop",
    "train_": "loop",
    "Forward": "loss",
    "LogitMetric": "metrics",
    "MEAN_IOU": "metrics",
    "TOP1": "metrics",
    "OutOfStep": "process_group",
    "ProcessGroup": "process_group",
    "SINGLE_PROCESS": "process_group",
    "EVERY_S": "schedule",
    "Schedule": "schedule",
}
__getattr__ = lazy_names(__name__, _HOMES)

__all__ = [
    "Checkpoint",
    "CompiledForward",
    "EVERY_S",
    "Forward",
    "Identity",
    "LogitMetric",
    "MEAN_IOU",
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
    "alone",
    "batch_norms",
    "dense_identity",
    "dense_path",
    "evaluate",
    "is_main_process",
    "launch",
    "launched",
    "predict",
    "reestimate_batch_norm_",
    "require_batches",
    "require_fit",
    "require_sound_network",
    "require_trained_on",
    "require_training_step",
    "save_dense",
    "say_others",
    "train_",
    "views_sha256",
]
