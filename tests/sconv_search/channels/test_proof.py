"""What a network returns is compared wherever in its output it lies, in numbers of a type that it computes with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from torch import Tensor, nn

from sconv_search.studies.methods import METHODS

METHOD = METHODS["channel_pruning"]


@dataclass
class Fields:
    feature: Any


class Plain:
    def __init__(self, feature: Any) -> None:
        self.feature = feature


class Chain(nn.Module):
    """Two convolutions and a head, whose results the test puts into an output."""

    def __init__(self, output: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 4, 1)
        self.output = output

    def forward(self, x: Tensor) -> Any:
        feature = self.first(x)
        return self.output(self.head(self.second(feature)), feature)


@pytest.mark.parametrize("hold", [Fields, Plain, lambda feature: {"a": Plain(Fields(feature))}, Tensor.numpy])
def test_channels_that_are_returned_inside_an_object_stay(hold: Callable[[Tensor], Any]) -> None:
    network = Chain(lambda result, feature: (result, hold(feature.detach()))).eval()
    assert set(METHOD.options(network)) == {"second"}


@pytest.mark.parametrize("hold", [Fields, Plain])
def test_a_network_whose_whole_output_is_an_object_is_pruned(hold: Callable[[Tensor], Any]) -> None:
    assert set(METHOD.options(Chain(lambda result, feature: hold(result)).eval())) == {"first", "second"}
