"""Two processes over gloo, on the CPU, started by Lightning Fabric's launcher: 25 s on a busy machine, most of it
imports.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sconv_search.data.shard import Shard
from sconv_search.training import distributed
from sconv_search.training.process_group import SINGLE_PROCESS, ProcessGroup
from tests.sconv_search.training.two_processes import CASES, trained

ROOT = Path(__file__).parents[3]
pytest.importorskip("lightning_fabric")
Weights = dict[str, dict[str, Tensor]]


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "tests" / "two_processes.py"), str(folder)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1800, check=False)


@pytest.fixture(scope="module")
def by_two(tmp_path_factory: pytest.TempPathFactory) -> list[Weights]:
    """The weights of all cases in each process."""
    folder = tmp_path_factory.mktemp("two")
    done = run(folder)
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"{place}.pt", weights_only=True) for place in (0, 1)]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_come_to_the_weights_of_one_with_the_same_global_batch(case: str, by_two: list[Weights]) -> None:
    expected = trained(CASES[case])
    for found in by_two:
        assert list(found[case]) == list(expected)
        for name, tensor in expected.items():
            torch.testing.assert_close(
                found[case][name], tensor, rtol=0, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
            )


@pytest.mark.slow
def test_the_processes_agree_bit_for_bit(by_two: list[Weights]) -> None:
    one, other = by_two
    assert all(torch.equal(one[case][name], other[case][name]) for case in CASES for name in one[case])


def test_the_cases_depend_on_what_they_are_named_after() -> None:
    plain, *others = (
        trained(CASES[name]) for name in ("crops and flips", "penalty", "penalty, in parts", "average", "teacher")
    )
    for other in others:
        assert not torch.allclose(plain["3.weight"], other["3.weight"], rtol=0, atol=1e-3)


@pytest.mark.slow
def test_a_process_that_fails_alone_ends_all_with_its_reason(tmp_path: Path) -> None:
    done = run(tmp_path / "alone")
    assert done.returncode != 0
    assert "OutOfStep: process 1 of 2 is alone; it failed: an image of mine is damaged" in done.stderr


def test_a_batch_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="a batch of 16 images does not fall into equal shares for 3 processes"):
        trained(CASES["penalty"], ProcessGroup(Shard(index=1, count=3)))


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    with pytest.raises(ValueError, match=r"pip install 'sconv-search\[distributed\]'"):
        distributed.launch(2, torch.device("cpu"))


def test_devices_that_are_not_there_are_refused() -> None:
    if torch.cuda.is_available():
        pytest.skip("there are GPUs here")
    with pytest.raises(ValueError, match="2 devices of kind 'cuda' cannot be used"):
        distributed.launch(2, torch.device("cuda"))


def test_one_process_alone_agrees_with_itself() -> None:
    assert SINGLE_PROCESS.is_main
    assert SINGLE_PROCESS.broadcast("value") == "value"
    with SINGLE_PROCESS.in_step("order"), SINGLE_PROCESS.synchronized():
        assert SINGLE_PROCESS.all_reduce(torch.tensor(2.0)) == 2
