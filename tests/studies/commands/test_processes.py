"""Commands on several devices."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.studies.conftest import SMALL, Typed

ROOT = Path(__file__).parents[3]


def test_several_devices_and_several_workers_are_refused(typed: Callable[..., Typed], tmp_path: Path) -> None:
    found = typed("search", "--task", "corners", *SMALL, "--devices", 2, "--workers", 2, "--out", tmp_path / "run")
    assert (found.status, found.err) == (
        2,
        "error: 2 devices train one network together, 2 workers one each; give --devices or --workers\n",
    )


def test_a_batch_that_does_not_divide_is_refused_before_anything_is_started(
    typed: Callable[..., Typed], tmp_path: Path
) -> None:
    found = typed("search", "--task", "corners", *SMALL, "--devices", 3, "--out", tmp_path / "run")
    assert (found.status, found.err) == (
        2,
        "error: a batch of 32 images does not fall into equal shares for 3 processes\n",
    )


TASK = """
from sconv_search.training.schedule import Schedule
from sconv_search.studies import Task
from tests.studies.conftest import tiny_data, tiny_network


def task():
    schedules = {f"{name}_schedule": Schedule(epochs=1, batch_size=32) for name in ("dense", "search", "confirm")}
    return Task(name="corners", network=tiny_network, data=tiny_data, input_shape=(2, 12, 12), **schedules)
"""


def command(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-m", "sconv_search.studies", *map(str, words)]
    return subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=1800, check=False)


@pytest.mark.slow
def test_two_processes_search_and_confirm_what_one_does(tmp_path: Path) -> None:
    """The dense network, trials and confirmations: plans are the same, scores those of nearly the same weights."""
    pytest.importorskip("lightning_fabric")
    (tmp_path / "mine.py").write_text(TASK)
    found = {}
    for devices in (1, 2):
        out = tmp_path / str(devices) / "run"
        flags = ("--devices", devices, "--device", "cpu", "--json")
        searched = command(
            tmp_path, "search", "--task", "mine:task", "--trials", 2, "--sampler", "random", "--out", out, *flags
        )
        assert searched.returncode == 0, searched.stderr
        assert json.loads(searched.stdout)["trials"]["complete"] == 2
        confirmed = command(tmp_path, "confirm", out, "--plans", 1, "--seeds", 1, *flags)
        assert confirmed.returncode == 0, confirmed.stderr
        assert "error" not in searched.stderr + confirmed.stderr
        found[devices] = [json.loads(line) for line in (out / "trials.jsonl").read_text().splitlines()]
    assert len(found[1]) == len(found[2]) == 6
    for one, two in zip(found[1], found[2], strict=True):
        assert one["plan"] == two["plan"]
        assert one["val_loss"] == pytest.approx(two["val_loss"], abs=1e-3)


@pytest.mark.slow
def test_wrong_input_on_two_devices_is_said_once(tmp_path: Path) -> None:
    pytest.importorskip("lightning_fabric")
    (tmp_path / "mine.py").write_text(TASK)
    found = command(
        tmp_path,
        "search",
        "--task",
        "mine:task",
        "--budget",
        "0.1%",
        "--out",
        "runs/a",
        "--devices",
        2,
        "--device",
        "cpu",
    )
    assert found.returncode == 2
    assert found.stderr.count("error:") == 1, found.stderr
