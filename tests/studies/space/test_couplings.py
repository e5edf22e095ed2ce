"""Predicted costs of plans whose choices meet in a layer are those of the networks built."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sconv_search import Choice, CompressionPlan, Cost, measure_cost
from sconv_search.compressor import site
from sconv_search.search_space.space import Option, SearchSpace
from sconv_search.studies import compress
from sconv_search.studies.methods import method_named
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.space import couplings, layer_couplings
from sconv_search.studies.space.couplings import measured_couplings
from tests.studies.conftest import Notes

SHAPE = (2, 12, 12)


class Residual(nn.Module):
    """Two blocks on one stream, whose channels are read and made by the same layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 6, 3, padding=1)
        self.inner1, self.outer1 = nn.Conv2d(6, 8, 3, padding=1), nn.Conv2d(8, 6, 3, padding=1)
        self.inner2, self.outer2 = nn.Conv2d(6, 5, 1), nn.Conv2d(5, 6, 3, padding=1)
        self.norm, self.head = nn.BatchNorm2d(6), nn.Linear(6, 4)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        x_NCHW = F.max_pool2d(F.relu(self.stem(x_NCHW)), 2)
        x_NCHW = x_NCHW + self.outer1(F.relu(self.inner1(x_NCHW)))
        x_NCHW = self.norm(x_NCHW + self.outer2(F.relu(self.inner2(x_NCHW))))
        return self.head(x_NCHW.mean((2, 3)))


class Concatenating(nn.Module):
    """Every layer reads all that came before it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 6, 3, stride=2, padding=1)
        self.grow1, self.norm1 = nn.Conv2d(6, 4, 3, padding=1), nn.BatchNorm2d(10)
        self.grow2, self.head = nn.Conv2d(10, 5, 3, padding=1), nn.Linear(15, 4)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        x_NCHW = F.relu(self.stem(x_NCHW))
        x_NCHW = self.norm1(torch.cat([x_NCHW, self.grow1(x_NCHW)], 1))
        x_NCHW = torch.cat([x_NCHW, self.grow2(F.relu(x_NCHW))], 1)
        return self.head(x_NCHW.mean((2, 3)))


def depthwise() -> nn.Module:
    """Expansion, depthwise convolution, projection, and an ordinary one."""
    return nn.Sequential(
        nn.Conv2d(2, 8, 1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8, bias=False),
        nn.BatchNorm2d(8),
        nn.PReLU(8),
        nn.Conv2d(8, 6, 1),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 7),
        nn.ReLU(),
        nn.Linear(7, 4),
    )


def grouped() -> nn.Module:
    """A convolution of four groups: its filters read a quarter of the channels before it."""
    return nn.Sequential(
        nn.Conv2d(2, 12, 1),
        nn.ReLU(),
        nn.Conv2d(12, 12, 3, groups=4),
        nn.ReLU(),
        nn.Conv2d(12, 6, 1),
        nn.Conv2d(6, 4, 1),
    )


NETWORKS: tuple[Callable[[], nn.Module], ...] = (Residual, Concatenating, depthwise, grouped)


@cache
def pruned_space(make: Callable[[], nn.Module]) -> tuple[nn.Module, SearchSpace]:
    """The network, and its space with costs alone: a few of the options of each site, each measured on the network
    built.
    """
    network = make().eval()
    dense, method = measure_cost(network, SHAPE), method_named("channel_pruning")
    sites = {}
    for name, structures in method.options(network).items():
        whole, some = method.limits(site(network, name))["keep"], structures[:: max(1, len(structures) // 2)]
        sites[name] = tuple(
            option(network, name, structure["keep"], whole - structure["keep"], dense) for structure in some
        )
    shared, left = measured_couplings(network, SHAPE, sites, dense, Monitor())
    assert left == sites
    return network, SearchSpace(dense=dense, sites=sites, couplings=shared)


def option(network: nn.Module, name: str, keep: int, dropped: int, dense: Cost) -> Option:
    choice = Choice(method="channel_pruning", structure={"keep": keep})
    cost = measure_cost(compress(network, CompressionPlan(sites={name: choice})), SHAPE) - dense
    return Option(choice=choice, cost=cost, damage=0.1, dropped=dropped)


def some_plans(space: SearchSpace, count: int) -> list[CompressionPlan]:
    """Plans of all sites, then of random ones."""
    draw = random.Random(1)
    plans = [
        CompressionPlan(sites={name: options[at].choice for name, options in space.sites.items()}) for at in (0, -1)
    ]
    for _ in range(count - len(plans)):
        sites = draw.sample(sorted(space.sites), draw.randint(2, len(space.sites)))
        plans.append(CompressionPlan(sites={name: draw.choice(space.sites[name]).choice for name in sites}))
    return plans


@pytest.mark.parametrize("make", NETWORKS)
def test_the_predicted_cost_of_a_pruned_network_is_the_measured_one(make: Callable[[], nn.Module]) -> None:
    network, space = pruned_space(make)
    assert len(space.sites) >= 3
    assert space.couplings
    for plan in some_plans(space, 6):
        assert space.cost(plan) == measure_cost(compress(network, plan), SHAPE)


@pytest.mark.parametrize("make", NETWORKS)
def test_pairs_by_their_layers_alone_are_those_of_the_networks_built(
    make: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    network, space = pruned_space(make)
    whole = Counter[str]()
    monkeypatch.setattr(
        layer_couplings, "measure_cost", lambda *given, **named: whole.update("x") or measure_cost(*given)
    )
    monkeypatch.setattr(couplings, "measure_cost", lambda *given: pytest.fail("a pair was built"))
    by_layers = measured_couplings(network, SHAPE, space.sites, space.dense, Monitor())
    assert whole.total() == 1
    monkeypatch.undo()
    monkeypatch.setattr(couplings, "costs_by_layers", lambda *given: None)
    assert measured_couplings(network, SHAPE, space.sites, space.dense, Monitor()) == by_layers


def test_pairs_are_built_where_their_layers_do_not_tell_all_that_they_share(monkeypatch: pytest.MonkeyPatch) -> None:
    network, space = pruned_space(Residual)
    monkeypatch.setattr(layer_couplings, "_meetings", lambda groups, sites: {})
    found, left = measured_couplings(network, SHAPE, space.sites, space.dense, Monitor())
    assert (found, left) == (space.couplings, space.sites)


def test_sites_that_meet_in_no_layer_are_not_coupled() -> None:
    """The residual network's inner channels meet its stream's, not each other's."""
    _, space = pruned_space(Residual)
    assert {(pair.first, pair.second) for pair in space.couplings} == {("stem", "inner1"), ("stem", "inner2")}


