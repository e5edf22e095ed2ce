"""The speed profile: each layer in the part of the network that it belongs to, and times that add up."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmarks.speed.profile import LEFT, PARTS, REST, SMALL, SUMS, profile, roles


def network() -> nn.Module:
    """A structured layer made ready, as sums and a small convolution, between two dense layers."""
    ready = nn.Sequential(nn.AvgPool2d(2, 1, 1), nn.Conv2d(8, 4, 2))
    return nn.Sequential(nn.Conv2d(3, 8, 3), ready, nn.Flatten(), nn.Linear(4 * 36, 2))


def test_layers_belong_to_the_parts_that_they_are() -> None:
    assert roles(network(), ["1"]) == {"0": LEFT, "1.0": SUMS, "1.1": SMALL, "3": LEFT}
    assert roles(network(), []) == {"0": LEFT, "1.1": LEFT, "3": LEFT}


def test_the_parts_add_up_to_the_whole_and_macs_are_counted_by_shape() -> None:
    times, macs = profile(network(), torch.randn(5, 3, 8, 8), ["1"], rounds=1)
    assert sum(times[part].median for part in PARTS) == pytest.approx(times["whole"].median)
    assert all(times[part].median > 0 for part in (SMALL, SUMS, LEFT, REST))
    assert macs == {LEFT: 8 * 36 * 27 + 2 * 144, SMALL: 4 * 36 * 32}
