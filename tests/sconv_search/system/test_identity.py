from __future__ import annotations

import copy
import functools
import gc
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sconv_search.system.cache import architecture, network_content, unwritten_content
from sconv_search.system.identity import lasting_sha256

ROOT = Path(__file__).parents[3]


class Between(nn.Module):
    """Two layers, and whatever it is given, between them."""

    def __init__(self, given: object) -> None:
        super().__init__()
        self.first, self.second, self.given = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1), given

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 2, H, W)."""
        return self.second(self.given(self.first(x)) if callable(self.given) else self.first(x))


class Setting:
    """An object without a representation of its own."""

    def __init__(self, value: object) -> None:
        self.value = value


def rolled(by: int) -> Callable[[Tensor], Tensor]:
    return lambda x: x.roll(by, 1) if by else x


OTHERS = {
    "number": (1, 2),
    "kind of number": (1, True),
    "object": (Setting(1), Setting(2)),
    "nested": ({"a": [Setting((1, 2))]}, {"a": [Setting((1, 3))]}),
    "tensor": (torch.zeros(3), torch.ones(3)),
    "array": (np.zeros(3), np.ones(3)),
    "set": ({"a", "b"}, {"a", "c"}),
    "deque": (deque([1]), deque([2])),
    "partial": (functools.partial(torch.roll, shifts=1), functools.partial(torch.roll, shifts=2)),
    "closure": (rolled(1), rolled(2)),
    "layer in a list": ([nn.Conv2d(1, 1, 1, stride=1)], [nn.Conv2d(1, 1, 1, stride=2)]),
}


@pytest.mark.parametrize(("one", "other"), OTHERS.values(), ids=OTHERS)
def test_networks_are_told_apart_by_all_that_they_hold_and_copies_are_equal(one: object, other: object) -> None:
    first, second = Between(one), Between(other)
    assert architecture(first) == architecture(copy.deepcopy(first))
    assert architecture(first) != architecture(second)
    assert hash(architecture(first)) == hash(architecture(copy.deepcopy(first)))


def test_an_object_that_holds_itself_is_described() -> None:
    setting = Setting(1)
    setting.value = [setting]
    network = Between(setting)
    assert architecture(network) == architecture(copy.deepcopy(network))


def test_a_function_at_the_address_of_one_that_is_gone_is_another() -> None:
    """The key keeps its functions, so that their addresses are not given away again."""
    known = {architecture(Between(rolled(0)))}
    gc.collect()
    kept = []
    for _ in range(100):
        kept.append(Between(rolled(1)))
        assert architecture(kept[-1]) not in known


def test_weights_in_layers_that_are_not_registered_count() -> None:
    network = Between([nn.Conv2d(1, 1, 1)])
    before = network_content(network)
    with torch.no_grad():
        network.given[0].weight.add_(1)  # type: ignore[index]
    assert network_content(network) != before


def test_a_layer_that_is_used_twice_is_no_two_layers() -> None:
    layer = nn.Conv2d(3, 3, 1)
    assert architecture(nn.Sequential(layer, layer)) != architecture(nn.Sequential(layer, copy.deepcopy(layer)))


SCRIPT = """
import torch
from torch import nn
from sconv_search.system.cache import architecture
from sconv_search.system.identity import lasting_sha256
class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.tags, self.act = nn.Conv2d(3, 4, 3), {"one", "two", "three"}, torch.relu
print(lasting_sha256(architecture(Own())))
"""


def test_files_know_a_network_in_another_process() -> None:
    """Whatever the order in which sets come there, and wherever objects lie."""
    found = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True
        )
        found.add(done.stdout)
    assert len(found) == 1


def forward_one(self: nn.Module, x: Tensor) -> Tensor:
    return x + 1


def forward_two(self: nn.Module, x: Tensor) -> Tensor:
    return x + 2


def test_files_tell_networks_of_one_name_and_other_sources_apart() -> None:
    class Own(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 1

    first = Own

    class Own(nn.Module):  # type: ignore[no-redef]
        def forward(self, x: Tensor) -> Tensor:
            return x + 2

    def patched(forward: object) -> nn.Module:
        network = nn.Identity()
        network.forward = forward.__get__(network)  # type: ignore[attr-defined, method-assign]
        return network

    assert lasting_sha256(architecture(patched(forward_one))) != lasting_sha256(architecture(patched(forward_two)))
    assert lasting_sha256(architecture(patched(forward_one))) == lasting_sha256(
        architecture(copy.deepcopy(patched(forward_one)))
    )
    assert lasting_sha256(architecture(first())) == lasting_sha256(architecture(first()))
    assert lasting_sha256(architecture(first())) != lasting_sha256(architecture(Own()))


def test_inputs_that_share_their_memory_with_numpy_are_read_each_time() -> None:
    """Writing to an array leaves no trace in the tensor."""
    array = np.zeros(4, dtype=np.float32)
    inputs, other = torch.from_numpy(array), torch.zeros(4)
    before = unwritten_content(inputs)
    array[0] = 1
    assert unwritten_content(inputs) != before
    before, view = unwritten_content(other), other.numpy()
    view[0] = 1
    assert unwritten_content(other) != before
