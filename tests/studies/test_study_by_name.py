"""Studies that a file of the user's makes, named on the command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import sconv_search as ss
from sconv_search.studies import cli
from sconv_search.studies.commands.sites import sites
from sconv_search.studies.options.shared import Layers
from sconv_search.studies.tasks import task_named

FILE = """
import torch
from torch import nn
import sconv_search as ss


def study():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv1d(2, 8, 5, padding=2), nn.ReLU(), nn.Conv1d(8, 8, 5, padding=2), nn.Conv1d(8, 1, 1))
    x = torch.randn(32, 2, 20, generator=torch.Generator().manual_seed(1))
    batches = [(part, part[:, :1].roll(1, 2)) for part in x.split(8)]
    error = lambda network: float((network(x) - x[:, :1].roll(1, 2)).square().mean().detach())
    short = ss.Schedule(epochs=1, learning_rate=0.01)
    return ss.Study(
        network, (2, 20), out="unused", data=batches, loss=nn.functional.mse_loss, score=error, test=error,
        metric=ss.Metric("squared error", better="lower"), search_schedule=short, confirm_schedule=short,
    )
"""


@pytest.fixture(autouse=True)
def in_a_folder_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "mystudy.py").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    sys.modules.pop("mystudy", None)


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["sconv-search", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def test_a_function_that_returns_a_study_is_a_task_for_all_commands_and_for_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = ("--task", "mystudy:study")
    budget = ("--budget", "60%", "--method", "structured_conv")
    assert run(monkeypatch, "search", *named, *budget, "--trials", "2", "--workers", "2", "--out", "runs/a") == 0
    records = ss.RunFolder("runs/a").records()[0]
    assert [(r.status, r.metric, r.metric_better, r.task) for r in records] == [
        ("complete", "squared error", "lower", "mystudy:study")
    ] * 2
    assert run(monkeypatch, "confirm", "runs/a", *named, "--plans", "1", "--seeds", "1") == 0
    assert run(monkeypatch, "export", "runs/a", *named, "--to", "pt2") == 0
    assert list(Path("runs/a/exported").glob("searched-*.pt2"))


def test_its_network_is_not_trained_again_and_its_name_finds_it(capsys: pytest.CaptureFixture[str]) -> None:
    task = task_named("mystudy:study")
    assert (task.name, task.shape) == ("mystudy:study", (2, 20))
    assert task.trained_network is not None
    sites("mystudy:study", shape=None, method=["structured_conv"], layers=Layers(), as_json=True)
    assert json.loads(capsys.readouterr().out)["input_shape"] == [2, 20]


def test_a_function_that_returns_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mystudy.py").write_text("def study():\n    return 3\n")
    with pytest.raises(TypeError, match=r"should return a studies\.Task or studies\.Study"):
        task_named("mystudy:study")
