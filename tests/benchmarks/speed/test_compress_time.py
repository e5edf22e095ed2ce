from __future__ import annotations

import time

import torch
from torch import nn

from benchmarks.speed.compress_time import Seconds, measured, plan_at, timed
from sconv_search import CompressionPlan
from sconv_search.studies.methods import METHODS


def structures(plan: CompressionPlan) -> dict[str, dict[str, int]]:
    return {site: dict(choice.structure) for site, choice in plan.sites.items()}


def test_the_plan_takes_each_sites_middle_and_the_next_cheaper_one() -> None:
    options = {"a": [{"rank": rank} for rank in (1, 2, 3, 4, 5)], "b": [{"rank": 7}]}
    assert structures(plan_at("cp", options, 0)) == {"a": {"rank": 3}, "b": {"rank": 7}}
    assert structures(plan_at("cp", options, 1)) == {"a": {"rank": 2}, "b": {"rank": 7}}
    assert {choice.method for choice in plan_at("cp", options, 0).sites.values()} == {"cp"}


def test_waiting_is_on_the_clock_alone() -> None:
    seconds, found = timed(lambda: time.sleep(0.05) or "done")
    assert found == "done"
    assert seconds.clock >= max(0.05, seconds.processor)
    assert str(Seconds(processor=1.26, clock=3.44)) == "1.3 (3.4)"


def test_a_method_is_measured_on_all_its_sites() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), nn.AdaptiveAvgPool2d(1)
    ).eval()
    found = measured(METHODS["weight_svd"], network)
    assert (found.method, found.sites, len(found.calls)) == ("weight_svd", 2, 3)
    assert 0.3 < found.share < 0.7
