"""One compressed network's life: train towards the structure, compress, train on. The same for every method."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from sconv_search.calibration.sequential_fit import FittedAlone
from sconv_search.copying import copied
from sconv_search.data.splits import DataSet, Images
from sconv_search.plan import CompressionPlan
from sconv_search.studies.context import StudyContext, calibration_inputs
from sconv_search.studies.methods import METHODS, compress, penalty
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.trials.checkpoints import TrialCheckpoints
from sconv_search.studies.trials.residuals import ResidualHistory
from sconv_search.training.batch_norm import reestimate_batch_norm_
from sconv_search.training.evaluation import Score
from sconv_search.training.process_group import OutOfStep
from sconv_search.training.schedule import Schedule


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a life gave.

    Args:
        residual: mean relative residual of the regularizable sites when they were compressed; None where there are
            none.
        before: validation score just before compression; None where it was not asked for.
        after: the same just after compression.
        final: validation score at the end.
        notes: what methods warned of while compressing, such as a decomposition that fell back; None where nothing.
        residual_course: ``epochs`` and, by site, the relative residual after so many; empty where none was drawn or
            watched.
    """

    network: nn.Module
    residual: float | None
    before: Score | None
    after: Score | None
    final: Score
    residual_course: Mapping[str, Any] = field(default_factory=dict)
    notes: str | None = None


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """What a life is; of one start network, all processes come to the same by it.

    Args:
        regularization: weight that the penalty reaches; None compresses first and trains the compressed form alone.
        regularized_share: share of the epochs before compression, where there is a weight.
        watch_compression: also score the network just before and just after compression.
    """

    plan: CompressionPlan
    schedule: Schedule
    seed: int
    regularization: float | None
    regularized_share: float
    watch_compression: bool = False

    @property
    def epochs_before(self) -> float:
        """Epochs of the phase before compression."""
        return self.schedule.epochs * self.regularized_share if self.regularization else 0.0


def run_trial(
    start: StudyContext,
    plan: CompressionPlan,
    schedule: Schedule,
    *,
    seed: int,
    regularization: float | None,
    regularized_share: float,
    monitor: Monitor,
    watch_compression: bool = False,
    checkpoints: TrialCheckpoints | None = None,
) -> Outcome:
    """Trains and compresses a copy of the start network by a plan; the epochs of all phases sum to the schedule's.

    Args:
        regularization, regularized_share, watch_compression: as in ``TrialConfig``.
        checkpoints: where the trainings keep their state; None keeps none.

    Raises:
        OutOfStep: one of several processes failed alone.
        TrainingDiverged: a loss is not finite.
    """
    config = TrialConfig(
        plan=plan,
        schedule=schedule,
        seed=seed,
        regularization=regularization,
        regularized_share=regularized_share,
        watch_compression=watch_compression,
    )
    with start.processes.in_step(config):
        return _run(start, config, monitor, checkpoints)


def join_trials(start: StudyContext) -> None:
    """Takes part in the lives that the leading process begins, until that has no more."""
    start = replace(start, score=_unscored)
    while (config := start.processes.broadcast(None)) is not None:
        try:
            with start.processes.in_step(config):
                _run(start, config, Monitor(), None)
        except OutOfStep:
            raise
        except Exception as error:  # the leading process has ended the life, too, and records what it knows of it
            logging.getLogger(__name__).info("process %d: %s", start.processes.shard.index, error)


def _unscored(network: nn.Module, data: DataSet, split: Images) -> Score:
    """The leading process alone reads scores."""
    return Score(value=0.0, loss=0.0)


def _run(start: StudyContext, config: TrialConfig, monitor: Monitor, checkpoints: TrialCheckpoints | None) -> Outcome:
    network, data, plan, watched = copied(start.network), start.data, config.plan, config.watch_compression
    distance, before_epochs = penalty(network, plan), config.epochs_before
    course = ResidualHistory(network, plan, before_epochs) if config.regularization and watched else None
    common: dict[str, Any] = {"teacher": start.network, "processes": start.processes}
    if config.regularization:
        with monitor.bar("training towards the structure") as step:
            start.train(
                network,
                data,
                config.schedule,
                seed=config.seed,
                epochs=before_epochs,
                penalty=distance,
                penalty_weight=config.regularization,
                progress=course.watching(step) if course else step,
                checkpoint=checkpoints.of("before", monitor.say, course) if checkpoints else None,
                **common,
            )
    residual = _mean_residual(plan, float(distance().detach()))
    before = start.score(network, data, data.validation) if watched else None
    with monitor.bar("compressing"):
        compressed, notes = _compressed(start, network, plan, config.seed)
    after = start.score(compressed, data, data.validation) if watched else None
    with monitor.bar("training the compressed network") as step:
        start.train(
            compressed,
            data,
            config.schedule,
            seed=config.seed + 1,
            epochs=config.schedule.epochs - before_epochs,
            progress=step,
            checkpoint=checkpoints.of("after", monitor.say) if checkpoints else None,
            **common,
        )
    final = start.score(compressed, data, data.validation)
    found = course.found() if course else {}
    return Outcome(
        network=compressed,
        residual=residual,
        before=before,
        after=after,
        final=final,
        residual_course=found,
        notes=notes,
    )


def screened(start: StudyContext, plan: CompressionPlan, *, seed: int) -> Score:
    """Validation score of the start network compressed by a plan, without any training."""
    compressed, _ = _compressed(start, start.network, plan, seed)
    return start.score(compressed, start.data, start.data.validation)


def _compressed(
    start: StudyContext, network: nn.Module, plan: CompressionPlan, seed: int
) -> tuple[nn.Module, str | None]:
    """The compressed network, and what the methods warned of.

    A fit in sequence moves the batch norms' means; variances stay. A least-squares fit shrinks outputs, and variances
    that are estimated anew would amplify what it leaves wrong (ResNet-20 at 45 % of its FLOPs, 256 images: 84.9 %
    top-1, re-estimated 83.1; spatial SVD 87.7 and 86.9; weight SVD 81.4 and 80.1).
    """
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        compressed = compress(network, plan, calibration_inputs(start), reference=start.network)
    if any(issubclass(warning.category, FittedAlone) for warning in said):
        reestimate_batch_norm_(compressed, start.data, seed=seed, reference=network)
    messages = dict.fromkeys(str(warning.message) for warning in said if issubclass(warning.category, RuntimeWarning))
    return compressed, "; ".join(messages) or None


def _mean_residual(plan: CompressionPlan, total: float) -> float | None:
    sites = [name for name, choice in plan.sites.items() if METHODS[choice.method].regularizable]
    return total / len(sites) if sites else None
