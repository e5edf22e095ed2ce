"""A training takes a whole GPU until peaks of memory are known, and then as small a part as they allow."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from sconv_search.studies.commands.processes import placement_of
from sconv_search.studies.executors.gpu_memory import CONTEXT_BYTES, MeasuredGpus, gpus_for, peak_share
from sconv_search.studies.options.shared import ManyMachines


@pytest.mark.parametrize(("share", "jobs"), [(0.9, 1), (0.41, 1), (0.39, 2), (0.1, 8), (0.01, 80), (1.2, 1)])
def test_so_many_share_a_gpu_as_have_room_and_a_quarter_to_spare(share: float, jobs: int) -> None:
    assert gpus_for(share) == 1 / jobs
    assert jobs == 1 or 1.25 * share * jobs <= 1


def test_the_greatest_peak_of_all_decides() -> None:
    gpus = MeasuredGpus(None)
    assert gpus.each == 1.0
    assert gpus.learn_(0.0) is None, "a training that failed before it took any"
    assert gpus.each == 1.0
    assert gpus.learn_(0.2) == "trainings took up to 20% of a GPU's memory; from now on 4 share one"
    assert gpus.each == 0.25
    assert gpus.learn_(0.1) is None
    assert gpus.learn_(0.35) == "trainings took up to 35% of a GPU's memory; from now on 2 share one"
    assert gpus.each == 0.5


@pytest.mark.parametrize("given", [0.0, 0.5, 2.0])
def test_what_is_given_is_kept(given: float) -> None:
    gpus = MeasuredGpus(given)
    assert gpus.learn_(0.01) is None
    assert gpus.each == given


def test_a_peak_is_what_torch_reserved_and_what_cuda_takes_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    assert peak_share() == 0.0 or torch.cuda.is_available()
    known: dict[str, Callable[..., object]] = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "max_memory_reserved": lambda: 4 * CONTEXT_BYTES,
        "get_device_properties": lambda index: SimpleNamespace(total_memory=10 * CONTEXT_BYTES),
    }
    for name, answer in known.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    assert peak_share() == 0.5


@pytest.mark.parametrize(("device", "given", "gpus"), [("cpu", None, 0.0), ("cuda", None, None), ("cuda", 0.5, 0.5)])
def test_the_device_says_whether_gpus_are_measured(device: str, given: float | None, gpus: float | None) -> None:
    placement = placement_of(ManyMachines(cluster="ray", trial_gpus=given), torch.device(device), 1)
    assert placement.cluster is not None
    assert placement.cluster.gpus == gpus
