"""What a search space says of costs; damages and the space of a whole study are tested with the runner and the start."""

from __future__ import annotations

import pytest
from torch import nn

import studies.space
from sconv_search import Choice, CompressionPlan, measure_cost
from studies.methods import compress
from studies.space import CostTable, cost_of_calls

CHOICE = Choice(method="structured_conv", structure={"c": 3, "n": 2, "merged": 1})


def test_a_choice_is_measured_once_for_layers_of_one_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []
    monkeypatch.setattr(
        studies.space, "cost_of_calls", lambda layer, shapes: (measured.append(layer), cost_of_calls(layer, shapes))[1]
    )
    network = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 3))
    built = compress(network, CompressionPlan(sites=dict.fromkeys(["0", "1", "2"], CHOICE)))
    table, shapes = CostTable(), [(6, 9, 9)]
    for place in (0, 1, 2):
        found = table.difference(network[place], built[place], CHOICE, shapes)
        assert found == measure_cost(built[place], shapes[0]) - measure_cost(network[place], shapes[0])
    assert len(measured) == 4  # dense and built, for each of the two architectures
    table.difference(network[0], built[0], CHOICE, [(6, 9, 9), (6, 5, 5)])
    assert len(measured) == 6


def test_a_layer_called_twice_costs_twice_but_keeps_its_parameters_once() -> None:
    layer = nn.Conv2d(4, 4, 3)
    once, twice = cost_of_calls(layer, [(4, 8, 8)]), cost_of_calls(layer, [(4, 8, 8), (4, 8, 8)])
    assert (twice.macs, twice.params) == (2 * once.macs, once.params)
    assert once.macs == 4 * 4 * 9 * 36
    assert cost_of_calls(layer, []).params == 4 * 4 * 9 + 4
