"""A task that trains in a fraction of a second: bright squares in one of four corners."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

import sconv_search.reports.page
import sconv_search.studies.search.runner
import sconv_search.studies.trials.rows
import sconv_search.studies.trials.trial
from sconv_search import CompressionPlan
from sconv_search.cost.network_inputs import Inputs
from sconv_search.data.splits import DataSet, Split
from sconv_search.search_space.space import SearchSpace
from sconv_search.studies import RunFolder, StudyContext, StudySpec, Task, cli, context_from_task, tasks
from sconv_search.studies.methods import compress
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.trials.request import Compressed, Outcome
from sconv_search.studies.trials.trial import TrialEvaluator
from sconv_search.training.evaluation import Score
from sconv_search.training.schedule import Schedule


def corners(count: int, seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (count,), generator=generator)
    images = torch.randint(0, 120, (count, 2, 12, 12), generator=generator, dtype=torch.uint8)
    for image, label in zip(images, labels.tolist(), strict=True):
        row, column = 6 * (label // 2), 6 * (label % 2)
        image[:, row + 1 : row + 5, column + 1 : column + 5] += 60
    return Split(images=images, labels=labels)


def tiny_network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 8, 1),
        nn.Flatten(),
        nn.Linear(8 * 36, 4),
    )


def tiny_data(folder: Path | None, train_was_seen: bool) -> DataSet:
    train, validation, test = corners(256, 0), corners(100, 1), corners(100, 2)
    return DataSet(
        name="corners", train=train, validation=validation, test=test, mean=(0.3, 0.3), std=(0.2, 0.2), crop_padding=1
    )


@pytest.fixture(scope="session")
def task() -> Task:
    short = Schedule(epochs=1, batch_size=32, learning_rate=0.05)
    return Task(
        name="corners",
        network=tiny_network,
        data=tiny_data,
        input_shape=(2, 12, 12),
        dense_schedule=Schedule(epochs=6, batch_size=32),
        search_schedule=short,
        confirm_schedule=short,
    )


@pytest.fixture(scope="session")
def context(task: Task, tmp_path_factory: pytest.TempPathFactory) -> StudyContext:
    cache = tmp_path_factory.mktemp("dense")
    return context_from_task(task, data=None, weights=None, cache=cache, device=torch.device("cpu"), monitor=Monitor())


@pytest.fixture
def spec(task: Task) -> StudySpec:
    return StudySpec(
        task=task.name,
        methods=("structured_conv",),
        budget="50%",
        trials=3,
        search_schedule=task.search_schedule,
        confirm_schedule=task.confirm_schedule,
    )


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


class Notes(Monitor):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture(autouse=True)
def latencies_from_parameters(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """A millisecond a parameter, not measured: three fifths of a tiny network's confirmation would be its timing.

    ``@pytest.mark.usefixtures("latencies_measured")`` leaves the measurement.
    """

    def given(networks: Sequence[nn.Module], inputs: Inputs, *, batch: int = 1) -> list[list[float]]:
        return [[float(sum(p.numel() for p in network.parameters()))] * 3 for network in networks]

    if "latencies_measured" not in request.fixturenames:
        monkeypatch.setattr(sconv_search.studies.trials.rows, "measure_ready_latencies_ms", given)


@pytest.fixture
def latencies_measured() -> None:
    """Asked for by tests of the times themselves."""


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Reports are their page, tables and data: to draw a hundred files takes longer than all the rest.

    ``@pytest.mark.usefixtures("pictures")`` leaves the files.
    """
    if "pictures" not in request.fixturenames:
        monkeypatch.setattr(sconv_search.reports.page, "USUAL_KINDS", ())


@pytest.fixture
def pictures() -> None:
    """Asked for by tests of all files of a report."""


@pytest.fixture(autouse=True)
def spaces_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches of one network by the same methods find its space measured: nothing in it depends on the study."""
    measure = sconv_search.studies.search.runner.measured_space

    def remembered(context: StudyContext, methods, monitor, selection, *, latency_batch, known, **others):
        key = (context.weights_sha256, context.data_sha256, tuple(methods), selection, others["given"])
        if latency_batch is not None or known:
            return measure(context, methods, monitor, selection, latency_batch=latency_batch, known=known, **others)
        if key not in _SPACES:
            _SPACES[key] = measure(context, methods, monitor, selection, latency_batch=None, known=known, **others)
        return _SPACES[key]

    monkeypatch.setattr(sconv_search.studies.search.runner, "measured_space", remembered)


_SPACES: dict[object, SearchSpace] = {}


def told(plan: CompressionPlan, regularization: float | None) -> Outcome:
    """An outcome that follows from the plan's text alone, without training; accuracies hardly ever tie."""
    digest = hashlib.sha256(f"{plan.to_json()} {regularization}".encode()).digest()
    top1 = int.from_bytes(digest[:4]) % 10_000 / 100
    return Outcome(
        network=nn.Identity(), residual=None, before=None, after=None, final=Score(value=top1, loss=2 - top1 / 100)
    )


_MEASURED: dict[object, tuple] = {}


class Unbuilt(nn.Identity):
    """Stands for the network of a plan that no test looks at."""

    def __init__(self, plan: CompressionPlan) -> None:
        super().__init__()
        self.plan = plan


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials take no time: what they give follows from the plan's text, and each plan is built and measured once."""
    evaluator = sconv_search.studies.trials.trial.TrialEvaluator
    measure = evaluator._measured

    def measured(self: TrialEvaluator, plan: CompressionPlan, built: nn.Module) -> tuple:
        key = (plan, self.spec.weights_sha256)
        if self.spec.times or key not in _MEASURED:
            _MEASURED[key] = measure(self, plan, compress(self.context.network, plan))
        return _MEASURED[key]

    monkeypatch.setattr(
        evaluator, "_compressed", lambda self, request, monitor: Compressed(network=Unbuilt(request.plan), notes=None)
    )
    monkeypatch.setattr(evaluator, "_measured", measured)
    monkeypatch.setattr(os, "fsync", lambda file: None)
    monkeypatch.setattr(
        sconv_search.studies.trials.trial,
        "run_trial",
        lambda context, plan, *args, regularization, **options: told(plan, regularization),
    )


SMALL = ("--trials", "2", "--epochs", "0.5", "--confirm-epochs", "0.5", "--device", "cpu")
"""Flags of a search of a second."""


@dataclass(frozen=True, kw_only=True)
class Typed:
    """What a command gave."""

    status: int
    out: str
    err: str


@pytest.fixture
def typed(task: Task, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Typed]:
    """Runs ``sconv-search`` with arguments; the tiny task is among those known."""
    monkeypatch.setattr(tasks, "TASKS", {task.name: task, **tasks.TASKS})
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: object) -> Typed:
        monkeypatch.setattr("sys.argv", ["sconv-search", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        captured = capsys.readouterr()
        return Typed(status=int(end.value.code or 0), out=captured.out, err=captured.err)

    return call
