"""What each method's layers cost, by formulas written out by hand, against what is measured on the built layers.

Legend: O filters, C input channels of one group, g groups, (H, W) taps; an input of h x w, outputs of y x x positions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from sconv_search import Choice, CompressionPlan, Compressor, Cost, StructuredConvolution, measure_cost
from sconv_search.baselines.channel_pruning import ChannelPruning
from sconv_search.studies import METHODS

HEIGHT, WIDTH = 9, 12


def sizes_of(conv: nn.Conv2d) -> SimpleNamespace:
    """A 2-D convolution on the input, in numbers."""
    (taps_h, taps_w), (step_h, step_w), (pad_h, pad_w) = conv.kernel_size, conv.stride, conv.padding
    gap_h, gap_w = conv.dilation
    padded_h, padded_w = HEIGHT + 2 * pad_h, WIDTH + 2 * pad_w
    return SimpleNamespace(
        O=conv.out_channels,
        C=conv.in_channels // conv.groups,
        g=conv.groups,
        H=taps_h,
        W=taps_w,
        h=HEIGHT,
        w=WIDTH,
        padded_h=padded_h,
        padded_w=padded_w,
        gap_h=gap_h,
        gap_w=gap_w,
        bias=0 if conv.bias is None else conv.out_channels,
        y=(padded_h - gap_h * (taps_h - 1) - 1) // step_h + 1,
        x=(padded_w - gap_w * (taps_w - 1) - 1) // step_w + 1,
    )


def spatial_svd(s: SimpleNamespace, rank: int) -> Cost:
    first, second = s.g * rank * s.C * s.H, s.O * rank * s.W
    return Cost(macs=first * s.y * s.w + second * s.y * s.x, adds=0, params=first + second + s.bias)


def weight_svd(s: SimpleNamespace, rank: int) -> Cost:
    first, second = s.g * rank * s.C * s.H * s.W, s.O * rank
    return Cost(macs=(first + second) * s.y * s.x, adds=0, params=first + second + s.bias)


def tucker(s: SimpleNamespace, rank_in: int, rank_out: int) -> Cost:
    first, core, last = s.C * rank_in, rank_in * rank_out * s.H * s.W, rank_out * s.O
    return Cost(macs=first * s.h * s.w + (core + last) * s.y * s.x, adds=0, params=first + core + last + s.bias)


def cp(s: SimpleNamespace, rank: int) -> Cost:
    macs = rank * (s.C * s.h * s.w + s.H * s.y * s.w + s.W * s.y * s.x + s.O * s.y * s.x)
    return Cost(macs=macs, adds=0, params=rank * (s.C + s.H + s.W + s.O) + s.bias)


def structured(s: SimpleNamespace, c: int, n: int, **variant: int) -> Cost:
    rows, columns = min(n, s.H), min(n, s.W)
    sums = 0
    if c < s.C:  # chains: a difference a chain and one sum of the rest; merged groups: all but the first of each group
        sums = s.C - c if any("merged" in name for name in variant) else s.C - 1
        sums += s.C if any("signed" in name for name in variant) else 0  # a multiplication by the sign
    adds = s.g * sums * s.h * s.w
    shrunk_h = s.padded_h - s.gap_h * (s.H - rows)
    shrunk_w = s.padded_w - s.gap_w * (s.W - columns)
    adds += s.g * c * ((s.H - rows) * shrunk_h * s.padded_w + (s.W - columns) * shrunk_h * shrunk_w)
    kernel = s.O * c * rows * columns
    return Cost(macs=kernel * s.y * s.x, adds=adds, params=kernel + s.bias)


FORMULAS: dict[str, Callable[..., Cost]] = {
    "spatial_svd": spatial_svd,
    "weight_svd": weight_svd,
    "tucker": tucker,
    "cp": cp,
}
LAYERS = {
    "plain": lambda: nn.Conv2d(8, 12, 3, padding=1, bias=False),
    "strided": lambda: nn.Conv2d(10, 12, 3, stride=2, padding=1),
    "grouped": lambda: nn.Conv2d(12, 8, (3, 5), padding=(1, 2), groups=2),
    "dilated": lambda: nn.Conv2d(8, 8, 3, padding=2, dilation=2),
}


def formula_of(method: Compressor) -> Callable[..., Cost]:
    return structured if isinstance(method, StructuredConvolution) else FORMULAS[method.name]


LAYERWISE = [method for method in METHODS.values() if not method.reshapes_neighbors]


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("method", LAYERWISE, ids=lambda method: method.name)
@pytest.mark.filterwarnings("ignore:.*CP of rank:RuntimeWarning")
def test_a_convolutions_measured_cost_is_the_formulas(method: Compressor, make: Callable[[], nn.Conv2d]) -> None:
    network = nn.Sequential(make()).eval()
    case = sizes_of(network[0])
    offered = method.options(network).get("0", [])
    assert offered or case.g > 1
    for structure in offered:
        plan = CompressionPlan(sites={"0": Choice(method=method.name, structure=structure)})
        measured = measure_cost(method.compress(network, plan), (network[0].in_channels, HEIGHT, WIDTH))
        assert replace(measured, activations=0) == formula_of(method)(case, **structure), structure


@pytest.mark.parametrize("method", LAYERWISE, ids=lambda method: method.name)
def test_a_linear_layers_measured_cost_is_the_formulas(method: Compressor) -> None:
    network = nn.Sequential(nn.Linear(24, 20)).eval()
    for structure in method.options(network).get("0", []):
        plan = CompressionPlan(sites={"0": Choice(method=method.name, structure=structure)})
        measured = measure_cost(method.compress(network, plan), (24,))
        if "rank" in structure:
            kernel, adds = structure["rank"] * (24 + 20), 0
        else:
            c = structure["c"]
            kernel, adds = c * 20, 24 - c if "merged" in "".join(structure) else 23
            adds += 24 if "signed" in "".join(structure) else 0
        assert replace(measured, activations=0) == Cost(macs=kernel, adds=adds, params=kernel + 20), structure


@pytest.mark.parametrize("method", [m for m in METHODS.values() if isinstance(m, ChannelPruning)], ids=lambda m: m.name)
def test_a_pruned_pairs_measured_cost_is_the_formulas(method: Compressor) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(4, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 6, 3, stride=2)
    ).eval()
    (offered,) = method.options(network).values()
    for structure in offered:
        plan = CompressionPlan(sites={"0": Choice(method=method.name, structure=structure)})
        keep = structure["keep"]
        macs = keep * 4 * 9 * HEIGHT * WIDTH + 6 * keep * 9 * 4 * 5  # (9 - 3) // 2 + 1 rows, (12 - 3) // 2 + 1 columns
        params = keep * (4 * 9 + 1) + 2 * keep + 6 * (keep * 9 + 1)
        measured = measure_cost(method.compress(network, plan), (4, HEIGHT, WIDTH))
        assert replace(measured, activations=0) == Cost(macs=macs, adds=0, params=params)
