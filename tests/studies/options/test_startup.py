"""Help, completion and the list of tasks load no large library, so that they answer at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sconv_search.studies.commands.tasks import COSTS, cost_of, measured, record_costs
from sconv_search.studies.tasks import TASKS, task_named

ROOT = Path(__file__).parents[3]
LARGE = ("torch", "torchvision", "timm", "optuna", "pandas", "matplotlib", "scipy", "numpy", "fvcore")


@pytest.mark.parametrize(
    "line",
    [
        ["--help"],
        ["--version"],
        ["search", "--help"],
        ["export", "--help"],
        ["tasks"],
        ["tasks", "demo", "--json"],
        ["serch"],
    ],
)
def test_commands_that_compute_nothing_load_no_large_library(line: list[str]) -> None:
    code = (
        "import atexit, sys\n"
        f"atexit.register(lambda: print('loaded:', *(name for name in {LARGE!r} if name in sys.modules)))\n"
        f"sys.argv = ['sconv-search', *{line!r}]\n"
        "from sconv_search.studies.cli import main\n"
        "main()"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert said.stdout.splitlines()[-1] == "loaded:", said.stdout + said.stderr


def test_the_recorded_costs_are_those_of_the_networks() -> None:
    assert json.loads(COSTS.read_text(encoding="utf-8")) == json.loads(record_costs()), (
        "write them anew: python -m sconv_search.studies.commands.tasks"
    )
    assert all(cost_of(task) == measured(task) for task in (TASKS["demo"], TASKS["cifar100/resnet32"]))


def test_a_network_of_ones_own_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)
    task = task_named("cifar10/resnet20@tests.studies.conftest:tiny_network")
    with pytest.raises(ValueError, match=r"fails on|channels"):
        cost_of(task)  # its input has two channels: the recorded cost of the task's own network is not taken
