"""A layer's time is that of its fastest implementation; a structured one never takes longer than the dense layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import nn

from sconv_search.cost.timing import Run
from sconv_search.inference.implementations import AS_TRAINED, DENSE, implementations
from sconv_search.inference.layer_times import layer_times_ms, sortable_sites
from sconv_search.structured.conv import StructuredConv2d

X = torch.zeros(2, 8, 5, 5)
Timer = Callable[[Mapping[str, Run]], dict[str, list[float]]]


def dense_layer() -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(8, 4, 3, padding=1)


def structured(c: int = 3) -> nn.Module:
    return StructuredConv2d.from_conv(dense_layer(), c=c, n=2, variant="merged")


def clock(**taken: float) -> Timer:
    """Seconds by the end of a run's name, with _ for a blank; 9 for others. One slow spell a run."""

    def timer(runs: Mapping[str, Run]) -> dict[str, list[float]]:
        found = {
            name: [s for end, s in taken.items() if name.endswith(end.replace("_", " "))] or [9.0] for name in runs
        }
        return {name: [seconds[0], seconds[0], 100.0] for name, seconds in found.items()}

    return timer


def test_a_structured_layer_takes_the_time_of_its_fastest_realization() -> None:
    dense, found = layer_times_ms(
        dense_layer(), [structured(), structured(5)], [X], timer=clock(dense=0.5, **{"1_1x1": 0.2})
    )
    assert (dense, found) == (500.0, [500.0, 500.0])
    dense, found = layer_times_ms(
        dense_layer(), [structured(), structured(5)], [X], timer=clock(dense=0.5, average=0.25)
    )
    assert found == [250.0, 250.0]
    dense, found = layer_times_ms(dense_layer(), [structured()], [X], timer=clock(dense=0.5, **{"0_as_trained": 0.125}))
    assert found == [125.0]


def test_a_layer_of_another_method_may_be_slower_than_dense() -> None:
    pair = nn.Sequential(nn.Conv2d(8, 2, 1), nn.Conv2d(2, 4, 3, padding=1))
    assert layer_times_ms(dense_layer(), [pair, structured()], [X], timer=clock(dense=0.5)) == (500.0, [9000.0, 500.0])


def test_all_are_measured_in_one_turn_and_each_once() -> None:
    seen: list[list[str]] = []

    def timer(runs: Mapping[str, Run]) -> dict[str, list[float]]:
        seen.append(list(runs))
        for run in runs.values():
            run()
        return {name: [1.0] for name in runs}

    layer_times_ms(dense_layer(), [structured()], [X], timer=timer)
    ways = [f"0 {way}" for way in implementations(structured(), X) if way != DENSE]
    assert seen == [[DENSE, *ways]]
    assert f"0 {AS_TRAINED}" in ways


def test_one_realization_serves_all_calls_of_a_layer() -> None:
    """At one size the first way is faster, at the other the second; no layer is computed in two ways."""

    def timer(runs: Mapping[str, Run]) -> dict[str, list[float]]:
        turns.append(None)
        fast, slow = (AS_TRAINED, "average") if len(turns) == 1 else ("average", AS_TRAINED)
        return {name: [1.0 if name.endswith(fast) else 3.0 if name.endswith(slow) else 5.0] for name in runs}

    turns: list[None] = []
    dense, found = layer_times_ms(dense_layer(), [structured()], [X, X[..., :3]], timer=timer)
    assert (dense, found) == (10_000.0, [4000.0])


def test_a_layer_that_is_never_called_takes_no_time() -> None:
    assert layer_times_ms(dense_layer(), [structured(), nn.Identity()], [], timer=clock()) == (0.0, [0.0, 0.0])


@pytest.mark.parametrize("sortable", [True, False])
def test_sorted_channels_are_timed_as_they_can_be_had(sortable: bool) -> None:
    seen: list[str] = []

    def timer(runs: Mapping[str, Run]) -> dict[str, list[float]]:
        seen.extend(runs)
        return {name: [1.0] for name in runs}

    layer_times_ms(dense_layer(), [structured()], [X], sortable=sortable, timer=timer)
    assert any("sorted by the layer before" in name for name in seen) is sortable


def test_channels_can_be_sorted_where_one_layer_alone_reads_them() -> None:
    class Branched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.norm = nn.Conv2d(2, 8, 1), nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)
            self.left, self.right, self.unused = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 4, 1), nn.Conv2d(8, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.norm(self.second(self.first(x).relu()))
            return self.left(x) + self.right(x)

    names = ("first", "second", "left", "right", "unused")
    assert sortable_sites(Branched(), (2, 6, 6), names) == {"second"}
