"""One compressed network's life: train towards the structure, compress, train on. The same for every method."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from sconv_search.batch_norm import reestimate_batch_norm_
from sconv_search.plan import CompressionPlan
from sconv_search.training import Schedule, Score
from studies.methods import METHODS, compress, penalty
from studies.monitor import Monitor
from studies.residuals import ResidualCourse
from studies.start import Start, calibration_inputs


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a life gave.

    Args:
        residual: mean relative residual of the regularizable sites when they were compressed; None where there are none.
        before: validation score just before compression; None where it was not asked for.
        after: the same just after compression, with batch norms re-estimated.
        final: validation score at the end.
        notes: what methods warned of while compressing, such as a decomposition that fell back; None where nothing.
        residual_course: ``epochs`` and, by site, the relative residual after so many; empty where none was drawn or watched.
    """

    network: nn.Module
    residual: float | None
    before: Score | None
    after: Score | None
    final: Score
    residual_course: Mapping[str, Any] = field(default_factory=dict)
    notes: str | None = None


def live(
    start: Start,
    plan: CompressionPlan,
    schedule: Schedule,
    *,
    seed: int,
    regularization: float | None,
    regularized_share: float,
    monitor: Monitor,
    watch_compression: bool = False,
) -> Outcome:
    """Trains and compresses a copy of the start network by a plan; the epochs of all phases sum to the schedule's.

    Args:
        regularization: weight that the penalty reaches; None compresses first and trains the compressed form alone.
        regularized_share: share of the epochs before compression, where there is a weight.
        watch_compression: also score the network just before and just after compression.

    Raises:
        TrainingDiverged: a loss is not finite.
    """
    network, data = copy.deepcopy(start.network), start.data
    before_epochs = schedule.epochs * regularized_share if regularization else 0.0
    distance = penalty(network, plan)
    course = ResidualCourse(network, plan, before_epochs) if regularization and watch_compression else None
    if regularization:
        with monitor.bar("training towards the structure") as step:
            step = course.watching(step) if course else step
            start.train(
                network, data, schedule, seed=seed, epochs=before_epochs, penalty=distance, penalty_weight=regularization,
                teacher=start.network, progress=step,
            )  # fmt: skip
    residual = _mean_residual(plan, float(distance().detach()))
    before = start.score(network, data, data.validation) if watch_compression else None
    compressed, notes = _compressed(start, network, plan)
    reestimate_batch_norm_(compressed, data, seed=seed)
    after = start.score(compressed, data, data.validation) if watch_compression else None
    with monitor.bar("training the compressed network") as step:
        rest = schedule.epochs - before_epochs
        start.train(compressed, data, schedule, seed=seed + 1, epochs=rest, teacher=start.network, progress=step)
    final = start.score(compressed, data, data.validation)
    found = course.found() if course else {}
    return Outcome(
        network=compressed, residual=residual, before=before, after=after, final=final, residual_course=found, notes=notes
    )


def screened(start: Start, plan: CompressionPlan, *, seed: int) -> Score:
    """Validation score of the start network compressed by a plan, batch norms re-estimated, without any training."""
    compressed, _ = _compressed(start, start.network, plan)
    reestimate_batch_norm_(compressed, start.data, seed=seed)
    return start.score(compressed, start.data, start.data.validation)


def _compressed(start: Start, network: nn.Module, plan: CompressionPlan) -> tuple[nn.Module, str | None]:
    """The compressed network, and what the methods warned of."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        compressed = compress(network, plan, calibration_inputs(start), reference=start.network)
    messages = dict.fromkeys(str(warning.message) for warning in said if issubclass(warning.category, RuntimeWarning))
    return compressed, "; ".join(messages) or None


def _mean_residual(plan: CompressionPlan, total: float) -> float | None:
    sites = [name for name, choice in plan.sites.items() if METHODS[choice.method].regularizable]
    return total / len(sites) if sites else None
