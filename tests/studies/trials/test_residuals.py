"""The course of residuals looks and does not touch."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from sconv_search.plan import Choice, CompressionPlan
from sconv_search.studies.trials.residuals import POINTS, ResidualHistory

PLAN = CompressionPlan(
    sites={
        "0": Choice(method="structured_conv", structure={"c": 3, "n": 3}),
        "1": Choice(method="spatial_svd", structure={"rank": 2}),
    }
)


def course_of(
    network: nn.Module, plan: CompressionPlan = PLAN, steps: int = 30
) -> tuple[ResidualHistory, Callable[[int, int], None]]:
    course = ResidualHistory(network, plan, 1.5)
    return course, course.watching(lambda done, total: None)


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3))


def test_it_starts_before_and_ends_at_compression_and_has_twelve_points(network: nn.Module) -> None:
    course, step = course_of(network)
    for done in range(1, 31):
        step(done, 30)
    found = course.columns()
    assert (found["epochs"][0], found["epochs"][-1], len(found["epochs"])) == (0, 1.5, POINTS + 1)
    assert list(found["sites"]) == ["0"]  # a method without a penalty has no residual
    assert len(found["sites"]["0"]) == POINTS + 1


def test_a_short_phase_is_looked_at_each_step(network: nn.Module) -> None:
    course, step = course_of(network)
    for done in (1, 2, 3):
        step(done, 3)
    assert course.columns()["epochs"] == [0, 0.5, 1.0, 1.5]


def test_it_reads_the_weights_of_the_moment_and_changes_none(network: nn.Module) -> None:
    course, step = course_of(network)
    before = copy.deepcopy(network.state_dict())
    step(1, 2)
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)
    with torch.no_grad():
        network[0].weight.fill_(1.0)  # equal weights have this structure: two chains of two channels
    step(2, 2)
    values = course.columns()["sites"]["0"]
    assert values[0] == values[1] > 0.1
    assert values[2] == pytest.approx(0, abs=1e-5)


def test_the_former_progress_is_still_told(network: nn.Module) -> None:
    told: list[tuple[int, int]] = []
    step = ResidualHistory(network, PLAN, 1.0).watching(lambda done, total: told.append((done, total)))
    step(1, 40)
    assert told == [(1, 40)]


def test_a_plan_without_penalties_has_no_course(network: nn.Module) -> None:
    course, step = course_of(network, PLAN.only("spatial_svd"))
    step(1, 1)
    assert course.columns() == {}
