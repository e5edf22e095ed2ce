"""Options that change other layers too: a few sizes of a layer are measured, and the costs of all are exact."""

from __future__ import annotations

import pytest
from torch import nn

from sconv_search import CompressionPlan, compress, measure_cost
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.oneshot import options
from sconv_search.studies.spec import Selection

SHAPE = (3, 12, 12)


@pytest.mark.parametrize("follows", ["from layers", "from a few sizes", "from nothing"])
def test_costs_of_pruned_networks_are_measured_or_follow_exactly(follows: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 4, 3)).eval()
    measured = list[CompressionPlan]()

    def counted(network: nn.Module, plan: CompressionPlan) -> nn.Module:
        measured.append(plan)
        return compress(network, plan)

    monkeypatch.setattr(options, "compress", counted)
    if follows != "from layers":
        monkeypatch.setattr(options, "pruned_costs", lambda *given: {})
    if follows == "from nothing":
        monkeypatch.setattr(options, "exact_costs", lambda curve, known: None)
    space = options.options_of(network, SHAPE, ["channel_pruning"], Selection(), Monitor())
    offered = space.sites["0"]
    assert len(offered) > 4
    assert len(measured) == (len(offered) if follows == "from nothing" else 4)
    for option in offered:
        plan = CompressionPlan(sites={"0": option.choice})
        assert space.cost(plan) == measure_cost(compress(network, plan), SHAPE)
    assert sorted(offered, key=lambda option: option.cost.flops) == sorted(offered, key=lambda option: -option.damage)
