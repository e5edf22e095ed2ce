"""What one run shows of a network: who reads what, and what an operation in place makes new."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sconv_search.inference.dataflow import Dataflow, traced


class Branched(nn.Module):
    """A convolution read twice, a shared one, one in place, one whose weights are read from outside."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.shared, self.last, self.loose = (nn.Conv2d(2, 2, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        y = self.twice(x)
        y = self.shared(F.relu(y)) + y
        y = F.relu(self.shared(y), inplace=True)
        assert y.shape[0] == len(y)
        return self.last(y) * self.loose.weight.sum()


def flow_of(network: nn.Module, x: Tensor) -> Dataflow:
    return traced(network.eval(), x, (nn.Conv2d, nn.BatchNorm2d))


def test_the_steps_are_layers_and_the_functions_between_them() -> None:
    flow = flow_of(Branched(), torch.zeros(1, 2, 3, 3))
    names = [step.name for step in flow.steps]
    assert names == ["twice", "relu", "shared", "add", "shared", "relu", "last", "sum", "mul", "output"]


def test_readers_and_calls() -> None:
    network = Branched()
    flow = flow_of(network, torch.zeros(1, 2, 3, 3))
    (twice,), (last,) = flow.calls(network.twice), flow.calls(network.last)
    assert [step.name for step in flow.readers(twice.outputs[0])] == ["relu", "add"]
    assert [step.name for step in flow.readers(last.outputs[0])] == ["mul"]
    assert len(flow.calls(network.shared)) == 2
    called = {name: flow.is_called_once(layer) for name, layer in network.named_children()}
    assert called == {"twice": True, "shared": False, "last": True, "loose": False}


def test_parameters_read_outside_of_their_layer_are_known() -> None:
    network = Branched()
    assert [x is network.loose.weight for x in flow_of(network, torch.zeros(1, 2, 3, 3)).loose] == [True]


def test_an_operation_in_place_makes_a_new_value() -> None:
    network = Branched()
    flow = flow_of(network, torch.zeros(1, 2, 3, 3))
    second = flow.calls(network.shared)[1]
    (relu,) = flow.readers(second.outputs[0])
    assert relu.outputs != second.outputs
    producer = flow.producer(flow.calls(network.last)[0].inputs[0])
    assert producer is not None
    assert producer is relu


def test_no_hook_is_left() -> None:
    network = Branched()
    flow_of(network, torch.zeros(1, 2, 3, 3))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
