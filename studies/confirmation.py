"""Confirmation: the best plans on the full schedule, over several seeds, scored once on the test set, beside
references.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from sconv_search.budget import Budgets
from sconv_search.cost.counting import counting_free, measure_cost
from sconv_search.plan import CompressionPlan
from sconv_search.records import Cost, TrialRecord
from sconv_search.search_space.heuristics import uniform
from sconv_search.studies.context import StudyContext
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.runs.folder import RunFolder, told
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
from sconv_search.training.input_checks import require_batches
from sconv_search.training.loop import TrainingDiverged, train_
from sconv_search.training.schedule import EVERY_S
from sconv_search.training.user_functions import UserScore

EMPTY = CompressionPlan(sites={})
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


def front(records: Sequence[TrialRecord], most: int) -> list[TrialRecord]:
    """The best ``most`` of the search's complete trials that no other beats in both FLOPs and validation accuracy."""
    complete = [
        r for r in records if r.stage == "search" and r.status == "complete" and r.quality is not None and r.flops
    ]
    chosen: list[TrialRecord] = []
    for r in sorted(complete, key=lambda r: (r.flops or 0, -(r.quality or 0), r.number or 0)):
        if not chosen or (r.quality or 0) > (chosen[-1].quality or 0):
            chosen.append(r)
    return sorted(chosen, key=lambda r: -(r.quality or 0))[:most]


def confirm(
    context: StudyContext,
    folders: Sequence[RunFolder],
    *,
    seeds: int = 3,
    most: int = 3,
    monitor: Monitor | None = None,
    checkpoint_s: float = EVERY_S,
) -> list[TrialRecord]:
    """Confirms the front and the uniform plan of each run, and the dense references once; returns the new records.

    What the folders already hold is not done again, so that a killed confirmation continues with the same call, an
    interrupted training from its checkpoint. Each network is saved with its plan under ``confirmed/``.

    Args:
        checkpoint_s: seconds between checkpoints of a training; 0 writes one after every step.

    Raises:
        OutOfStep: one of several processes that train together failed alone.
        RuntimeError: another command works on a folder.
        ValueError: a run is named twice, has no complete trial, is of another task, started from other weights or data,
            or its batch is larger than the data.
    """
    monitor = monitor or Monitor()
    if twice := [folder for index, folder in enumerate(folders) if _same(folder) in map(_same, folders[:index])]:
        raise ValueError(f"the run folder {str(twice[0].path)!r} is named twice; name each run once")
    for folder in folders:
        _require_same_context(context, folder)
        for message in told(folder.records()[1]):
            monitor.say(message)
    new: list[TrialRecord] = []
    rounds = [(seed, index, folder) for seed in range(seeds) for index, folder in enumerate(folders)]
    with ExitStack() as held, monitor.bar("runs confirmed, seed by seed") as step:
        for folder in folders:  # all for the whole time: another command in one of them would end this one half-way
            held.enter_context(folder.locked())
        for done, (seed, index, folder) in enumerate(rounds):
            step(done, len(rounds))
            for candidate in _candidates(context, folder, most, references=index == 0):
                searched = folders if candidate.plan == EMPTY else [folder]
                if not any(_is_done(searched_folder, candidate, seed) for searched_folder in searched):
                    with counting_free(_spec(folder).count_free):
                        new.append(_confirmed(context, folder, candidate, seed, monitor, checkpoint_s))
    return new


def _same(folder: RunFolder) -> Path:
    return folder.path.resolve()


def _spec(folder: RunFolder) -> StudySpec:
    spec = folder.read_spec()
    if spec is None:
        raise ValueError(f"the run folder {str(folder.path)!r} holds no study; run `sconv-search search` first")
    return spec


def _require_same_context(context: StudyContext, folder: RunFolder) -> None:
    spec = _spec(folder)
    wanted = {"task": context.task.name, "weights_sha256": context.weights_sha256, "data_sha256": context.data_sha256}
    for name, value in wanted.items():
        if getattr(spec, name) != value:
            raise ValueError(
                f"the run in {str(folder.path)!r} has {name} {getattr(spec, name)!r}, the confirmation {value!r}; "
                "give the same --task, --weights and --data as to its search"
            )
    if context.train is train_:
        require_batches(context.data, {"confirmation": spec.confirm_schedule})
    if not front(folder.records()[0], 1):
        raise ValueError(
            f"the run in {str(folder.path)!r} has no complete trial to confirm; run `sconv-search search` first"
        )


