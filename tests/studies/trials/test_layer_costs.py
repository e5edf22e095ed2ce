"""Costs of layers before and after, by hand."""

from __future__ import annotations

from torch import nn

from sconv_search.cost.counting import measure_cost, measure_modules
from sconv_search.studies.trials.layer_costs import layer_costs


def network(inner: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), inner, nn.Flatten(), nn.Linear(4 * 36, 2))


def test_a_layer_s_cost_is_its_own_and_what_replaces_it_counts_whole() -> None:
    dense = network(nn.Conv2d(4, 4, 3, padding=1))
    pair = nn.Sequential(nn.Conv2d(4, 1, (3, 1), padding=(1, 0), bias=False), nn.Conv2d(1, 4, (1, 3), padding=(0, 1)))
    found = layer_costs(dense, network(pair), (1, 6, 6))
    assert list(found) == ["0", "2", "4"]
    assert found["2"] == {
        "kind": "Conv2d",
        "weight": [4, 4, 3, 3],
        "before": [36 * 4 * 4 * 9, 0, 4 * 4 * 9 + 4],
        "after": [36 * (4 * 3 + 4 * 3), 0, 12 + 12 + 4],
    }
    assert found["0"]["before"] == found["0"]["after"] == [36 * 4 * 9, 0, 40]


def test_the_modules_of_a_network_sum_to_its_cost() -> None:
    whole = network(nn.Conv2d(4, 4, 3, padding=1))
    costs = measure_modules(whole, (1, 6, 6))
    assert costs[""] == measure_cost(whole, (1, 6, 6))
    assert sum(costs[name].macs for name in ("0", "2", "4")) == costs[""].macs
