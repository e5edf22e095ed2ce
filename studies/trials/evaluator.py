"""One plan evaluated, in this process or another: built, measured, and, if it fits the budget, screened or trained."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

from sconv_search.budget import Budgets
from sconv_search.cost.counting import counting_free, measure_cost
from sconv_search.plan import CompressionPlan
from sconv_search.records import Cost, TrialRecord
from sconv_search.studies.context import StudyContext
from sconv_search.studies.methods import compress
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.spec import StudySpec
from sconv_search.studies.trials.checkpoints import RunCheckpoints, TrialCheckpoints
from sconv_search.studies.trials.rows import (
    cost_fields,
    latency_fields,
    metric_field,
    outcome_fields,
    plan_fields,
    record,
)
from sconv_search.studies.trials.trial import run_trial, screened
from sconv_search.system.cache import forget_idle
from sconv_search.training.checkpoint import Stopwatch
from sconv_search.training.evaluation import Score
from sconv_search.training.loop import TrainingDiverged
from sconv_search.training.process_group import OutOfStep


@dataclass(frozen=True, kw_only=True)
class TrialRequest:
    """What is to be evaluated.

    Args:
        rung: ``screen`` compresses and scores; ``train`` trains as well.
        regularized_share: share of the epochs before compression, where there is a weight.
        origin: the rule or sampler that made the plan.
        predicted: the plan's cost by the search space; what is built has to agree.
        damage: the plan's predicted damage, in nat.
        screen: what an earlier screening gave.
    """

    number: int
    plan: CompressionPlan
    regularization: float | None
    origin: str
    budgets: Budgets
    predicted: Cost
    damage: float
    regularized_share: float = 0.5
    rung: Literal["screen", "train"] = "train"
    screen: Score | None = None

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"trial {self.number}"


@dataclass(frozen=True, kw_only=True)
class TrialEvaluator:
    """What all trials of a study share: all that another process needs to evaluate one."""

    start: StudyContext
    spec: StudySpec
    study: str
    dense: Cost
    checkpoints: RunCheckpoints | None = None

    def evaluate(self, job: TrialRequest, monitor: Monitor) -> TrialRecord:
        """The record of a job; an error becomes its reason, because the next plan may do better.

        Raises:
            OutOfStep: one of several processes failed alone.
        """
        kept = self._kept(job)
        stopwatch = kept.stopwatch if kept else Stopwatch()
        columns: dict[str, Any] = self._known(job)
        try:
            with counting_free(self.spec.count_free):
                columns |= _finite(self._found(job, monitor, kept))
        except OutOfStep:
            raise
        except TrainingDiverged as error:
            columns |= {"status": "failed", "reason": str(error)}
        except Exception as error:
            columns |= {"status": "failed", "reason": f"{type(error).__name__}: {str(error).strip() or 'no message'}"}
        if job.rung == "train":
            forget_idle()
        return record(self.study, self.spec, **{**columns, "wall_s": stopwatch.seconds})

    def failure(self, job: TrialRequest, reason: str) -> TrialRecord:
        """The record of a job that could not be evaluated."""
        return record(self.study, self.spec, **self._known(job), status="failed", reason=reason)

    def _kept(self, job: TrialRequest) -> TrialCheckpoints | None:
        """Where the job's trainings keep their state."""
        if self.checkpoints is None:
            return None
        return self.checkpoints.of(
            trial_name(job.number), self.start, job.plan, job.regularization, job.regularized_share
        )

    def _known(self, job: TrialRequest) -> dict[str, Any]:
        screen = {"screen_score": job.screen.value, "screen_loss": job.screen.loss} if job.screen else {}
        return {
            "stage": "search",
            "variant": "searched",
            "number": job.number,
            "seed": self.spec.seed,
            "origin": job.origin,
            "predicted_damage": job.damage,
            **metric_field(self.start.task),
            **plan_fields(job.plan, job.regularization, job.regularized_share),
            **screen,
            **cost_fields(job.predicted, self.dense),
        }

    def _found(self, job: TrialRequest, monitor: Monitor, kept: TrialCheckpoints | None) -> dict[str, Any]:
        cost, columns = self._measured(job.plan)
        if cost.counted() != job.predicted.counted():
            reason = (
                f"the table of costs predicted {job.predicted.counted()}, the built network measures {cost.counted()}"
            )
            return {**columns, "status": "failed", "reason": reason}
        if job.budgets.excess(cost) > 0:
            return {**columns, "status": "over_budget", "reason": job.budgets.exceeded(cost)}
        if job.rung == "screen":
            score = screened(self.start, job.plan, seed=self.spec.seed)
            return {**columns, "status": "screened", "screen_score": score.value, "screen_loss": score.loss}
        outcome = run_trial(
            self.start,
            job.plan,
            self.spec.search_schedule,
            seed=self.spec.seed,
            regularization=job.regularization,
            regularized_share=job.regularized_share,
            monitor=monitor,
            checkpoints=kept,
        )
        return {**columns, "status": "complete", **outcome_fields(outcome, self.spec.search_schedule.epochs)}

    def _measured(self, plan: CompressionPlan) -> tuple[Cost, dict[str, Any]]:
        """Cost of the built network, its latency too where that is budgeted, and the columns that say so."""
        built, shape = compress(self.start.network, plan), self.start.task.input_shape
        cost = measure_cost(built, shape)
        columns = cost_fields(cost, self.dense)
        if not self.spec.times:
            return cost, columns
        measured = latency_fields(built, self.start.network, shape, self.spec.latency_batch)
        return replace(cost, latency_ms=measured["latency_ms"]), {**columns, **measured}


def trial_name(number: int | str) -> str:
    """Of a trial's checkpoints in a run's folder."""
    return f"trial-{number}"


def _finite(columns: dict[str, Any]) -> dict[str, Any]:
    """The columns; those of a failed trial, without the numbers in question, where one is infinite or not a number."""
    wrong = {name: value for name, value in columns.items() if isinstance(value, float) and not math.isfinite(value)}
    if not wrong:
        return columns
    values = ", ".join(f"{name} is {value}" for name, value in wrong.items())
    return {**columns, **dict.fromkeys(wrong), "status": "failed", "reason": f"the loss is not finite: {values}"}