def _candidates(context: StudyContext, folder: RunFolder, most: int, *, references: bool) -> list[Candidate]:
    """Plans to confirm, the same for every seed; the dense references in the first folder alone."""
    best = front(folder.records()[0], most)
    space, spec = folder.read_space(), _spec(folder)
    candidates = (
        [Candidate(variant="dense", plan=EMPTY), Candidate(variant="dense_finetuned", plan=EMPTY)] if references else []
    )
    for r in best:
        plan = CompressionPlan.from_json(r.plan or "")
        candidates.append(
            Candidate(
                variant="searched",
                plan=plan,
                regularization=r.regularization,
                regularized_share=r.regularized_share or spec.regularized_share,
                number=r.number,
            )
        )
    if space is not None:
        budgets = Budgets.parse(spec.budget, dense=space.dense, quantity=spec.quantity)
        budget_shares = {"-low": 0.0, "-middle": 0.5, "-high": 1.0} if budgets.ranged else {"": 1.0}
        for name, share in budget_shares.items():
            plan, weight = uniform(space, budgets.at(share)), best[0].regularization
            before = best[0].regularized_share or spec.regularized_share
            candidates.append(
                Candidate(variant="uniform", plan=plan, regularization=weight, regularized_share=before, suffix=name)
            )
    return candidates


def _is_done(folder: RunFolder, candidate: Candidate, seed: int) -> bool:
    """Whether the folder has this row; the dense network is not trained, so one row serves all seeds."""
    text = candidate.plan.to_json()
    rows = [
        r for r in folder.records()[0] if r.stage == "confirm" and r.variant == candidate.variant and r.plan == text
    ]
    return any(r.seed == seed or candidate.variant == "dense" for r in rows)


def _confirmed(
    context: StudyContext, folder: RunFolder, candidate: Candidate, seed: int, monitor: Monitor, checkpoint_s: float
) -> TrialRecord:
    """Trains one candidate with one seed, reads the test set once, writes the record and the network."""
    spec, kept = _spec(folder), _kept(context, folder, candidate, seed, checkpoint_s)
    dense = measure_cost(context.network, context.task.input_shape)
    known: dict[str, Any] = {
        "stage": "confirm",
        "variant": candidate.variant,
        "name": candidate.name,
        "number": candidate.number,
        "seed": seed,
        **plan_fields(candidate.plan, candidate.regularization, candidate.regularized_share),
        **metric_field(context.task),
    }
    try:
        outcome = _outcome(context, spec, candidate, seed, monitor, kept)
    except TrainingDiverged as error:
        row = record(folder.name, spec, status="failed", reason=str(error), wall_s=kept.stopwatch.seconds, **known)
    else:
        with monitor.bar("test score and latency"):
            measured = _measured(context, outcome.network, dense)
        epochs = 0.0 if candidate.variant == "dense" else spec.confirm_schedule.epochs
        scores = outcome_fields(outcome, epochs)
        seconds = kept.stopwatch.seconds
        if isinstance(context.score, UserScore) and context.score.test is None:
            scores["notes"] = "; ".join(filter(None, (scores["notes"], NO_TEST)))
        row = record(folder.name, spec, status="complete", wall_s=seconds, **known, **scores, **measured)
        _keep(folder, candidate, seed, outcome.network)
    folder.append(row)
    folder.forget_checkpoints(kept.folder.name)
    monitor.recorded(row)
    score = (
        f"test {row.metric} {row.score_metric.text(row.test_score)}"
        if row.test_score is not None
        else f"failed, {row.reason}"
    )
    monitor.say(f"{folder.name} {candidate.label}, seed {seed}: {score}")
    return row


def _kept(
    context: StudyContext, folder: RunFolder, candidate: Candidate, seed: int, every_s: float
) -> TrialCheckpoints:
    """Where a candidate's trainings keep their state."""
    name = f"{candidate.label}-seed{seed}"
    run = RunCheckpoints(folder=folder.checkpoints, every_s=every_s)
    return run.of(name, context, candidate.plan, candidate.regularization, candidate.regularized_share)


def _outcome(
    context: StudyContext, spec: StudySpec, candidate: Candidate, seed: int, monitor: Monitor, kept: TrialCheckpoints
) -> Outcome:
    if candidate.variant == "dense":
        score = context.score(context.network, context.data, context.data.validation)
        return Outcome(network=context.network, residual=None, before=None, after=None, final=score)
    return run_trial(
        context,
        candidate.plan,
        spec.confirm_schedule,
        seed=seed,
        regularization=candidate.regularization,
        regularized_share=candidate.regularized_share,
        monitor=monitor,
        watch_compression=candidate.variant != "dense_finetuned",
        reconstruction=spec.reconstruction,
        checkpoints=kept,
    )


def _measured(context: StudyContext, network: nn.Module, dense: Cost) -> dict[str, Any]:
    """The columns that need the finished network: cost, test score, latency in turn with the dense network's."""
    shape = context.task.input_shape
    return {
        **cost_fields(measure_cost(network, shape), dense),
        "test_score": context.score(network, context.data, context.data.test).value,
        **latency_fields(network, context.network, shape, LATENCY_BATCH),
        "layers": json.dumps(layer_costs(context.network, network, shape)),
    }


def _keep(folder: RunFolder, candidate: Candidate, seed: int, network: nn.Module) -> None:
    """Plan and weights, from which ``sconv_search.studies.runs.rebuild`` makes the network again."""
    save_compressed(network, candidate.plan, folder.path / "confirmed" / f"{candidate.label}-seed{seed}")
