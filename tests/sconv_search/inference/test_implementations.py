"""Every implementation of a structured layer computes what the layer computes."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import nn

from sconv_search import (
    CompositeConv2d,
    StructuredConv1d,
    StructuredConv2d,
    StructuredConv3d,
    StructuredConvTranspose2d,
    StructuredLinear,
)
from sconv_search.inference.implementations import AS_TRAINED, DENSE, implementations
from sconv_search.structured.sums.variants import VARIANTS

GEOMETRIES = {
    "padded": {"padding": 1},
    "strided": {"stride": 2, "padding": 1},
    "unpadded": {},
    "dilated": {"padding": 2, "dilation": 2},
    "same, circular": {"padding": "same", "padding_mode": "circular"},
    "same": {"padding": "same"},
    "grouped": {"padding": 1, "groups": 2},
    "wide padding": {"padding": 3},
    "oblong": {"padding": (0, 1), "stride": (1, 2)},
}


def check(layer: nn.Module, x: torch.Tensor, *, sortable: bool = False) -> set[str]:
    layer = layer.double().eval()
    found = implementations(layer, x.double(), sortable=sortable)
    for name, one in found.items():
        given = x.double() if one.order is None else x.double()[:, one.order]
        torch.testing.assert_close(one.module.double()(given), layer(x.double()), rtol=0, atol=1e-10, msg=name)
    assert next(iter(found)) == AS_TRAINED
    assert list(found)[-1] == DENSE
    return set(found) - {AS_TRAINED, DENSE}


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_of_convolutions(variant: str, geometry: str) -> None:
    torch.manual_seed(0)
    conv, x = nn.Conv2d(8, 6, 3, **GEOMETRIES[geometry]), torch.randn(2, 8, 7, 8)
    for c, n, sortable in product((1, 2, 4), (1, 2, 3), (False, True)):
        layer = StructuredConv2d.from_conv(conv, c=c, n=n, variant=variant)
        names = check(layer, x, sortable=sortable)
        assert ("1x1" in names) == (n == 3 and c < conv.weight.shape[1] and "circular" not in geometry)
        assert ("1x1 + average" in names) == (
            n < 3
            and c < conv.weight.shape[1]
            and geometry in ("padded", "strided", "unpadded", "same", "grouped", "oblong")
        )


def test_only_what_differs_is_offered() -> None:
    layer = StructuredConv2d.from_conv(nn.Conv2d(6, 6, 3, padding=1), c=6, n=2)
    assert check(layer, torch.randn(1, 6, 5, 5)) == {"average", "depthwise"}
    merged = StructuredConv2d.from_conv(nn.Conv2d(6, 6, 3, padding=1), c=3, n=3, variant="merged")
    assert check(merged, torch.randn(1, 6, 5, 5)) == {"sorted", "1x1"}
    assert check(merged, torch.randn(1, 6, 5, 5), sortable=True) == {"sorted by the layer before", "1x1"}


@pytest.mark.parametrize("variant", VARIANTS)
def test_of_pointwise_ones_with_a_stride(variant: str) -> None:
    torch.manual_seed(0)
    check(StructuredConv2d.from_conv(nn.Conv2d(8, 6, 1, stride=2), c=3, n=1, variant=variant), torch.randn(2, 8, 7, 7))


@pytest.mark.parametrize("sortable", [False, True])
def test_of_other_axes(sortable: bool) -> None:
    torch.manual_seed(0)
    check(StructuredConv1d.from_conv(nn.Conv1d(6, 4, 5, padding=2), c=3, n=3, variant="merged"), torch.randn(2, 6, 9))
    check(
        StructuredConv3d.from_conv(nn.Conv3d(4, 4, 3, padding=1), c=2, n=2, variant="permuted"),
        torch.randn(1, 4, 4, 4, 4),
    )
    check(StructuredLinear.from_linear(nn.Linear(6, 4), c=3, variant="merged"), torch.randn(2, 6), sortable=sortable)
    check(StructuredLinear.from_linear(nn.Linear(6, 4), c=3, variant="merged"), torch.randn(2, 5, 6), sortable=sortable)
    transposed = nn.ConvTranspose2d(6, 4, 3, stride=2, padding=1, output_padding=1, groups=2)
    check(StructuredConvTranspose2d.from_conv(transposed, c=2, variant="merged"), torch.randn(1, 6, 4, 4))
    check(CompositeConv2d.from_conv(nn.Conv2d(2, 3, 2), torch.eye(8).view(8, 2, 2, 2)[:3]), torch.randn(1, 2, 4, 4))


def test_another_layer_is_refused() -> None:
    with pytest.raises(TypeError, match="got Conv2d"):
        implementations(nn.Conv2d(2, 2, 1), torch.zeros(1, 2, 3, 3))
