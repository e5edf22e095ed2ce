"""Costs of plans that prune and compress the same layers: those of the networks built, or the options are refused."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import sconv_search.studies.space.widths
from sconv_search import Choice, CompressionPlan, Cost, measure_cost
from sconv_search.baselines.weight_svd import WeightSVD
from sconv_search.budget import Budget
from sconv_search.channels.dependency_graph import Group, Member
from sconv_search.compressor import site
from sconv_search.search_space.decoder import fill
from sconv_search.search_space.space import Option, SearchSpace
from sconv_search.studies import METHODS, compress
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.selection import offered
from sconv_search.studies.space.couplings import measured_couplings
from sconv_search.studies.space.input_shapes import input_shapes
from sconv_search.studies.space.narrowed_costs import measured_narrowings
from sconv_search.studies.space.sites import site_table
from sconv_search.studies.space.widths import _side, channels_dropped, left_by_pruning, mixable, unmixed
from tests.studies.space.test_couplings import SHAPE, Concatenating, Residual, depthwise

PRUNING = "channel_pruning"


class Grouped(nn.Module):
    """A strided convolution in two groups, a transposed one, a dilated one called twice, and a linear layer on
    pixels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.grouped = nn.Conv2d(2, 8, 3), nn.Conv2d(8, 12, (3, 1), stride=2, groups=2)
        self.up, self.twice = nn.ConvTranspose2d(12, 6, 3, stride=2), nn.Conv2d(6, 6, 3, dilation=2, padding="same")
        self.head = nn.Linear(6, 3)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        x_NCHW = self.up(F.relu(self.grouped(F.relu(self.stem(x_NCHW)))))
        x_NCHW = self.twice(F.max_pool2d(F.relu(self.twice(x_NCHW)), 2))
        return self.head(x_NCHW.movedim(1, -1)).mean((1, 2))


def option(network: nn.Module, name: str, choice: Choice, dense: Cost) -> Option:
    """An option as measured on the whole network built."""
    cost = measure_cost(compress(network, CompressionPlan(sites={name: choice})), SHAPE) - dense
    return Option(choice=choice, cost=cost, damage=0.1, dropped=channels_dropped(network, name, choice))


@cache
def mixed_space(make: Callable[[], nn.Module], methods: tuple[str, ...], each: int) -> tuple[nn.Module, SearchSpace]:
    """The network, and its space with costs alone: a few options of each method and site."""
    network, draw = make().eval(), random.Random(0)
    dense, sites = measure_cost(network, SHAPE), {}
    for name, choices in offered(network, methods).items():
        by_method = {method: [c for c in choices if c.method == method] for method in methods}
        some = [choice for own in by_method.values() for choice in draw.sample(own, min(each, len(own)))]
        sites[name] = tuple(option(network, name, choice, dense) for choice in some)
    widths, refused = left_by_pruning(network, {name: [o.choice for o in options] for name, options in sites.items()})
    shapes = input_shapes(network, SHAPE, sites)
    narrowings, unknown = measured_narrowings(network, shapes, sites, widths, Monitor())
    assert not refused
    assert not unknown
    couplings, _ = measured_couplings(network, SHAPE, sites, dense, Monitor())
    return network, SearchSpace(dense=dense, sites=sites, couplings=couplings, narrowings=narrowings)


def assert_costs_are_those_of_what_is_built(network: nn.Module, space: SearchSpace, count: int) -> None:
    draw, places = random.Random(1), {name: (None, *options) for name, options in space.sites.items()}
    pruned_and_compressed = 0
    for _ in range(count):
        drawn = {name: draw.choice(options) for name, options in places.items()}
        plan = CompressionPlan(sites={name: one.choice for name, one in drawn.items() if one is not None})
        built = compress(network, plan)
        assert space.cost(plan) == measure_cost(built, SHAPE)
        pruned_and_compressed += len(plan.methods) > 1 and PRUNING in plan.methods
    assert pruned_and_compressed >= count / 4


@pytest.mark.parametrize("make", [Residual, Concatenating, depthwise])
def test_the_predicted_cost_of_a_mixed_plan_is_the_measured_one(make: Callable[[], nn.Module]) -> None:
    network, space = mixed_space(make, (PRUNING, "structured_conv"), 2)
    assert space.narrowings
    assert_costs_are_those_of_what_is_built(network, space, 8)


@pytest.mark.slow
@pytest.mark.parametrize("make", [Residual, Concatenating, depthwise, Grouped])
def test_the_predicted_cost_is_the_measured_one_with_every_method(make: Callable[[], nn.Module]) -> None:
    network, space = mixed_space(make, tuple(METHODS), 5)
    assert_costs_are_those_of_what_is_built(network, space, 100)