def test_what_a_filter_of_a_group_does_not_read_is_not_shared() -> None:
    """Nine taps and four groups: a quarter of nine weights for each pair of channels."""
    _, space = pruned_space(grouped)
    (pair,) = [pair for pair in space.couplings if (pair.first, pair.second) == ("0", "2")]
    assert (pair.cost.params, pair.pairs) == (9, 4)


def test_methods_that_change_their_own_layer_alone_are_not_coupled() -> None:
    network = depthwise()
    only = Option(
        choice=Choice(method="spatial_svd", structure={"rank": 1}), cost=Cost(macs=-1, adds=0, params=-1), damage=0.1
    )
    sites = {"0": (only,), "6": (only,)}
    assert measured_couplings(network, SHAPE, sites, measure_cost(network, SHAPE), Monitor()) == ((), sites)


def test_a_site_whose_common_cost_is_no_product_of_channels_is_left_out(notes: Notes) -> None:
    """Given a wrong cost for one of two coupled sites, what is left over is no multiple of the channels."""
    network, space = pruned_space(depthwise)
    wrong = tuple(replace(o, cost=o.cost + Cost(macs=1, adds=0, params=0)) for o in space.sites["6"])
    sites = {**space.sites, "6": wrong}
    found, left = measured_couplings(network, SHAPE, sites, space.dense, notes)
    apart = sites.keys() - left.keys()
    assert apart
    assert not any(apart & {pair.first, pair.second} for pair in found)
    assert len(notes.lines) == len(apart)
    assert all(
        re.match(r"left out channel_pruning at \d+, whose cost beside \d+ does not", line) for line in notes.lines
    )
