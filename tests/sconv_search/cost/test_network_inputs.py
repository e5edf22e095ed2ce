"""Tensors of a network's output are found in whatever it returns."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from sconv_search.cost.network_inputs import output_leaves, output_tensors, output_values


@dataclass
class Fields:
    feature: Any
    more: Any = field(default=None)


class Plain:
    def __init__(self, held: Any) -> None:
        self.held = held


class Named(OrderedDict[str, Any]):
    """A dict of its own kind, which torch does not look into."""


def test_tensors_are_found_in_containers_dataclasses_and_objects_within_each_other() -> None:
    a, b, c, d = (torch.full((1,), float(i)) for i in range(4))
    output = {"x": (a, [Fields(Plain(b), more=Plain(Fields(c)))]), "y": Named(z=d)}
    found = output_tensors(output)
    assert [id(tensor) for tensor in found] == [id(tensor) for tensor in (a, b, c, d)]
    assert output_tensors(a) == [a]


def test_an_object_that_holds_itself_or_the_network_is_looked_into_to_an_end() -> None:
    loop = Plain(torch.zeros(1))
    loop.more = loop  # type: ignore[attr-defined]
    assert set(map(id, output_tensors(loop))) == {id(loop.held)}
    circle = Fields(torch.zeros(1))
    circle.more = [circle]
    assert set(map(id, output_tensors(circle))) == {id(circle.feature)}
    network = nn.Linear(2, 2)
    assert output_leaves(Plain(network)) == [network]


def test_arrays_are_compared_as_tensors_and_numbers_are_not() -> None:
    values = output_values((torch.zeros(2), np.ones(3), 5, np.array(["a"]), None))
    assert [tuple(value.shape) for value in values] == [(2,), (3,)]
