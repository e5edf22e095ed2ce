"""Where the trainings of a run keep their state, so that a killed command continues at the step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sconv_search.plan import CompressionPlan
from sconv_search.studies.context import StudyContext
from sconv_search.training.checkpoint import Checkpoint, Stopwatch, Watched
from sconv_search.training.schedule import EVERY_S


@dataclass(frozen=True, kw_only=True)
class TrialCheckpoints:
    """The checkpoints of one trial or confirmation, a file a phase.

    Args:
        folder: of this trial alone.
        identity: what the trial is of: weights, data, plan.
        every_s: seconds between two writings.
        stopwatch: tells how long the trial took, all interrupted processes together.
    """

    folder: Path
    identity: Mapping[str, Any]
    every_s: float = EVERY_S
    stopwatch: Stopwatch = field(default_factory=Stopwatch)

    def of(self, phase: str, say: Callable[[str], None], watched: Watched | None = None) -> Checkpoint:
        """The checkpoint of a phase."""
        path, identity = self.folder / f"{phase}.safetensors", {**self.identity, "phase": phase}
        return Checkpoint(
            path=path, identity=identity, every_s=self.every_s, say=say, stopwatch=self.stopwatch, watched=watched
        )


@dataclass(frozen=True, kw_only=True)
class RunCheckpoints:
    """The checkpoints of a run's trials and confirmations, in a folder each.

    Raises:
        ValueError: the seconds are negative.
    """

    folder: Path
    every_s: float = EVERY_S

    def __post_init__(self) -> None:
        if not self.every_s >= 0:
            raise ValueError(f"seconds between checkpoints must not be below 0, got {self.every_s}")

    def of(
        self,
        name: str,
        context: StudyContext,
        plan: CompressionPlan,
        regularization: float | None,
        regularized_share: float,
    ) -> TrialCheckpoints:
        """Those of the trial that has this name in the run."""
        identity = {
            **context.identity,
            "plan": plan.to_json(),
            "regularization": regularization,
            "regularized_share": regularized_share,
        }
        return TrialCheckpoints(folder=self.folder / name, identity=identity, every_s=self.every_s)
