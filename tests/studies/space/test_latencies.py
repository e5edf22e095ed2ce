"""What a latency budget counts of an option: the fastest way to compute it here, less the dense layer's time."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

import sconv_search.studies.space.latencies
from sconv_search import Choice, CompressionPlan, Cost
from sconv_search.cost.timing import Run
from sconv_search.inference.layer_times import layer_times_ms, narrowed_times_ms
from sconv_search.search_space.space import Option
from sconv_search.studies.methods import compress
from sconv_search.studies.space.latencies import Latencies

SHAPE = (6, 9, 9)
STRUCTURED = Choice(method="structured_conv", structure={"c": 3, "n": 2, "merged": 1})
SVD = Choice(method="spatial_svd", structure={"rank": 5})


def option(choice: Choice, dropped: int = 0) -> Option:
    return Option(choice=choice, cost=Cost(macs=-1, adds=0, params=0), damage=0.0, dropped=dropped)


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A clock: 4 ms of the dense layer, 3 of an average pooling, 5 of all else; notes what it timed together."""
    seen: list[list[str]] = []

    def timer(runs: Mapping[str, Run]) -> dict[str, list[float]]:
        seen.append(list(runs))
        return {name: [{"dense": 0.004, "average": 0.003}.get(name.split()[-1], 0.005)] for name in runs}

    monkeypatch.setattr(sconv_search.studies.space.latencies, "layer_times_ms", partial(layer_times_ms, timer=timer))
    return seen


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 1)
    ).eval()


def test_an_option_takes_its_fastest_realization_and_falls_back_to_dense(turns: list[list[str]]) -> None:
    dense = network()
    latencies = Latencies(dense, SHAPE, {"0": [SHAPE], "3": [SHAPE]}, 2)
    layers = [compress(dense, CompressionPlan(sites={"0": choice}))[0] for choice in (STRUCTURED, SVD)]
    timed = latencies.timed("0", [option(STRUCTURED), option(SVD)], layers)
    assert [one.cost.latency_ms for one in timed] == pytest.approx([-1.0, 1.0])
    assert [one.cost.macs for one in timed] == [-1, -1]
    narrow = Choice(method="structured_conv", structure={"c": 3, "n": 1, "merged": 1})
    (found,) = latencies.timed("3", [option(narrow)], [compress(dense, CompressionPlan(sites={"3": narrow}))[3]])
    assert found.cost.latency_ms == 0.0, "no implementation beats the dense layer, which is kept"


def test_layers_of_one_architecture_are_timed_once_where_their_channels_can_be_had_alike(
    turns: list[list[str]],
) -> None:
    dense = nn.Sequential(*(nn.Conv2d(6, 6, 3, padding=1) for _ in range(3))).eval()
    latencies = Latencies(dense, SHAPE, {name: [SHAPE] for name in "012"}, 2)
    for name in "012":
        layer = compress(dense, CompressionPlan(sites={name: STRUCTURED}))[int(name)]
        (found,) = latencies.timed(name, [option(STRUCTURED)], [layer])
        assert found.cost.latency_ms == pytest.approx(-1.0)
    assert len(turns) == 2, "the first layer reads the network's input; the layers before the others can sort"


PRUNED = Choice(method="channel_pruning", structure={"keep": 4})


@pytest.fixture
def narrowed(monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[int, ...]]]:
    """A clock: 4 ms of the dense layer, 3 of a narrower one; runs each, and notes the shapes of the weights."""
    seen: list[list[tuple[int, ...]]] = []

    def timer(runs: Mapping[str, Run]) -> dict[str, list[float]]:
        weights: list[tuple[int, ...]] = []
        for run in runs.values():
            with torch.no_grad(), _Seen(weights):
                run()
        seen.append(weights)
        return {name: [0.004 if name == "dense" else 0.003] for name in runs}

    monkeypatch.setattr(
        sconv_search.studies.space.latencies, "narrowed_times_ms", partial(narrowed_times_ms, timer=timer)
    )
    return seen


class _Seen(TorchFunctionMode):
    """Notes the weights of convolutions."""

    def __init__(self, weights: list[tuple[int, ...]]) -> None:
        self._weights = weights
        super().__init__()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.conv2d:
            self._weights.append(tuple(args[1].shape))
        return func(*args, **(kwargs or {}))


def test_options_that_change_neighbors_are_timed_by_the_layers_that_they_make_narrower(
    narrowed: list[list[tuple[int, ...]]],
) -> None:
    """Of whole networks the differences are smaller than a machine's drift."""
    dense = network()
    built = compress(dense, CompressionPlan(sites={"0": PRUNED}))
    latencies = Latencies(dense, SHAPE, {"0": [SHAPE]}, 2)
    timed = latencies.timed("0", [option(PRUNED, dropped=2)], [built])
    assert timed[0].cost.latency_ms == pytest.approx(-2.0)
    assert narrowed == [[(6, 6, 3, 3), (4, 6, 3, 3)], [(6, 6, 3, 3), (6, 4, 3, 3)]]


def test_a_layer_that_loses_next_to_nothing_is_as_much_faster_as_it_has_fewer_weights(
    narrowed: list[list[tuple[int, ...]]],
) -> None:
    dense = nn.Sequential(nn.Conv2d(6, 6, 1), nn.ReLU(), nn.Conv2d(6, 40, 1), nn.Conv2d(40, 2, 1)).eval()
    choice = Choice(method="channel_pruning", structure={"keep": 39})
    built = compress(dense, CompressionPlan(sites={"2": choice}))
    timed = Latencies(dense, SHAPE, {"2": [SHAPE]}, 2).timed("2", [option(choice, dropped=1)], [built])
    assert timed[0].cost.latency_ms == pytest.approx(2 * 4.0 * (39 / 40 - 1))
    assert narrowed == [[(40, 6, 1, 1)], [(2, 40, 1, 1)]]


class Other(nn.Module):
    """A layer of a kind that nobody knows here."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.mark.parametrize("what", ["more modules", "another class", "a weight of another kind"])
def test_networks_that_differ_in_more_than_narrower_layers_are_timed_whole(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        sconv_search.studies.space.latencies,
        "whole_ms",
        lambda networks, shape, batch: [7.0, *[6.5] * (len(networks) - 1)],
    )
    dense, built = nn.Sequential(*network(), Other(3)), nn.Sequential(*network(), Other(3))
    if what == "more modules":
        built.append(nn.Identity())
    elif what == "another class":
        built[2] = nn.Tanh()
    else:
        built[-1] = Other(2)
    timed = Latencies(dense, SHAPE, {"0": [SHAPE]}, 2).timed("0", [option(PRUNED, dropped=2)], [built])
    assert timed[0].cost.latency_ms == -0.5


def test_options_that_change_neighbors_and_others_of_one_site_are_timed_apart(
    turns: list[list[str]], narrowed: list[list[tuple[int, ...]]]
) -> None:
    dense = network()
    plans = [CompressionPlan(sites={"0": choice}) for choice in (STRUCTURED, PRUNED, SVD)]
    structured, narrow, svd = (compress(dense, plan) for plan in plans)
    options = [option(STRUCTURED), option(PRUNED, dropped=2), option(SVD)]
    timed = Latencies(dense, SHAPE, {"0": [SHAPE]}, 2).timed("0", options, [structured[0], narrow, svd[0]])
    assert [one.choice for one in timed] == [STRUCTURED, PRUNED, SVD]
    assert [one.cost.latency_ms for one in timed] == pytest.approx([-1.0, -2.0, 1.0])
