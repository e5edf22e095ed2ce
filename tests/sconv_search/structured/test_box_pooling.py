from __future__ import annotations

import pytest
import torch
from torch import nn

from sconv_search import (
    StructuredConv1d,
    StructuredConv2d,
    StructuredConv3d,
    StructuredConvTranspose2d,
    StructuredLinear,
)
from sconv_search.cost.counting import measure_cost
from sconv_search.structured.paper_counts import BoxPooledConv, BoxPooledLinear, box_pooled

KINDS = {1: (nn.Conv1d, StructuredConv1d), 2: (nn.Conv2d, StructuredConv2d), 3: (nn.Conv3d, StructuredConv3d)}


@pytest.mark.parametrize(
    ("axes", "c", "n", "geometry"),
    [
        (1, 5, 2, {"padding": 1}),
        (2, 4, 2, {"padding": 1, "stride": 2}),
        (2, 8, 2, {"padding": 2, "dilation": 2}),
        (2, 3, 1, {"padding": (1, 0), "bias": False}),
        (2, 3, 2, {"groups": 2, "padding": 1, "padding_mode": "circular"}),
        (2, 1, 2, {"groups": 8, "padding": 1}),
        (3, 6, 2, {"padding": 1}),
        (2, 8, 3, {"padding": 1}),
    ],
)
def test_boxes_summed_one_by_one_give_what_the_layer_gives(
    axes: int, c: int, n: int, geometry: dict[str, object]
) -> None:
    torch.manual_seed(0)
    dense, structured = KINDS[axes]
    layer = structured.from_conv(dense(8, 8, 3, **geometry), c=c, n=n)
    x = torch.randn(2, 8, *(5, 6, 7)[:axes])
    torch.testing.assert_close(BoxPooledConv(layer)(x), layer(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("c", [1, 5, 12])
def test_so_do_those_of_a_linear_layer(c: int) -> None:
    torch.manual_seed(0)
    layer, x = StructuredLinear.from_linear(nn.Linear(12, 4), c=c), torch.randn(3, 12)
    torch.testing.assert_close(BoxPooledLinear(layer)(x), layer(x), rtol=0, atol=1e-5)


def test_every_sum_of_a_box_takes_one_addition_less_than_the_box_holds() -> None:
    conv = nn.Conv2d(8, 6, 3, padding=1, groups=2, bias=False)
    cost = measure_cost(BoxPooledConv(StructuredConv2d.from_conv(conv, c=3, n=2)), (8, 5, 7))
    sums, box = 2 * 3 * (5 + 1) * (7 + 1), (4 - 3 + 1) * 2 * 2
    assert (cost.macs, cost.adds, cost.params) == (6 * 3 * 2**2 * 5 * 7, sums * (box - 1), 6 * 3 * 2**2)
    cost = measure_cost(BoxPooledLinear(StructuredLinear.from_linear(nn.Linear(9, 4), c=3)), (9,))
    assert (cost.macs, cost.adds, cost.params) == (4 * 3, 3 * (7 - 1), 4 * 3 + 4)


def test_the_structured_layers_of_a_network_are_replaced_and_it_stays_as_it_is() -> None:
    structured = StructuredConv2d.from_conv(nn.Conv2d(4, 4, 3), c=4, n=2)
    network = nn.Sequential(structured, nn.ReLU(), nn.Conv2d(4, 2, 1))
    found = box_pooled(network)
    assert [type(module) for module in found] == [BoxPooledConv, nn.ReLU, nn.Conv2d]
    assert network[0] is structured
    assert not set(map(id, network.parameters())) & set(map(id, found.parameters()))


def test_sums_that_are_no_boxes_are_refused() -> None:
    with pytest.raises(TypeError, match="natural order; this layer has MergedChannels"):
        BoxPooledConv(StructuredConv2d.from_conv(nn.Conv2d(4, 4, 3), c=2, n=3, variant="merged"))
    transposed = StructuredConvTranspose2d.from_conv(nn.ConvTranspose2d(4, 4, 3), c=2)
    with pytest.raises(TypeError, match="'0' is a StructuredConvTranspose2d"):
        box_pooled(nn.Sequential(transposed))
