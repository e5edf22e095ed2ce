"""One training of a confirmation, from its plan to its record and the files of its network."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from sconv_search.cost.counting import counting_free, measure_cost
from sconv_search.plan import CompressionPlan
from sconv_search.records import Cost, TrialRecord
from sconv_search.studies.context import StudyContext
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.runs.rebuild import save_compressed
from sconv_search.studies.spec import StudySpec
from sconv_search.studies.trials.checkpoints import RunCheckpoints, TrialCheckpoints
from sconv_search.studies.trials.layer_costs import layer_costs
from sconv_search.studies.trials.request import Outcome
from sconv_search.studies.trials.rows import (
    cost_fields,
    latency_fields,
    metric_field,
    outcome_fields,
    plan_fields,
    record,
)
from sconv_search.studies.trials.trial import run_trial
from sconv_search.training.checkpoint import Stopwatch
from sconv_search.training.loop import TrainingDiverged
from sconv_search.training.user_functions import UserScore

LATENCY_BATCH = 16
NO_TEST = "no test= was given: the test score is that of the validation data"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A plan to confirm, and how it is trained."""

    variant: str
    plan: CompressionPlan
    regularization: float | None = None
    regularized_share: float = 0.5
    number: int | None = None
    suffix: str = ""

    @property
    def label(self) -> str:
        """Name for files and lines of the terminal."""
        return self.name if self.number is None else f"{self.variant}-{self.number}"

    @property
    def name(self) -> str:
        """Name in the run: what ``sconv-search export --plan`` takes."""
        return f"{self.variant}{self.suffix}" if self.number is None else str(self.number)


@dataclass(frozen=True, kw_only=True)
class ConfirmationRequest:
    """A candidate to be trained with a seed.

    Args:
        folder: index of the run's folder among those of the command.
        study: the run's name.
    """

    folder: int
    study: str
    spec: StudySpec
    candidate: Candidate
    seed: int
    checkpoints: RunCheckpoints | None

    @property
    def name(self) -> str:
        """Of the network's folder and its checkpoints."""
        return f"{self.candidate.label}-seed{self.seed}"

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"{self.study} {self.candidate.label}, seed {self.seed}"

    def forget_checkpoints(self) -> None:
        """Drops those of the training, which is over."""
        if self.checkpoints is not None:
            self.checkpoints.forget(self.name)


@dataclass(frozen=True, kw_only=True)
class Confirmation:
    """What a training of a confirmation gave.

    Args:
        row: the record; None where the training was lost, so that it is tried again by the same command.
        files: of the network, by name; none where the training diverged.
        lost: why there is no record.
    """

    row: TrialRecord | None
    files: Mapping[str, bytes] = field(default_factory=dict)
    lost: str = ""


@dataclass(frozen=True, kw_only=True)
class ConfirmationEvaluator:
    """What all trainings of a confirmation share."""

    context: StudyContext

    def evaluate(self, request: ConfirmationRequest, monitor: Monitor) -> Confirmation:
        """Trains a candidate with a seed, and reads the test set once.

        Raises:
            OutOfStep: one of several processes failed alone.
        """
        with counting_free(request.spec.count_free):
            return self._confirmed(request, monitor)

    def failure(self, request: ConfirmationRequest, reason: str) -> Confirmation:
        """The result of a training that was lost."""
        return Confirmation(row=None, lost=reason)

    def _confirmed(self, request: ConfirmationRequest, monitor: Monitor) -> Confirmation:
        candidate, spec, task = request.candidate, request.spec, self.context.task
        kept = self._kept(request)
        stopwatch = kept.stopwatch if kept else Stopwatch()
        known: dict[str, Any] = {
            "stage": "confirm",
            "variant": candidate.variant,
            "name": candidate.name,
            "number": candidate.number,
            "seed": request.seed,
            **plan_fields(candidate.plan, candidate.regularization, candidate.regularized_share),
            **metric_field(task),
        }
        try:
            outcome = self._outcome(request, monitor, kept)
        except TrainingDiverged as error:
            seconds = stopwatch.seconds
            return Confirmation(
                row=record(request.study, spec, status="failed", reason=str(error), wall_s=seconds, **known)
            )
        with monitor.bar("test score and latency"):
            measured = self._measured(outcome.network, measure_cost(self.context.network, task.input_shape))
        epochs = 0.0 if candidate.variant == "dense" else spec.confirm_schedule.epochs
        scores, seconds = outcome_fields(outcome, epochs), stopwatch.seconds
        if isinstance(self.context.score, UserScore) and self.context.score.test is None:
            scores["notes"] = "; ".join(filter(None, (scores["notes"], NO_TEST)))
        row = record(request.study, spec, status="complete", wall_s=seconds, **known, **scores, **measured)
        return Confirmation(row=row, files=_files(outcome.network, candidate.plan))

    def _kept(self, request: ConfirmationRequest) -> TrialCheckpoints | None:
        """Where the training keeps its state."""
        candidate = request.candidate
        if request.checkpoints is None:
            return None
        return request.checkpoints.of(
            request.name, self.context, candidate.plan, candidate.regularization, candidate.regularized_share
        )

    def _outcome(self, request: ConfirmationRequest, monitor: Monitor, kept: TrialCheckpoints | None) -> Outcome:
        context, candidate = self.context, request.candidate
        if candidate.variant == "dense":
            score = context.score(context.network, context.data, context.data.validation)
            return Outcome(network=context.network, residual=None, before=None, after=None, final=score)
        return run_trial(
            context,
            candidate.plan,
            request.spec.confirm_schedule,
            seed=request.seed,
            regularization=candidate.regularization,
            regularized_share=candidate.regularized_share,
            monitor=monitor,
            watch_compression=candidate.variant != "dense_finetuned",
            reconstruction=request.spec.reconstruction,
            checkpoints=kept,
        )

    def _measured(self, network: nn.Module, dense: Cost) -> dict[str, Any]:
        """The columns that need the finished network: cost, test score, latency in turn with the dense network's."""
        context = self.context
        shape = context.task.input_shape
        return {
            **cost_fields(measure_cost(network, shape), dense),
            "test_score": context.score(network, context.data, context.data.test).value,
            **latency_fields(network, context.network, shape, LATENCY_BATCH),
            "layers": json.dumps(layer_costs(context.network, network, shape)),
        }


def _files(network: nn.Module, plan: CompressionPlan) -> dict[str, bytes]:
    """Plan and weights, from which ``sconv_search.studies.runs.rebuild`` makes the network again."""
    with tempfile.TemporaryDirectory() as folder:
        save_compressed(network, plan, folder)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}
