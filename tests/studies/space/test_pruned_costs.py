"""Costs of pruned sites by their layers are those of the networks built."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sconv_search import Choice, CompressionPlan, Cost, measure_cost
from sconv_search.studies import compress
from sconv_search.studies.methods import method_named
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.space import pruned_costs as module
from sconv_search.studies.space.pruned_costs import pruned_costs
from tests.studies.space.test_couplings import NETWORKS, SHAPE


class Gated(nn.Module):
    """Sums, products and activations of each channel outside of layers, whose costs follow the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 8, 1)
        self.gate, self.outer = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 6, 3, padding=1)
        self.head = nn.Linear(6, 4)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        x_NCHW = F.silu(self.stem(x_NCHW))
        y_NCHW = F.silu(self.inner(x_NCHW))
        y_NCHW = y_NCHW * torch.sigmoid(self.gate(y_NCHW.mean((2, 3), keepdim=True)))
        return self.head((x_NCHW + self.outer(y_NCHW)).mean((2, 3)))


def layers_alone() -> nn.Module:
    """Nothing outside of layers costs anything."""
    return nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Conv2d(6, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 10))


def choices_of(network: nn.Module) -> dict[str, list[Choice]]:
    structures = method_named("channel_pruning").options(network)
    return {
        name: [Choice(method="channel_pruning", structure=structure) for structure in own]
        for name, own in structures.items()
    }


def counted_networks(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts the networks that are built and traced."""
    built = Counter[str]()
    monkeypatch.setattr(module, "measure_cost", lambda *given, **named: built.update(["built"]) or measure_cost(*given))
    return built


@pytest.mark.parametrize("make", [*NETWORKS, Gated])
def test_the_cost_of_each_choice_is_that_of_the_network_built(make: Callable[[], nn.Module]) -> None:
    network = make().eval()
    choices, dense = choices_of(network), measure_cost(network, SHAPE)
    costs = pruned_costs(network, SHAPE, choices, dense, Monitor())
    assert costs.keys() == {(name, choice) for name, own in choices.items() for choice in own}
    assert len(costs) > len(choices) >= 2
    for (name, choice), cost in costs.items():
        assert cost == measure_cost(compress(network, CompressionPlan(sites={name: choice})), SHAPE) - dense


def test_where_layers_do_everything_two_networks_are_built(monkeypatch: pytest.MonkeyPatch) -> None:
    network, built = layers_alone().eval(), counted_networks(monkeypatch)
    costs = pruned_costs(network, SHAPE, choices_of(network), measure_cost(network, SHAPE), Monitor())
    assert len(costs) > 2
    assert built.total() == 2  # all sites at their strongest choice, and at the one in the middle


def test_where_sums_and_activations_cost_no_more_than_one_network_a_site_is_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network, built = Gated().eval(), counted_networks(monkeypatch)
    choices = choices_of(network)
    costs = pruned_costs(network, SHAPE, choices, measure_cost(network, SHAPE), Monitor())
    assert len(costs) > len(choices)
    assert built.total() == 1 + len(choices)  # all, but one each, at the strongest choice; all at the one in the middle


def test_sites_that_save_nothing_outside_of_layers_are_pruned_together(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = [nn.Conv2d(2, 8, 3), *(layer for _ in range(15) for layer in (nn.ReLU(), nn.Conv2d(8, 8, 1)))]
    network = nn.Sequential(*layers, nn.Conv2d(8, 4, 1), nn.SiLU(), nn.Conv2d(4, 4, 10)).eval()
    built, choices = counted_networks(monkeypatch), choices_of(network)
    costs = pruned_costs(network, SHAPE, choices, measure_cost(network, SHAPE), Monitor())
    assert len(choices) == 17
    assert built.total() <= 6
    for name, own in choices.items():
        small = compress(network, CompressionPlan(sites={name: own[0]}))
        assert costs[name, own[0]] == measure_cost(small, SHAPE) - measure_cost(network, SHAPE)


def test_a_site_whose_costs_outside_of_layers_do_not_follow_its_channels_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As they would where a product of the channels with themselves is taken."""

    def measured(network: nn.Module, inputs: tuple[int, ...], direct: bool = False) -> Cost:
        stem = network.get_submodule("stem")
        assert isinstance(stem, nn.Conv2d)
        return measure_cost(network, inputs) + Cost(macs=7 * stem.out_channels**2, adds=0, params=0)

    network = Gated().eval()
    choices, dense = choices_of(network), measured(network, SHAPE)
    monkeypatch.setattr(module, "measure_cost", measured)
    costs = pruned_costs(network, SHAPE, choices, dense, Monitor())
    assert "stem" in choices
    assert {name for name, _ in costs} == choices.keys() - {"stem"}
    for (name, choice), cost in costs.items():
        assert cost == measured(compress(network, CompressionPlan(sites={name: choice})), SHAPE) - dense


def test_a_site_that_has_weights_outside_of_its_layers_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """They were not narrowed as it was thought, although the costs follow the channels."""

    def measured(network: nn.Module, inputs: tuple[int, ...], direct: bool = False) -> Cost:
        stem = network.get_submodule("stem")
        assert isinstance(stem, nn.Conv2d)
        return measure_cost(network, inputs) + Cost(macs=0, adds=0, params=stem.out_channels)

    network = Gated().eval()
    choices, dense = choices_of(network), measured(network, SHAPE)
    monkeypatch.setattr(module, "measure_cost", measured)
    costs = pruned_costs(network, SHAPE, choices, dense, Monitor())
    assert {name for name, _ in costs} == choices.keys() - {"stem"}


def test_methods_that_change_their_own_layer_alone_are_passed_over() -> None:
    network = Gated().eval()
    own = {"stem": [Choice(method="spatial_svd", structure={"rank": 1})]}
    assert pruned_costs(network, SHAPE, own, measure_cost(network, SHAPE), Monitor()) == {}
