"""Where the trainings of a run keep their state, so that a killed command continues at the step."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree
from typing import Any

from sconv_search.plan import CompressionPlan
from sconv_search.studies.context import StudyContext
from sconv_search.training.checkpoint import Checkpoint, Stopwatch, Watched
from sconv_search.training.remote_files import SomeFile, file_at, write_file
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

    folder: SomeFile
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

    folder: SomeFile
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

    def forget(self, name: str) -> None:
        """Drops those of a trial that is over."""
        folder = self.folder / name
        if not isinstance(folder, Path):
            folder.unlink(missing_ok=True)
        elif folder.is_dir():
            rmtree(folder)


def shared_checkpoints(address: str, run: str, every_s: float) -> RunCheckpoints:
    """The checkpoints of a run in a folder that all nodes see.

    Raises:
        OSError: the folder cannot be written.
        ValueError: the address cannot be used, or the seconds are negative.
    """
    here = address if "://" in address else os.path.abspath(address)  # nodes work in folders of their own
    folder = file_at(here) / run
    probe = folder / "writable"
    write_file(probe, b"")
    probe.unlink()
    return RunCheckpoints(folder=folder, every_s=every_s)
