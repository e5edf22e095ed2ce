"""What a trial is asked for, and what it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from sconv_search.budget import Budgets
from sconv_search.plan import CompressionPlan
from sconv_search.records import Cost
from sconv_search.training.evaluation import Score
from sconv_search.training.schedule import Schedule


@dataclass(frozen=True, kw_only=True)
class TrialRequest:
    """A plan to be evaluated.

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
class TrialConfig:
    """How a network is trained and compressed; from one dense network, all processes come to the same by it.

    Args:
        regularization: weight that the penalty reaches; None compresses first and trains the compressed form alone.
        regularized_share: share of the epochs before compression, where there is a weight.
        watch_compression: also score the network just before and just after compression.
        reconstruction: images that pass each block in its training after compression; 0 trains no blocks.
    """

    plan: CompressionPlan
    schedule: Schedule
    seed: int
    regularization: float | None
    regularized_share: float
    watch_compression: bool = False
    reconstruction: int = 0

    @property
    def epochs_before(self) -> float:
        """Epochs of the phase before compression."""
        return self.schedule.epochs * self.regularized_share if self.regularization else 0.0


@dataclass(frozen=True, kw_only=True)
class Compressed:
    """A network compressed by a plan and fitted to the calibration inputs.

    Args:
        notes: what methods warned of meanwhile, such as a decomposition that fell back; None where nothing.
    """

    network: nn.Module
    notes: str | None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What training and compressing a network gave.

    Args:
        residual: mean relative residual of the regularizable sites when they were compressed; None where there are
            none.
        before: validation score just before compression; None where it was not asked for.
        after: the same just after compression.
        final: validation score at the end.
        notes: as in ``Compressed``.
        residual_course: ``epochs`` and, by site, the relative residual after each; empty where none was drawn or
            watched.
    """

    network: nn.Module
    residual: float | None
    before: Score | None
    after: Score | None
    final: Score
    residual_course: Mapping[str, Any] = field(default_factory=dict)
    notes: str | None = None
