from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sconv_search import CompositeConv2d, StructuredConv2d

GEOMETRIES: dict[str, dict[str, Any]] = {
    "plain": {},
    "no bias": {"bias": False},
    "strided": {"stride": (2, 1), "padding": 1},
    "dilated": {"dilation": 2, "padding": 2},
    "same": {"padding": "same", "dilation": (1, 2)},
    "groups": {"groups": 2, "padding": 1},
    **{mode: {"padding": (1, 2), "padding_mode": mode} for mode in ("reflect", "replicate", "circular")},
}


def mask(*rows: str) -> Tensor:
    return torch.tensor([[[int(tap) for tap in row] for row in rows]])


# The three 3x3 composite kernels of the paper's figure 1.
BOXES = torch.stack(
    [mask("110", "110", "000"), mask("011", "011", "000"), mask("000", "110", "110"), mask("000", "011", "011")]
)
FOUR = torch.stack(
    [mask("100", "011", "000"), mask("010", "101", "010"), mask("000", "110", "001"), mask("111", "000", "100")]
)
SIX = torch.stack([*FOUR, mask("001", "001", "001"), mask("000", "000", "111")])
FIGURE = {"structured, M=4": BOXES, "unstructured, M=4": FOUR, "unstructured, M=6": SIX}


def kernel_of(alpha_OM: Tensor, masks_MCHW: Tensor) -> Tensor:
    return sum(alpha[:, None, None, None] * beta.double() for alpha, beta in zip(alpha_OM.T, masks_MCHW, strict=True))


@pytest.mark.parametrize("masks", FIGURE.values(), ids=FIGURE.keys())
def test_layer_is_the_convolution_with_the_weighted_sum_of_masks(masks: Tensor) -> None:
    layer = CompositeConv2d(nn.Conv2d(1, 5, 3, dtype=torch.float64), masks)
    alpha = torch.randn(5, len(masks), dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(alpha[..., None, None])
    x = torch.randn(2, 1, 7, 8, dtype=torch.float64)
    expected = F.conv2d(x, kernel_of(alpha, masks), layer.bias)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(layer.to_dense()(x), expected, rtol=0, atol=1e-10)


def test_boxes_give_the_structured_convolution() -> None:
    conv = nn.Conv2d(1, 5, 3, padding=1, dtype=torch.float64)
    composite, structured = CompositeConv2d.from_conv(conv, BOXES), StructuredConv2d.from_conv(conv, c=1, n=2)
    x = torch.randn(2, 1, 7, 8, dtype=torch.float64)
    torch.testing.assert_close(composite(x), structured(x), rtol=0, atol=1e-10)
    torch.testing.assert_close(composite.weight.flatten(1), structured.alpha.flatten(1), rtol=0, atol=1e-10)


def test_boxes_in_each_channel_give_the_structured_convolution_of_all_channels() -> None:
    conv = nn.Conv2d(3, 5, 3, padding=1, dtype=torch.float64)
    masks = torch.zeros(12, 3, 3, 3)
    for channel in range(3):
        masks[4 * channel : 4 * channel + 4, channel] = BOXES[:, 0].float()
    x = torch.randn(2, 3, 7, 8, dtype=torch.float64)
    composite, structured = CompositeConv2d.from_conv(conv, masks), StructuredConv2d.from_conv(conv, c=3, n=2)
    torch.testing.assert_close(composite(x), structured(x), rtol=0, atol=1e-10)


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES.keys())
def test_any_geometry_is_kept_and_the_kernel_is_the_closest(geometry: dict[str, Any]) -> None:
    conv = nn.Conv2d(4, 6, 3, dtype=torch.float64, **geometry)
    masks = torch.randint(0, 2, (7, *conv.weight.shape[1:]))
    basis = masks.flatten(1).double().T
    layer = CompositeConv2d.from_conv(conv, masks)
    with torch.no_grad():
        conv.weight.copy_((conv.weight.flatten(1) @ (basis @ torch.linalg.pinv(basis)).T).view_as(conv.weight))
    x = torch.randn(2, 4, 9, 8, dtype=torch.float64)
    torch.testing.assert_close(layer(x), conv(x), rtol=0, atol=1e-10)
    torch.testing.assert_close(layer.to_dense()(x), conv(x), rtol=0, atol=1e-10)
    torch.testing.assert_close(layer(x[0]), conv(x)[0], rtol=0, atol=1e-10)


def test_training_moves_the_weights_and_leaves_the_masks() -> None:
    layer = CompositeConv2d.from_conv(nn.Conv2d(1, 5, 3), FOUR)
    layer(torch.randn(2, 1, 5, 5)).square().mean().backward()
    assert {name for name, _ in layer.named_parameters()} == {"weight", "bias"}
    assert all(weight.grad.abs().min() > 0 for weight in layer.parameters())
    assert torch.equal(layer.masks, FOUR.float())


@pytest.mark.parametrize("pair", list(combinations(range(4), 2)))
def test_a_mask_that_depends_on_those_before_it_is_named(pair: tuple[int, int]) -> None:
    corners = torch.stack(
        [mask("100", "000", "000"), mask("001", "000", "000"), mask("000", "000", "100"), mask("000", "000", "001")]
    )
    masks = torch.cat([corners, corners[list(pair)].sum(0, keepdim=True), mask("010", "000", "000")[None]])
    with pytest.raises(ValueError, match="mask 4 is a linear combination"):
        CompositeConv2d(nn.Conv2d(1, 2, 3), masks)


@pytest.mark.parametrize("value", [2, -1])
def test_a_mask_that_is_not_binary_is_named(value: int) -> None:
    masks = BOXES.clone()
    masks[2, 0, 1, 1] = value
    with pytest.raises(ValueError, match="mask 2 holds other values than 0 and 1"):
        CompositeConv2d(nn.Conv2d(1, 2, 3), masks)


def test_a_mask_of_zeros_is_refused() -> None:
    with pytest.raises(ValueError, match="mask 1"):
        CompositeConv2d(nn.Conv2d(1, 2, 3), torch.stack([mask("100", "000", "000"), mask("000", "000", "000")]))


@pytest.mark.parametrize("shape", [(4, 3, 3), (4, 2, 3, 3), (4, 1, 2, 3), (0, 1, 3, 3)])
def test_masks_of_another_shape_than_the_kernel_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"masks must .*got \(" + ", ".join(map(str, shape))):
        CompositeConv2d(nn.Conv2d(1, 2, 3), torch.ones(shape))


def test_another_kind_of_layer_is_refused() -> None:
    with pytest.raises(TypeError, match="CompositeConv2d is made from Conv2d, got ConvTranspose2d"):
        CompositeConv2d(nn.ConvTranspose2d(1, 2, 3), BOXES)
