"""One trial from its plan to its record: compress, cost, budget, screen or train, score. The same for every method."""

from __future__ import annotations

import logging
import math
import warnings
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from sconv_search.calibration.reconstruction import Reconstruction, reconstruct
from sconv_search.calibration.sequential_fit import FittedAlone
from sconv_search.copying import copied
from sconv_search.cost.counting import counting_free, measure_cost
from sconv_search.data.splits import DataSet, Images
from sconv_search.plan import CompressionPlan
from sconv_search.records import Cost, TrialRecord
from sconv_search.studies.context import StudyContext, calibration_inputs, reconstruction_inputs
from sconv_search.studies.methods import METHODS, compress, penalty
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.spec import StudySpec
from sconv_search.studies.trials.checkpoints import RunCheckpoints, TrialCheckpoints
from sconv_search.studies.trials.request import Compressed, Outcome, TrialConfig, TrialRequest
from sconv_search.studies.trials.residuals import ResidualHistory
from sconv_search.studies.trials.rows import (
    cost_fields,
    latency_fields,
    metric_field,
    outcome_fields,
    plan_fields,
    record,
)
from sconv_search.system.cache import forget_idle
from sconv_search.training.batch_norm import reestimate_batch_norm_
from sconv_search.training.checkpoint import Stopwatch
from sconv_search.training.evaluation import Score
from sconv_search.training.loop import TrainingDiverged
from sconv_search.training.process_group import OutOfStep
from sconv_search.training.schedule import Schedule

RECONSTRUCTION_BATCH = 64
"""Images a step."""


@dataclass(frozen=True, kw_only=True)
class TrialEvaluator:
    """What all trials of a study share: all that another process needs to evaluate one."""

    context: StudyContext
    spec: StudySpec
    study: str
    dense: Cost
    checkpoints: RunCheckpoints | None = None

    def evaluate(self, request: TrialRequest, monitor: Monitor) -> TrialRecord:
        """The record of a trial; an error becomes its reason, because the next plan may do better.

        Raises:
            OutOfStep: one of several processes failed alone.
        """
        checkpoints = self._checkpoints(request)
        stopwatch = checkpoints.stopwatch if checkpoints else Stopwatch()
        columns: dict[str, Any] = self._known(request)
        try:
            with counting_free(self.spec.count_free):
                columns |= _finite(self._steps(request, monitor, checkpoints))
        except OutOfStep:
            raise
        except TrainingDiverged as error:
            columns |= {"status": "failed", "reason": str(error)}
        except Exception as error:
            columns |= {"status": "failed", "reason": f"{type(error).__name__}: {str(error).strip() or 'no message'}"}
        if request.rung == "train":
            forget_idle()
        return record(self.study, self.spec, **{**columns, "wall_s": stopwatch.seconds})

    def failure(self, request: TrialRequest, reason: str) -> TrialRecord:
        """The record of a trial that could not be evaluated."""
        return record(self.study, self.spec, **self._known(request), status="failed", reason=reason)

    def _steps(self, request: TrialRequest, monitor: Monitor, checkpoints: TrialCheckpoints | None) -> dict[str, Any]:
        """The columns that the trial's steps give, in the order of these lines."""
        compressed = self._compressed(request, monitor)
        cost, columns = self._measured(request.plan, compressed.network)
        if reason := _unlike(request.predicted, cost):
            return {**columns, "status": "failed", "reason": reason}
        if request.budgets.excess(cost) > 0:
            return {**columns, "status": "over_budget", "reason": request.budgets.exceeded(cost)}
        if request.rung == "screen":
            score = validation_score(self.context, compressed)
            return {**columns, "status": "screened", "screen_score": score.value, "screen_loss": score.loss}
        outcome = run_trial(
            self.context,
            request.plan,
            self.spec.search_schedule,
            seed=self.spec.seed,
            regularization=request.regularization,
            regularized_share=request.regularized_share,
            monitor=monitor,
            checkpoints=checkpoints,
            compressed=None if request.regularization else compressed,
            reconstruction=self.spec.reconstruction,
        )
        return {**columns, "status": "complete", **outcome_fields(outcome, self.spec.search_schedule.epochs)}

    def _compressed(self, request: TrialRequest, monitor: Monitor) -> Compressed:
        """The dense network compressed by the plan: what is measured, screened and trained.

        Where a penalty trains towards the structure first, it is measured alone: what is trained on is compressed after
        that, and fitting this one to data would be in vain.
        """
        network = self.context.network
        if request.rung == "train" and request.regularization:
            return Compressed(network=compress(network, request.plan), notes=None)
        with monitor.bar("compressing"):
            return fitted(self.context, network, request.plan, self.spec.seed)

    def _measured(self, plan: CompressionPlan, built: nn.Module) -> tuple[Cost, dict[str, Any]]:
        """Cost of the network built by a plan, its latency too where that is budgeted, and the columns that say so."""
        shape = self.context.task.input_shape
        cost = measure_cost(built, shape)
        columns = cost_fields(cost, self.dense)
        if not self.spec.times:
            return cost, columns
        timed = latency_fields(built, self.context.network, shape, self.spec.latency_batch)
        # of the machine as it was when the budget's milliseconds were measured: a host may be half as fast meanwhile
        drift = self.dense.latency_ms / timed["dense_latency_ms"]
        timed |= {"latency_ms": drift * timed["latency_ms"], "dense_latency_ms": self.dense.latency_ms}
        return replace(cost, latency_ms=timed["latency_ms"]), {**columns, **timed}

    def _checkpoints(self, request: TrialRequest) -> TrialCheckpoints | None:
        """Where the trainings of a trial keep their state."""
        if self.checkpoints is None:
            return None
        name = trial_name(request.number)
        return self.checkpoints.of(name, self.context, request.plan, request.regularization, request.regularized_share)

    def _known(self, request: TrialRequest) -> dict[str, Any]:
        """The columns that are known before the trial."""
        screen = request.screen
        screened = {"screen_score": screen.value, "screen_loss": screen.loss} if screen else {}
        return {
            "stage": "search",
            "variant": "searched",
            "number": request.number,
            "seed": self.spec.seed,
            "origin": request.origin,
            "predicted_damage": request.damage,
            **metric_field(self.context.task),
            **plan_fields(request.plan, request.regularization, request.regularized_share),
            **screened,
            **cost_fields(request.predicted, self.dense),
        }