def test_every_mixed_suggestion_fits_and_fills_the_budget_as_built() -> None:
    network, space = mixed_space(Residual, (PRUNING, "structured_conv"), 2)
    draw, slack = random.Random(2), []
    for share in (0.4, 0.6, 0.8):
        budget = Budget(limit=int(share * space.dense.flops))
        plan = fill(space, {name: draw.uniform(-2, 2) for name in space.sites}, budget)
        built = measure_cost(compress(network, plan), SHAPE)
        assert built.flops <= budget.limit
        slack.append(1 - built.flops / budget.limit)
    assert min(slack) < 0.1  # of few options


def test_layers_that_no_pruning_narrows_have_no_table() -> None:
    network, space = mixed_space(Residual, (PRUNING, "structured_conv"), 2)
    assert set(space.narrowings) == {"inner1", "outer1", "inner2", "outer2", "head"}
    choices = offered(network, ["structured_conv", "spatial_svd"])
    assert left_by_pruning(network, choices) == ({}, {})
    assert mixable(network, choices) == choices


def test_a_concatenation_of_too_many_widths_is_left_to_pruning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sconv_search.studies.space.widths, "MOST_PAIRS", 9)
    network = Concatenating().eval()
    choices = offered(network, ["structured_conv", PRUNING, "weight_svd"])
    reason = (
        "structured_conv, weight_svd: not together with channel pruning, as 3 sites prune what it reads, "
        "in more than 9 combinations of widths"
    )
    assert unmixed(network, choices) == {"head": reason}
    (note,) = site_table(network, SHAPE, ["structured_conv", PRUNING]).notes
    assert note == "in a search that also prunes channels, no other method compresses head"
    left = mixable(network, choices)
    assert "head" not in left
    assert {name: left[name] for name in left} == {name: own for name, own in choices.items() if name != "head"}


def member(positions: Sequence[int], channels: Sequence[int]) -> Member:
    return Member(layer="0", side="in", positions=torch.tensor(positions), channels=torch.tensor(channels))


def test_channels_that_are_read_unequally_often_are_refused() -> None:
    """Channel 0 is read twice, channel 1 once: what is left of the layer depends on which of them stays."""
    group = Group(site="stem", channels=2, blocks=1, members=(member([0, 1, 2], [0, 1, 0]),))
    with pytest.raises(ValueError, match="how many of its channels go depends on which ones go at 'stem'"):
        _side(nn.Linear(3, 2), "0", [group], made=False)


def test_channels_that_two_sites_prune_are_refused() -> None:
    groups = [Group(site=name, channels=2, blocks=1, members=(member([0, 1], [0, 1]),)) for name in ("a", "b")]
    with pytest.raises(ValueError, match="sites 'a', 'b' prune the same channels of it"):
        _side(nn.Linear(2, 2), "0", groups, made=False)


class Squared(WeightSVD):
    """Needs as many channels as the square of its rank."""

    name = "squared"  # type: ignore[misc]

    def compress(self, network: nn.Module, plan: CompressionPlan, calibration: Tensor | None = None) -> nn.Module:
        compressed = super().compress(network, plan, calibration)
        for place, choice in plan.sites.items():
            pair: Any = site(compressed, place)
            square = choice.structure["rank"] ** 2
            compressed.set_submodule(place, nn.Sequential(nn.Linear(pair[0].in_features, square), nn.Linear(square, 3)))
        return compressed


def test_a_cost_that_is_not_linear_in_ranks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS._methods, "squared", Squared())
    reasons = refused_at_the_head(Choice(method="squared", structure={"rank": 2}), Cost(macs=0, adds=0, params=0))
    assert reasons == {("2", "squared"): "the cost of squared is not linear in channels and rank"}


def test_an_option_that_measured_otherwise_in_the_network_is_refused() -> None:
    """Of rank 2: 2 (6 + 4) MACs for 24."""
    reasons = refused_at_the_head(Choice(method="weight_svd", structure={"rank": 2}), Cost(macs=-3, adds=0, params=-4))
    assert list(reasons) == [("2", "weight_svd")]
    assert "should cost Cost(macs=-4, adds=0, params=-4, activations=2" in reasons["2", "weight_svd"]


def refused_at_the_head(choice: Choice, cost: Cost) -> dict[tuple[str, str], str]:
    """Why an option of the last of two linear layers, of which the first is pruned, has no known cost."""
    network = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 4)).eval()
    pruned = Choice(method=PRUNING, structure={"keep": 3})
    widths, _ = left_by_pruning(network, {"0": [pruned], "2": [choice]})
    offers = {"2": [Option(choice=choice, cost=cost, damage=0.1)]}
    found, reasons = measured_narrowings(network, {"2": [(6,)]}, offers, widths, Monitor())
    assert not found
    return reasons
