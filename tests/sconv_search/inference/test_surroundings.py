"""A layer is judged between two others, which read and write as its neighbors would."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from sconv_search import StructuredLinear, optimize_for_inference
from sconv_search.cost.timing import Run
from sconv_search.inference.optimize import FASTEST
from sconv_search.inference.surroundings import NARROW, Surrounded, surrounded_runs
from sconv_search.structured.conv import StructuredConv1d, StructuredConv2d, StructuredConv3d

LAYERS = [
    (StructuredConv1d.from_conv(nn.Conv1d(20, 6, 3, padding=1), c=5, n=2), (2, 20, 7), 1),
    (StructuredConv2d.from_conv(nn.Conv2d(20, 6, 3, stride=2, padding=1), c=5, n=2), (2, 20, 7, 8), 1),
    (StructuredConv3d.from_conv(nn.Conv3d(4, 6, 3), c=2, n=2), (2, 4, 5, 6, 7), 1),
    (StructuredLinear.from_linear(nn.Linear(20, 6), c=5), (2, 3, 20), -1),
]


@pytest.mark.parametrize(("layer", "shape", "axis"), LAYERS, ids=lambda given: type(given).__name__)
def test_the_layer_reads_the_shape_of_use_between_two_others(
    layer: nn.Module, shape: tuple[int, ...], axis: int
) -> None:
    x, read = torch.randn(shape), list[Tensor]()
    whole = Surrounded(layer, x, axis=axis)
    whole.layer.register_forward_hook(lambda module, given, out: read.extend(given))
    narrow = x.narrow(axis, 0, min(NARROW, x.shape[axis]))
    found = whole(narrow)
    assert [one.shape for one in read] == [x.shape]
    expected = list(layer(x).shape)
    expected[axis] = NARROW
    assert list(found.shape) == expected
    # equal weights: each channel of its input is their mean
    means = narrow.mean(axis, keepdim=True).relu().expand(shape)
    torch.testing.assert_close(read[0], means, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        found, layer(means).relu().mean(axis, keepdim=True).expand_as(found), rtol=1e-5, atol=1e-6
    )


def test_nothing_is_drawn_and_the_layer_stays_as_it_is() -> None:
    layer = LAYERS[1][0].train()
    before, state = copy.deepcopy(layer.state_dict()), torch.get_rng_state()
    Surrounded(layer, torch.randn(1, 20, 5, 5, generator=torch.Generator().manual_seed(0)), axis=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert layer.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in layer.state_dict().items())


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_inputs_lie_as_those_of_use(memory_format: torch.memory_format) -> None:
    seen: list[Tensor] = []

    def prepare(module: nn.Module, x: Tensor) -> Run:
        seen.append(x)
        return lambda: module(x)

    x = torch.randn(2, 20, 7, 8).contiguous(memory_format=memory_format)
    runs = surrounded_runs({"layer": LAYERS[1][0]}, x, prepare, axis=1)
    assert seen[0].shape == (2, NARROW, 7, 8)
    assert seen[0].is_contiguous(memory_format=memory_format)
    assert torch.is_tensor(runs["layer"]())


def test_what_is_fastest_alone_is_not_chosen_where_its_neighbors_pay_for_it() -> None:
    """By a runtime in which additions are quick, but begin and end with a change of layout beside a convolution."""
    torch.manual_seed(0)
    layers = [StructuredConv2d.from_conv(nn.Conv2d(8, 8, 3, padding=1), c=4, n=3, variant="merged") for _ in range(2)]
    network, x = nn.Sequential(layers[0], nn.ReLU(), layers[1]).eval(), torch.randn(2, 8, 6, 6)
    times: dict[Run, float] = {}

    def milliseconds(module: nn.Module) -> float:
        kinds = [type(one) for one in module.modules() if isinstance(one, (nn.Conv2d, StructuredConv2d))]
        changes = sum(one is not other for one, other in pairwise(kinds))
        taps = sum(one.kernel_size[0] ** 2 for one in module.modules() if isinstance(one, nn.Conv2d))
        return 5.0 * kinds.count(StructuredConv2d) + taps * 1.0 + 20 * changes

    def prepare(module: nn.Module, x: Tensor) -> Run:
        def run() -> None:
            return None

        times[run] = milliseconds(module)
        return run

    def timer(runs: Mapping[str, Run]) -> dict[str, list[float]]:
        return {name: [times[run]] for name, run in runs.items()}

    _, rows = optimize_for_inference(network, x, prepare=prepare, timer=timer)
    assert milliseconds(layers[0]) < milliseconds(layers[0].to_dense()), "alone, additions would win"
    assert [row.chosen for row in rows] == ["dense", "dense", FASTEST]
    assert rows[0].milliseconds["as trained"] == 1000 * (5 + 2 + 40)


def test_hooks_of_the_layer_do_not_run() -> None:
    layer, x = nn.Conv2d(4, 4, 1), torch.randn(1, 4, 3, 3)
    layer.register_forward_hook(lambda _, given, made: made.flatten(1))
    assert Surrounded(layer, x, axis=1)(x).shape == (1, NARROW, 3, 3)
