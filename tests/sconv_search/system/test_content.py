"""Keys by content: equal for copies, different wherever a forward could differ."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from sconv_search.system.cache import architecture
from sconv_search.system.content import content_of


@dataclass
class Options:
    depth: int
    names: list[str]


class Slots:
    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value


def adding(number: float) -> Callable[[float], float]:
    return lambda x: x + number


def looped(number: int) -> list[object]:
    found: list[object] = [number]
    found.append(found)
    return found


PAIRS = {
    "number": (1, 2),
    "number of another type": (1, 1.0),
    "truth": (True, 1),
    "text": ("a", "b"),
    "list": ([1, [2]], [1, [3]]),
    "list and tuple": ([1], (1,)),
    "dict": ({"a": 1}, {"a": 2}),
    "set": ({1, 2}, {1, 3}),
    "slice": (slice(1), slice(2)),
    "tensor": (torch.ones(2), torch.zeros(2)),
    "type of tensor": (torch.ones(2), torch.ones(2).half()),
    "closure": (adding(1), adding(2)),
    "code": (lambda x: x + 1, lambda x: x - 1),
    "default": (lambda x, k=1: x + k, lambda x, k=2: x + k),
    "partial": (functools.partial(max, 1), functools.partial(max, 2)),
    "object": (Options(1, ["a"]), Options(1, ["b"])),
    "slots": (Slots(1), Slots(2)),
    "cycle": (looped(1), looped(2)),
    "method": (Options(1, []).__repr__, Options(2, []).__repr__),
}


@pytest.mark.parametrize("kind", PAIRS)
def test_equal_for_equal_content_and_no_other(kind: str) -> None:
    one, other = PAIRS[kind]
    assert content_of(one) == content_of(copy.deepcopy(one))
    assert hash(content_of(one)) == hash(content_of(copy.deepcopy(one)))
    assert content_of(one) != content_of(other)


def test_closures_of_equal_content_are_equal_wherever_they_are() -> None:
    assert content_of(adding(1)) == content_of(adding(1))


def test_an_object_of_unknown_content_is_itself_alone_and_kept_alive() -> None:
    keys = {content_of(object()) for _ in range(100)}
    assert len(keys) == 100
    generator = torch.Generator()
    assert content_of(generator) == content_of(generator)


class Net(nn.Module):
    factor = 2

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.function = nn.Conv2d(3, 4, 1), function
        self.around = [self]  # a cycle

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.conv(x)) * self.factor


def test_networks_are_told_apart_by_what_they_enclose_and_by_what_their_class_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def shifted(k: int) -> nn.Module:
        return Net(lambda x: x.roll(k, 1))

    assert architecture(shifted(1)) == architecture(shifted(1)) == architecture(copy.deepcopy(shifted(1)))
    assert architecture(shifted(1)) != architecture(shifted(2))
    before = architecture(shifted(1))
    monkeypatch.setattr(Net, "factor", 3)
    assert architecture(shifted(1)) != before
    monkeypatch.undo()
    assert architecture(shifted(1)) == before
    monkeypatch.setattr(Net, "forward", lambda self, x: self.conv(x))
    assert architecture(shifted(1)) != before


def test_tying_and_sharing_are_a_part_of_the_architecture() -> None:
    apart, tied = (nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)) for _ in range(2))
    tied[1].weight = tied[0].weight
    shared = nn.Sequential(tied[0], tied[0])
    assert len({architecture(network) for network in (apart, tied, shared)}) == 3


def test_lazy_and_meta_networks_have_a_key_too() -> None:
    lazy, plain = nn.Sequential(nn.LazyConv2d(8, 3)), nn.Sequential(nn.Conv2d(3, 8, 3))
    assert architecture(lazy) != architecture(plain)
    assert architecture(copy.deepcopy(plain).to("meta")) == architecture(plain)
