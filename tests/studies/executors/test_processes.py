"""Searches by several processes: spawned ones import torch for seconds, so that two tests at most start any."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn

import sconv_search.studies.executors.processes
from sconv_search.data.splits import DataSet, Split
from sconv_search.studies import RunFolder, StudyContext, StudySpec
from sconv_search.studies.executors.placement import Placement
from sconv_search.studies.executors.sending import sendable
from sconv_search.studies.search.runner import search
from sconv_search.studies.trials.trial import TrialEvaluator
from sconv_search.system.parent_watch import EndingWithParent
from sconv_search.training.evaluation import Score

ROOT = Path(__file__).parents[3]
TWO = Placement(workers=2)
NOTE = "SCONV_SEARCH_TEST_NOTES"
"""Environment variable that names a folder: what spawned processes leave there outlives them."""


def no_training(network: nn.Module, *args: object, **options: object) -> None:
    """Leaves the network as it is."""


def by_parameters(network: nn.Module, data: DataSet, split: Split) -> Score:
    return Score(value=sum(weight.numel() for weight in network.parameters()) % 100, loss=1.0)


def dies_once(network: nn.Module, *args: object, **options: object) -> None:
    """Kills its process at the first call of all processes together."""
    try:
        (Path(os.environ[NOTE]) / "died").touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spawned processes find this module under the name by which it is imported here."""
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.mark.usefixtures("importable")
def test_a_worker_that_dies_is_replaced_and_its_trial_runs_once_more(
    context: StudyContext, spec: StudySpec, folder: RunFolder, notes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NOTE, str(tmp_path))
    records = search(
        replace(context, train=dies_once, score=by_parameters), replace(spec, trials=4), folder, notes, placement=TWO
    )
    assert [r.status for r in records] == ["complete"] * 4
    assert len({r.number for r in records}) == 4, "what was suggested before takes a number, too"
    assert len({(r.plan, r.regularization) for r in records}) == 4
    assert (
        len([line for line in notes.lines if "its worker process ended with exit code -9; it runs once more" in line])
        == 1
    )
    assert not multiprocessing.active_children()


class Doomed:
    """In place of a worker: dies when it is given a job, or has died before."""

    exitcode, idle_deaths, made = -9, 0, 0

    def __init__(self, sent: object) -> None:
        self.pipe, self._theirs = multiprocessing.Pipe()
        self.process, send = self, self.pipe.send
        Doomed.made += 1
        if Doomed.made <= Doomed.idle_deaths:
            self._theirs.close()

        class Pipe:
            fileno, recv = self.pipe.fileno, self.pipe.recv

            @staticmethod
            def send(request: object) -> None:
                send("a job")
                self._theirs.close()

        self.pipe = Pipe()  # type: ignore[assignment]

    def join(self) -> None:
        pass

    kill = join


def test_a_trial_whose_worker_dies_twice_fails_with_the_exit_code_and_idle_deaths_do_not_count(
    context: StudyContext, spec: StudySpec, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two first workers have died before they are given anything."""
    monkeypatch.setattr(Doomed, "idle_deaths", 2)
    monkeypatch.setattr(Doomed, "made", 0)
    monkeypatch.setattr(sconv_search.studies.executors.processes, "_Worker", Doomed)
    with pytest.raises(RuntimeError, match="the last because: its worker process ended with exit code -9, 2 times"):
        search(context, spec, folder, placement=TWO)
    records = folder.records()[0]
    assert [(r.status, r.reason) for r in records] == [
        ("failed", "its worker process ended with exit code -9, 2 times")
    ] * 3


@pytest.mark.usefixtures("importable")
def test_ctrl_c_leaves_no_process_behind(
    context: StudyContext, spec: StudySpec, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def interrupted(pipes: list[object]) -> list[object]:
        seen.append(sum(isinstance(child, EndingWithParent) for child in multiprocessing.active_children()))
        raise KeyboardInterrupt

    monkeypatch.setattr(sconv_search.studies.executors.processes, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        search(replace(context, train=no_training, score=by_parameters), spec, folder, placement=TWO)
    assert seen == [2]
    assert not multiprocessing.active_children()


class Unpicklable(nn.Sequential):
    def __reduce__(self) -> str:
        raise TypeError("cannot pickle 'generator' object")


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda context: replace(context, network=Unpicklable(*context.network)), "network"),
        (lambda context: replace(context, score=lambda *args: Score(value=0.0, loss=1.0)), "score"),
        (lambda context: replace(context, train=lambda *args, **options: None), "train"),
    ],
    ids=["network", "score", "train"],
)
def test_what_cannot_be_sent_to_workers_is_refused_before_anything_is_made(
    context: StudyContext, spec: StudySpec, folder: RunFolder, change: Callable[[StudyContext], StudyContext], part: str
) -> None:
    with pytest.raises(
        TypeError, match=f"several workers need a {part} that can be pickled .*at the top of a module, no lambda"
    ):
        search(change(context), spec, folder, placement=TWO)
    assert not folder.path.exists()


@pytest.mark.parametrize("count", [0, -1])
def test_a_number_of_workers_that_cannot_be_is_refused(
    context: StudyContext, spec: StudySpec, folder: RunFolder, count: int
) -> None:
    with pytest.raises(ValueError, match=f"the number of workers must be at least 1, got {count}"):
        search(context, spec, folder, placement=Placement(workers=count))
    assert not folder.path.exists()


def test_what_is_sent_leaves_out_the_tasks_builders(context: StudyContext) -> None:
    """They may be functions that cannot be sent; a worker that called them would say so."""
    spec = StudySpec(
        task="any",
        methods=("spatial_svd",),
        budget="50%",
        trials=1,
        search_schedule=context.task.search_schedule,
        confirm_schedule=context.task.confirm_schedule,
    )
    evaluator = TrialEvaluator(context=context, spec=spec, study="s", dense=None)  # type: ignore[arg-type]
    task = sendable(evaluator).context.task
    with pytest.raises(RuntimeError, match="a worker evaluates the network that it was given"):
        task.network()
    with pytest.raises(RuntimeError, match="a worker evaluates on the data that it was given"):
        task.data(None, False)
