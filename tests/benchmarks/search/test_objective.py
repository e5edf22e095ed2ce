"""The objective of the search benchmark makes each layer once, and its networks are those that a plan alone would
give.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from benchmarks.search.objective import Objective
from sconv_search import Choice, CompressionPlan
from sconv_search.studies import compress


def test_layers_made_for_other_plans_are_those_of_the_plan() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 4, 1)
    ).eval()
    inputs = torch.randn(8, 3, 9, 9)
    structured = Choice(method="structured_conv", structure={"c": 4, "n": 2, "merged": 1})
    low_rank = Choice(method="weight_svd", structure={"rank": 2})
    pruned = Choice(method="channel_pruning", structure={"keep": 4})
    objective: Any = Objective.__new__(Objective)
    objective._context, objective._inputs, objective._layers = SimpleNamespace(network=network), inputs, {}
    for sites in ({"3": structured}, {"4": low_rank}, {"3": structured, "4": low_rank}, {"0": pruned, "4": low_rank}):
        plan = CompressionPlan(sites=sites)
        found = objective._compressed(plan)
        torch.testing.assert_close(found(inputs), compress(network, plan, inputs)(inputs), rtol=0, atol=0)
        for weight in found.parameters():  # as training or folding may: what is kept must not change
            weight.data.zero_()
