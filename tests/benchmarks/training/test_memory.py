"""Training a structured network takes no more memory than training the dense one."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from benchmarks.training.memory import lines, peaks
from benchmarks.training.peak_memory import live_peak_mib
from benchmarks.training.step import LAYERS, NETWORKS, forward, step, structured

BATCH, SIDE = 16, 32


def stack() -> nn.Module:
    """Six dense layers, each after a batch norm and a ReLU."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1)]
    for _ in range(6):
        layers += [nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()).to(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("words", LAYERS)
def test_a_step_peaks_no_higher_than_the_dense_one(words: str, dtype: torch.dtype) -> None:
    """Up to the sums of the one layer whose gradient is being computed; kept, those of all six come on top."""
    x = torch.randn(BATCH, 3, SIDE, SIDE).to(memory_format=torch.channels_last)
    y, bf16, found = torch.zeros(BATCH, dtype=torch.int64), dtype == torch.bfloat16, []
    for network in (stack(), structured(stack(), *LAYERS[words])):
        given = (network, x, y, bf16)
        found.append(peaks(network, partial(step, *given), partial(forward, *given)))
    (dense, _, dense_forward), (made, kept, passed) = found
    of_one_layer = BATCH * 16 * (SIDE + 1) ** 2 * dtype.itemsize / 2**20 + 0.1  # and kernels
    assert made <= dense + of_one_layer
    assert passed <= dense_forward + of_one_layer
    assert kept > 1.05 * made


def test_what_lives_at_one_time_is_counted() -> None:
    mib = 2**18  # of fp32

    def work() -> None:
        first = torch.zeros(mib)
        second = first + 1
        del first
        third = second + 1
        del second, third
        torch.zeros(mib)

    assert live_peak_mib(work) == pytest.approx(2, rel=0.01)


def test_a_table_begins_with_the_dense_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, "stack", (stack, (2, 3, 8)))
    (dense, *others) = lines("stack", "fp32")
    assert (dense[2], dense[4], dense[5], dense[7]) == ("dense", "1.00", "1.00", "1.00")
    assert [line[2] for line in others] == list(LAYERS)
