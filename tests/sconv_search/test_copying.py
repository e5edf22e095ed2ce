"""Copies of networks."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from sconv_search.copying import copied, without_hooks


class Enclosing(nn.Module):
    """Holds a layer in a function, in a function within that one, and in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        layer = self.second

        def inner(x: Tensor) -> Tensor:
            return layer(x)

        self.steps = [lambda x: self.first(x), lambda x: inner(x)]

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(x)
        return x


def test_functions_hold_the_copies_of_what_they_held() -> None:
    torch.manual_seed(0)
    network, x = Enclosing(), torch.randn(2, 3)
    before = network(x)
    result = copied(network)
    torch.testing.assert_close(result(x), before, rtol=0, atol=0)
    with torch.no_grad():
        for weight in result.parameters():
            weight.zero_()
    torch.testing.assert_close(network(x), before, rtol=0, atol=0)
    assert not result(x).any()
    changed = copied(network, {network.first: nn.Identity(), network.second: nn.Identity()})
    assert torch.equal(changed(x), x)
    assert torch.equal(network(x), before)


def held_by_a_bound_method(network: nn.Sequential) -> Callable[[Tensor], Tensor]:
    before = network.forward
    return lambda x: before(x)


def held_by_a_partial(network: nn.Sequential) -> Callable[[Tensor], Tensor]:
    return partial(lambda layers, x: layers[1](layers[0](x)), [network[0], network[1]])


def held_by_a_default(network: nn.Sequential) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor, first: nn.Module = network[0], *, second: nn.Module = network[1]) -> Tensor:
        return second(first(x))

    return forward


def held_in_containers(network: nn.Sequential) -> Callable[[Tensor], Tensor]:
    steps = {"all": [(network[0],), (network[1].forward,)]}
    return lambda x: steps["all"][1][0](steps["all"][0][0](x))


@pytest.mark.parametrize("hold", [held_by_a_bound_method, held_by_a_partial, held_by_a_default, held_in_containers])
def test_a_forward_that_was_put_in_place_runs_the_copy(
    hold: Callable[[nn.Sequential], Callable[[Tensor], Tensor]],
) -> None:
    torch.manual_seed(0)
    network, x = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)), torch.randn(2, 3)
    network.forward = hold(network)
    before = network(x)
    result = copied(network)
    assert torch.equal(result(x), before)
    with torch.no_grad():
        for weight in result.parameters():
            weight.zero_()
    assert not result(x).any()
    assert torch.equal(network(x), before)
    if hold is not held_in_containers:  # it calls a method of the layer, which nothing else has
        assert torch.equal(copied(network, {network[0]: nn.Identity(), network[1]: nn.Identity()})(x), x)


def test_what_a_forward_left_behind_is_copied_without_its_graph() -> None:
    class Keeping(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            self.kept = [super().forward(x)]
            return self.kept[0]

    network = nn.Sequential(Keeping(3, 3))
    network(torch.randn(2, 3))
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(network)
    result = copied(network)
    assert torch.equal(result[0].kept[0], network[0].kept[0])
    assert result[0].kept[0].grad_fn is None
    assert network[0].kept[0].grad_fn is not None


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_networks_with_weight_norm_are_copied() -> None:
    torch.manual_seed(0)
    network, x = nn.Sequential(nn.utils.weight_norm(nn.Linear(3, 3))), torch.randn(2, 3)
    result = copied(network)
    torch.testing.assert_close(result(x), network(x), rtol=0, atol=0)
    with torch.no_grad():
        result[0].weight_v.mul_(-1)
    torch.testing.assert_close(result(x) - result[0].bias, network[0].bias - network(x))


def test_what_cannot_be_copied_is_named() -> None:
    network = nn.Sequential(nn.ReLU())
    network[0].stream = (value for value in [1])
    with pytest.raises(TypeError, match=r"Sequential cannot be copied: .*generator"):
        copied(network)


def test_backward_hooks_go_over() -> None:
    network, seen = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)), []
    network[0].register_full_backward_hook(lambda layer, given, made: seen.append(type(layer)))
    copied(network, {network[0]: nn.Bilinear(3, 3, 3), network[1]: nn.Identity()})
    other = copied(network, {network[0]: nn.Sequential(nn.Linear(3, 3))})
    other(torch.randn(2, 3, requires_grad=True)).sum().backward()
    assert seen == [nn.Sequential]


def test_without_hooks_a_module_of_the_same_tensors_is_its_forward_alone() -> None:
    network, called = nn.Sequential(nn.Linear(3, 3)), list[str]()
    network.register_forward_pre_hook(lambda *_: called.append("before"))
    network.register_forward_hook(lambda *_, **named: called.append("after"), with_kwargs=True, always_call=True)
    network.register_full_backward_hook(lambda *_: called.append("backward"))
    network[0].register_forward_hook(lambda *_: called.append("part"))
    bare = without_hooks(network)
    bare(torch.zeros(1, 3, requires_grad=True)).sum().backward()
    assert called == ["part"]
    assert bare[0].weight is network[0].weight
    network(torch.zeros(1, 3, requires_grad=True)).sum().backward()
    assert called == ["part", "before", "part", "after", "backward"]


def test_hooks_of_the_state_go_over_with_the_module_that_they_are_called_with() -> None:
    network, met = nn.Sequential(nn.Linear(3, 3)), list[nn.Module]()
    layer = network[0]
    layer.register_state_dict_pre_hook(lambda module, prefix, keep: met.append(module))
    layer.register_state_dict_post_hook(lambda module, state, prefix, _: state.__setitem__(prefix + "more", layer.bias))

    def load(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
        met.extend([module, layer])
        state.pop(prefix + "more")

    layer.register_load_state_dict_pre_hook(load)
    layer.register_load_state_dict_post_hook(lambda module, _: met.append(module))
    other = nn.Linear(3, 3)
    result = copied(network, {layer: other})
    state = result.state_dict()
    assert torch.equal(state["0.more"], other.bias)
    result.load_state_dict(state)
    assert met == [other] * 4
