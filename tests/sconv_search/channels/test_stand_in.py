"""A layer whose weights are not its own keeps its channels, and those of other layers are followed all the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from sconv_search.channels.groups import dependencies


class Doubled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


def parametrized_bias(layer: nn.Module) -> None:
    parametrize.register_parametrization(layer, "bias", Doubled())


def clamped(read: Callable[[nn.Module], Tensor]) -> Callable[[nn.Module], None]:
    def hook(layer: nn.Module, given: Any) -> None:
        with torch.no_grad():
            read(layer).clamp_(-0.1, 0.1)

    return lambda layer: layer.register_forward_pre_hook(hook) and None


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: prune.random_unstructured(layer, "bias", 0.5),
        lambda layer: prune.random_unstructured(layer, "weight", 0.5),
        parametrized_bias,
        parametrizations.weight_norm,
        clamped(lambda layer: layer.weight),
        clamped(lambda layer: layer.weight.data),
        clamped(lambda layer: layer.bias),
    ],
    ids=["mask of bias", "mask", "parametrized bias", "weight norm", "clamped", "clamped .data", "clamped bias"],
)
def test_one_odd_layer_keeps_its_channels_and_those_it_reads(change: Callable[[nn.Module], Any]) -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 4, 1)
    ).eval()
    change(network[2])
    known = dependencies(network)
    assert list(known.groups) == ["0", "3"]
    assert "computed" in known.left_out["2"] or "read outside" in known.left_out["2"]
