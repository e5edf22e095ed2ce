from __future__ import annotations

from dataclasses import replace

from torch import nn

from sconv_search import Budget, measure_cost
from studies import Start, compress
from studies.fitting import fitting
from studies.monitor import Monitor
from studies.space import measured_space


def chain() -> nn.Module:
    layers: list[nn.Module] = []
    for inputs in (2, 16, 16, 16):
        layers += [nn.Conv2d(inputs, 16, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * 144, 4))


def test_plans_of_coupled_choices_are_tightened_until_they_fit(start: Start) -> None:
    """Neighbouring groups of pruned channels meet in a layer, which saves less than the sum of both predicts."""
    start = replace(start, network=chain().eval())
    space = measured_space(start, ["channel_pruning"], Monitor())
    tightened = 0
    for percent in range(20, 100, 5):
        budget = Budget(limit=space.dense.flops * percent // 100)
        plan = fitting(start, space, budget, space.greedy)
        assert measure_cost(compress(start.network, plan), start.task.input_shape).flops <= budget.limit
        tightened += plan not in (space.greedy(budget), space.cheapest(budget))
    assert tightened > 0


def test_the_cheapest_plan_is_the_last_resort(start: Start) -> None:
    start = replace(start, network=chain().eval())
    space = measured_space(start, ["channel_pruning"], Monitor())
    budget = Budget(limit=max(1, space.floor(Budget(limit=1)).flops))
    plan = fitting(start, space, budget, space.greedy)
    assert {choice.structure["keep"] for choice in plan.sites.values()} == {2}