def run_trial(
    context: StudyContext,
    plan: CompressionPlan,
    schedule: Schedule,
    *,
    seed: int,
    regularization: float | None,
    regularized_share: float,
    monitor: Monitor,
    watch_compression: bool = False,
    checkpoints: TrialCheckpoints | None = None,
    compressed: Compressed | None = None,
    reconstruction: int = 0,
) -> Outcome:
    """Trains and compresses a copy of the dense network by a plan; the epochs of all phases sum to the schedule's.

    Args:
        regularization, regularized_share, watch_compression, reconstruction: as in ``TrialConfig``.
        checkpoints: where the trainings keep their state; None keeps none.
        compressed: the dense network compressed by the plan, where that was done before and no penalty is trained with;
            it is trained in place.

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
        reconstruction=reconstruction,
    )
    with context.processes.in_step(config):
        return _run(context, config, monitor, checkpoints, compressed)


def join_trials(context: StudyContext) -> None:
    """Takes part in the trials that the leading process begins, until that has no more."""
    context = replace(context, score=_unscored)
    while (config := context.processes.broadcast(None)) is not None:
        try:
            with context.processes.in_step(config):
                _run(context, config, Monitor(), None, None)
        except OutOfStep:
            raise
        except Exception as error:  # the leading process has ended the trial, too, and records what it knows of it
            logging.getLogger(__name__).info("process %d: %s", context.processes.shard.index, error)


def _unscored(network: nn.Module, data: DataSet, split: Images) -> Score:
    """The leading process alone reads scores."""
    return Score(value=0.0, loss=0.0)


def _run(
    context: StudyContext,
    config: TrialConfig,
    monitor: Monitor,
    checkpoints: TrialCheckpoints | None,
    compressed: Compressed | None,
) -> Outcome:
    """Trains towards the structure where there is a penalty, compresses, trains on, scores."""
    dense, watched = context.network if compressed else copied(context.network), config.watch_compression
    distance = penalty(dense, config.plan)
    history = ResidualHistory(dense, config.plan, config.epochs_before) if config.regularization and watched else None
    if config.regularization:
        _train_towards_structure_(context, dense, config, monitor, checkpoints, history)
    residual = _mean_residual(config.plan, float(distance().detach()))
    before = _score(context, dense) if watched else None
    if compressed is None:
        with monitor.bar("compressing"):
            compressed = fitted(context, dense, config.plan, config.seed)
    after = _score(context, compressed.network) if watched else None
    if config.reconstruction and config.plan.sites and context.processes.is_main:  # training copies it to the others
        compressed = reconstructed(context, compressed, config, monitor)
    _train_compressed_(context, compressed.network, config, monitor, checkpoints)
    return Outcome(
        network=compressed.network,
        residual=residual,
        before=before,
        after=after,
        final=_score(context, compressed.network),
        residual_course=history.columns() if history else {},
        notes=compressed.notes,
    )


def _train_towards_structure_(
    context: StudyContext,
    network: nn.Module,
    config: TrialConfig,
    monitor: Monitor,
    checkpoints: TrialCheckpoints | None,
    history: ResidualHistory | None,
) -> None:
    with monitor.bar("training towards the structure") as step:
        context.train(
            network,
            context.data,
            config.schedule,
            seed=config.seed,
            epochs=config.epochs_before,
            penalty=penalty(network, config.plan),
            penalty_weight=config.regularization,
            progress=history.watching(step) if history else step,
            checkpoint=checkpoints.of("before", monitor.say, history) if checkpoints else None,
            teacher=context.network,
            processes=context.processes,
        )


def _train_compressed_(
    context: StudyContext,
    network: nn.Module,
    config: TrialConfig,
    monitor: Monitor,
    checkpoints: TrialCheckpoints | None,
) -> None:
    with monitor.bar("training the compressed network") as step:
        context.train(
            network,
            context.data,
            config.schedule,
            seed=config.seed + 1,
            epochs=config.schedule.epochs - config.epochs_before,
            progress=step,
            checkpoint=checkpoints.of("after", monitor.say) if checkpoints else None,
            teacher=context.network,
            processes=context.processes,
        )


def fitted(context: StudyContext, network: nn.Module, plan: CompressionPlan, seed: int) -> Compressed:
    """A network compressed by a plan and fitted to the calibration inputs; the argument is not modified.

    A fit in sequence moves the batch norms' means, and their variances half-way where much is left wrong; they are not
    estimated anew. A least-squares fit shrinks outputs, and variances that are estimated anew would amplify what it
    leaves wrong (ResNet-20 at 45 % of its FLOPs, 256 images: 84.9 % top-1, re-estimated 83.1; spatial SVD 87.7 and
    86.9; weight SVD 81.4 and 80.1).
    """
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        compressed = compress(network, plan, calibration_inputs(context), reference=context.network)
    if any(issubclass(warning.category, FittedAlone) for warning in raised):
        reestimate_batch_norm_(compressed, context.data, seed=seed, reference=network)
    notes = dict.fromkeys(str(warning.message) for warning in raised if issubclass(warning.category, RuntimeWarning))
    return Compressed(network=compressed, notes="; ".join(notes) or None)


def reconstructed(context: StudyContext, compressed: Compressed, config: TrialConfig, monitor: Monitor) -> Compressed:
    """A compressed network whose blocks are trained, without labels, to the outputs of the dense network's.

    A network without blocks that can be trained stays as it is, and the notes say why.
    """
    how = Reconstruction(
        steps=math.ceil(config.reconstruction / RECONSTRUCTION_BATCH), batch=RECONSTRUCTION_BATCH, seed=config.seed
    )
    with warnings.catch_warnings(record=True) as raised, monitor.bar("training block by block") as step:
        warnings.simplefilter("always")
        network = reconstruct(compressed.network, context.network, reconstruction_inputs(context), how, progress=step)
    notes = dict.fromkeys(str(warning.message) for warning in raised if issubclass(warning.category, RuntimeWarning))
    return Compressed(network=network, notes="; ".join(filter(None, [compressed.notes, *notes])) or None)


def validation_score(context: StudyContext, compressed: Compressed) -> Score:
    """The score of a compressed network, without any training."""
    return _score(context, compressed.network)


def trial_name(number: int | str) -> str:
    """Of a trial's checkpoints in a run's folder."""
    return f"trial-{number}"


def _score(context: StudyContext, network: nn.Module) -> Score:
    return context.score(network, context.data, context.data.validation)


def _mean_residual(plan: CompressionPlan, total: float) -> float | None:
    sites = [name for name, choice in plan.sites.items() if METHODS[choice.method].regularizable]
    return total / len(sites) if sites else None


def _unlike(predicted: Cost, built: Cost) -> str | None:
    """Why a network is not what the search space says of its plan."""
    if built.counted() == predicted.counted():
        return None
    return f"the table of costs predicted {predicted.counted()}, the built network measures {built.counted()}"


def _finite(columns: dict[str, Any]) -> dict[str, Any]:
    """The columns; those of a failed trial, without the numbers in question, where one is infinite or not a number."""
    wrong = {name: value for name, value in columns.items() if isinstance(value, float) and not math.isfinite(value)}
    if not wrong:
        return columns
    values = ", ".join(f"{name} is {value}" for name, value in wrong.items())
    what = "score" if all(name.endswith("_score") for name in wrong) else "loss"
    return {**columns, **dict.fromkeys(wrong), "status": "failed", "reason": f"the {what} is not finite: {values}"}
