"""Damage and cost of options that differ in their size, from a few that are measured."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import nn

from sconv_search import Choice, Cost
from sconv_search.compressor import site
from sconv_search.search_space.space import Option
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.oneshot.damages import Damages
from sconv_search.studies.oneshot.options import _costs
from sconv_search.studies.selection import offered
from sconv_search.studies.space.curves import MEASURED, along, curves, exact_costs, measured_on
from sconv_search.studies.space.input_shapes import input_shapes
from sconv_search.studies.space.measuring import CostTable


def choice(**structure: int) -> Choice:
    return Choice(method="m", structure=structure)


def test_choices_that_differ_in_their_size_alone_are_one_curve() -> None:
    structured = [choice(c=c, n=n, merged=1) for n in (1, 2) for c in (8, 4, 2)] + [choice(c=16, n=1)]
    assert [[dict(one.structure) for one in curve] for curve in curves(structured)] == [
        [{"c": c, "n": 1, "merged": 1} for c in (2, 4, 8)],
        [{"c": c, "n": 2, "merged": 1} for c in (2, 4, 8)],
        [{"c": 16, "n": 1}],
    ]
    together = [choice(rank_in=2 * r, rank_out=r) for r in (3, 1, 2)]
    assert [[one.structure["rank_out"] for one in curve] for curve in curves(together)] == [[1, 2, 3]]
    jumping = [choice(rank_in=min(r, 2), rank_out=r) for r in (1, 2, 3)]
    assert [[one.structure["rank_out"] for one in curve] for curve in curves(jumping)] == [[1], [2, 3]]


@pytest.mark.parametrize("power", [1, 2])
def test_costs_that_are_a_polynomial_are_found_exactly_and_no_others(power: int) -> None:
    curve = [choice(r=r) for r in range(1, 12)]

    def costs(power: int) -> Mapping[Choice, Cost]:
        return {one: Cost(macs=3 * one.structure["r"] ** power + 5, adds=7, params=2) for one in curve}

    known = {one: costs(power)[one] for one in measured_on(curve)}
    assert len(known) == MEASURED
    assert exact_costs(curve, known) == costs(power)
    assert exact_costs(curve, {one: costs(3)[one] for one in measured_on(curve)}) is None


def test_a_short_curve_is_measured_and_a_long_one_at_its_ends_and_between() -> None:
    asked: list[int] = []

    def measure(one: Choice) -> float:
        asked.append(one.structure["r"])
        return 1 / one.structure["r"]

    short = along([choice(r=r) for r in (1, 2, 3)], measure)
    assert list(short.values()) == [1, 1 / 2, 1 / 3]
    asked.clear()
    long = along([choice(r=r) for r in range(1, 11)], measure)
    assert asked == [1, 4, 7, 10]
    values = [long[choice(r=r)] for r in range(1, 11)]
    assert values == sorted(values, reverse=True)
    asked.clear()
    infinite = along([choice(r=r) for r in range(1, 7)], lambda one: asked.append(0) or float("inf"))
    assert len(asked) == len(infinite) == 6


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 24, 3, padding=1), nn.Linear(14, 9)).eval()


@pytest.mark.parametrize("method", ["structured_conv", "weight_svd", "spatial_svd", "tucker"])
def test_costs_are_those_of_the_built_layers_and_damages_near_the_measured(network: nn.Module, method: str) -> None:
    choices = offered(network, [method])
    shapes = input_shapes(network, (3, 16, 16), choices)
    costs, table = _costs(network, shapes, choices, Monitor()), CostTable()
    damages = Damages(network, None)
    for name, own in choices.items():
        assert [costs[name, c] for c in own] == [table.of(site(network, name), c, shapes[name]) for c in own]
        for curve in curves(own):
            near = along(curve, lambda c, name=name: damages.of_layer(name, c, shapes[name]))
            for one in curve:
                assert abs(near[one] - damages.of_layer(name, one, shapes[name])) < 0.04


def test_all_options_of_a_layer_are_scaled_to_the_networks_outputs(network: nn.Module) -> None:
    """Measured and interpolated ones by the same factor."""
    x = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    choices = offered(network, ["weight_svd"])["2"]
    shapes = input_shapes(network, (3, 16, 16), ["2"])["2"]
    damages = Damages(network, x)
    (curve,) = curves(choices)
    harm = along(curve, lambda c: damages.of_layer("2", c, shapes))
    free = Cost(macs=0, adds=0, params=0)
    options = [Option(choice=c, cost=free, damage=d, error=None) for c, d in harm.items()]
    scaled = damages.scaled("2", options)
    factors = {round(new.damage / old.damage, 6) for new, old in zip(scaled, options, strict=True)}
    assert len(factors) == 1
    assert factors != {1.0}
