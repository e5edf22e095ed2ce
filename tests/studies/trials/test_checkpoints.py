"""Searches, confirmations and dense trainings that are killed within a training go on at the step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sconv_search import Choice, CompressionPlan, TrialRecord
from sconv_search.studies import RunFolder, StudyContext, StudySpec, Task, confirm, context_from_task
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.search.runner import search
from sconv_search.studies.trials.checkpoints import RunCheckpoints, TrialCheckpoints
from sconv_search.studies.trials.request import Outcome
from sconv_search.studies.trials.trial import run_trial
from sconv_search.training.loop import Progress
from sconv_search.training.schedule import Schedule

PLAN = CompressionPlan(sites={"3": Choice(method="structured_conv", structure={"c": 5, "n": 2})})


class Killed(BaseException):
    """Stands for SIGKILL: nothing may catch it."""


class Killing(Monitor):
    """Ends the process, as it were, after so many steps of all trainings together."""

    def __init__(self, steps: int | None = None) -> None:
        self.left, self.lines = steps, list[str]()

    def say(self, text: str) -> None:
        self.lines.append(text)

    @contextmanager
    def bar(self, label: str) -> Iterator[Progress]:
        yield self.step if "train" in label or "dense" in label else (lambda done, total: None)

    def step(self, done: int, total: int) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise Killed

    @property
    def resumed(self) -> list[str]:
        return [line.split(" from ")[0] for line in self.lines if line.startswith("resumed")]


def lived(context: StudyContext, monitor: Monitor, checkpoints: TrialCheckpoints | None) -> Outcome:
    schedule = Schedule(epochs=2, batch_size=32, learning_rate=0.05)
    return run_trial(
        context,
        PLAN,
        schedule,
        seed=0,
        regularization=0.5,
        regularized_share=0.5,
        monitor=monitor,
        watch_compression=True,
        checkpoints=checkpoints,
    )


def test_a_life_killed_in_both_phases_is_that_of_an_uninterrupted_one(context: StudyContext, tmp_path: Path) -> None:
    """Of eight steps each; the residuals that were seen, and the time that was spent, go on, too."""
    kept = RunCheckpoints(folder=tmp_path, every_s=0).of("trial-0", context, PLAN, 0.5, 0.5)
    expected, last = lived(context, Monitor(), None), Killing()
    for steps in (5, 7):
        with pytest.raises(Killed):
            lived(context, Killing(steps), kept)
    found = lived(context, last, kept)
    assert last.resumed == ["resumed at step 8", "resumed at step 4"]
    assert (found.residual, found.before, found.after, found.final) == (
        expected.residual,
        expected.before,
        expected.after,
        expected.final,
    )
    assert found.residual_course == expected.residual_course
    for (name, one), other in zip(
        found.network.state_dict().items(), expected.network.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name


def facts(records: list[TrialRecord]) -> list[tuple[object, ...]]:
    return [(r.number, r.plan, r.regularization, r.val_score, r.val_loss, r.residual, r.status) for r in records]


def test_a_killed_search_goes_on_at_the_step(context: StudyContext, spec: StudySpec, folder: RunFolder) -> None:
    expected, last = search(context, spec, RunFolder(folder.path.parent / "whole")), Killing()
    for steps in (5, 9):
        with pytest.raises(Killed):
            search(context, spec, folder, Killing(steps), checkpoint_s=0)
        assert folder.checkpoints.is_dir()
    (folder.checkpoints / "trial-77").mkdir()  # of one that does not come again
    assert facts(search(context, spec, folder, last, checkpoint_s=0)) == facts(expected)
    assert last.resumed
    assert not folder.checkpoints.exists()


def test_a_killed_confirmation_gives_the_same_weights(
    context: StudyContext, spec: StudySpec, folder: RunFolder
) -> None:
    search(context, replace(spec, trials=1), folder)
    whole = RunFolder(folder.path.parent / "whole")
    search(context, replace(spec, trials=1), whole)
    confirm(context, [whole], seeds=1, most=1)
    with pytest.raises(Killed):
        confirm(context, [folder], seeds=1, most=1, monitor=Killing(11), checkpoint_s=0)
    last = Killing()
    confirm(context, [folder], seeds=1, most=1, monitor=last, checkpoint_s=0)
    assert last.resumed[0] == "resumed at step 3"
    assert not folder.checkpoints.exists()
    saved = sorted((whole.path / "confirmed").glob("*/weights.safetensors"))
    assert len(saved) == 4
    for file in saved:
        again = load_file(folder.path / file.relative_to(whole.path))
        assert all(torch.equal(tensor, again[name]) for name, tensor in load_file(file).items())


def test_a_killed_training_of_the_dense_network_goes_on(task: Task, context: StudyContext, tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    with pytest.raises(Killed):
        context_from_task(
            task, data=None, weights=None, cache=tmp_path, device=cpu, monitor=Killing(30), checkpoint_s=0
        )
    assert [path.suffix for path in tmp_path.glob("corners-seed0-*")] == [".checkpoint"]
    last = Killing()
    again = context_from_task(task, data=None, weights=None, cache=tmp_path, device=cpu, monitor=last, checkpoint_s=0)
    assert last.resumed == ["resumed at step 30"]
    assert again.weights_sha256 == context.weights_sha256
    assert [path.suffix for path in tmp_path.glob("corners-seed0-*")] == [".safetensors"]


def test_a_checkpoint_of_another_plan_is_not_resumed(context: StudyContext, tmp_path: Path) -> None:
    run, last = RunCheckpoints(folder=tmp_path, every_s=0), Killing()
    with pytest.raises(Killed):
        lived(context, Killing(5), run.of("trial-0", context, CompressionPlan(sites={}), 0.5, 0.5))
    (file,) = (tmp_path / "trial-0").iterdir()
    content = file.read_bytes()
    lived(context, last, run.of("trial-0", context, PLAN, 0.5, 0.5))
    assert any(
        "is of another training, which differs in plan; the training starts afresh" in line for line in last.lines
    )
    assert not last.resumed
    assert file.with_name(f"{file.name}.refused1").read_bytes() == content, "nothing is overwritten"


def test_negative_seconds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="seconds between checkpoints must not be below 0, got -1"):
        RunCheckpoints(folder=tmp_path, every_s=-1)
