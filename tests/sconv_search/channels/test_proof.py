"""What a network returns is compared wherever in its output it lies, in numbers of a type that it computes with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sconv_search.cost.packing import PackedNetwork
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


IMAGE = 5
"""Channels of an image: a number that no pruned layer is left with."""


class Cast(Chain):
    """A chain whose forward does something with the type of its numbers first."""

    def __init__(self, cast: Callable[[Tensor], Tensor]) -> None:
        super().__init__(lambda result, feature: result)
        self.cast, self.first = cast, nn.Conv2d(IMAGE, 8, 3)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.cast(self.second(self.cast(self.first(self.cast(x))))).relu())


def only_single(x: Tensor) -> Tensor:
    if x.dtype != torch.float32:
        raise TypeError("float32 alone")
    return x


@pytest.mark.parametrize(
    "cast",
    [
        lambda x: x.float() / 255,
        lambda x: x.to(torch.float32).tanh(),
        lambda x: x.to(dtype=torch.float32).tanh(),
        lambda x: x @ torch.ones(x.shape[-1], x.shape[-1]) if x.shape[1] == IMAGE else x,
        only_single,
    ],
    ids=["float", "to", "to dtype", "product with float32", "refuses float64"],
)
def test_a_forward_that_asks_for_float32_is_pruned(cast: Callable[[Tensor], Tensor]) -> None:
    assert set(METHOD.options(Cast(cast).eval())) == {"first", "second"}


def test_a_defect_is_found_in_float32_too() -> None:
    def normed(x: Tensor) -> Tensor:
        return only_single(x) / (1 + x.abs().mean(1, keepdim=True) * 1e-2)

    assert METHOD.options(Cast(normed).eval()) == {}


def test_a_packed_network_in_another_type_gets_its_inputs_in_that_type() -> None:
    network = nn.Bilinear(3, 2, 4)
    packed = PackedNetwork(network, (torch.randn(2, 3), torch.randn(2, 2)))
    assert packed.double()(torch.randn(5, 5, dtype=torch.float64)).dtype == torch.float64


def test_what_is_done_where_gradients_are_enabled_is_followed_too() -> None:
    network = Cast(lambda x: x * torch.ones(1, 8, 1, 1) if torch.is_grad_enabled() and x.shape[1] == 8 else x)
    assert METHOD.options(network.eval()) == {}
