"""Sums as products by ones: the same function and gradients as additions, and only where nothing is recorded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from sconv_search.cost.counting import measure_cost
from sconv_search.structured.conv import StructuredConv2d
from sconv_search.structured.sums.eager_sums import box_products, channel_products, products_pay
from sconv_search.structured.sums.variants import VARIANTS


def _layer(
    *, variant: str = "merged", c: int = 4, n: int = 3, channels: int = 9, filters: int = 16, **geometry: object
) -> nn.Module:
    torch.manual_seed(0)
    conv = nn.Conv2d(channels, filters, 3, **geometry)  # type: ignore[arg-type]
    return StructuredConv2d.from_conv(conv, c=c, n=n, variant=variant)


def _last(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    return x.to(memory_format=torch.channels_last)


@contextmanager
def _additions() -> Iterator[None]:
    with (
        patch("sconv_search.structured.sums.channel_pooling.products_pay", return_value=False),
        patch("sconv_search.structured.conv.products_pay", return_value=False),
    ):
        yield


def _results(layer: nn.Module, x: Tensor) -> list[Tensor]:
    """Outputs, and the gradients of input, weight and bias."""
    x = x.detach().requires_grad_()
    out = layer(x)
    return [
        out,
        *torch.autograd.grad(
            (out * torch.arange(float(out.numel())).view_as(out).sin()).sum(), [x, *layer.parameters()]
        ),
    ]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    "geometry",
    [
        {},
        {"padding": 1},
        {"stride": 2, "padding": (1, 0)},
        {"dilation": 2, "padding": 2},
        {"padding": 1, "padding_mode": "circular"},
    ],
)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_products_and_additions_agree(variant: str, geometry: dict[str, object], n: int) -> None:
    layer, x = _layer(variant=variant, n=n, **geometry), _last(2, 9, 8, 7)
    assert products_pay(x)
    found = _results(layer, x)
    with _additions():
        expected = _results(layer, x)
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other, atol=2e-5, rtol=2e-5)


def test_a_layer_whose_sums_cost_more_than_its_dense_kernel_uses_that_one() -> None:
    layer, x = _layer(channels=32, filters=2, c=16, padding=1), _last(2, 32, 6, 6)
    assert layer._dense_is_cheaper
    with _additions():
        expected = _results(layer, x)
    with patch.object(layer.pooling, "forward", side_effect=AssertionError("pooled")):
        found = _results(layer, x)
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other, atol=2e-5, rtol=2e-5)


def test_what_is_counted_are_additions_whatever_the_memory_format() -> None:
    layer = _layer(channels=32, filters=2, c=16, n=2, padding=1)
    costs = {measure_cost(network, (32, 6, 6)) for network in (layer, layer.to(memory_format=torch.channels_last))}
    assert len(costs) == 1
    assert next(iter(costs)).macs == 6 * 6 * 2 * 16 * 2 * 2
    with torch.no_grad():
        exported = torch.export.export(layer.eval(), (_last(1, 32, 6, 6),))
    products = [node for node in exported.graph.nodes if "conv" in str(node.target)]
    assert len(products) == 1  # the small convolution alone


@pytest.mark.parametrize(
    "x",
    [
        torch.randn(2, 4, 5, 5),
        torch.randn(2, 4, 5, 5, dtype=torch.float64).to(memory_format=torch.channels_last),
        torch.randn(2, 4, 5),
        torch.randn(2, 4, 5, 5, device="cpu").to("meta").to(memory_format=torch.channels_last),
    ],
)
def test_other_inputs_are_summed_by_additions(x: Tensor) -> None:
    assert not products_pay(x)


def test_the_input_is_not_kept_for_the_backward_pass() -> None:
    x = _last(1, 4, 5, 5).requires_grad_()
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: (kept.append(tensor.data_ptr()), tensor)[1], lambda tensor: tensor
    ):
        channel_products(x, torch.ones(2, 4)).sum() + box_products(x, (2, 2), (0, 0), (1, 1)).sum()
    assert kept
    assert x.data_ptr() not in kept


def test_the_sums_are_those_of_loaded_buffers() -> None:
    one, other, x = _layer(), _layer(), _last(2, 9, 8, 8)
    other.pooling.load_state_dict({"members": one.pooling.members.roll(1)})
    other(x)  # remembers the matrix of its own groups
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(x), other(x))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_layer_scored_in_inference_mode_can_be_trained(variant: str) -> None:
    layer, x = _layer(variant=variant, n=2, padding=1), _last(2, 9, 8, 8)
    with torch.inference_mode():
        layer(x)
    layer(x.clone().requires_grad_()).sum().backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())


def test_autocast_leaves_the_sums_in_the_type_of_their_input() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        x = _last(1, 4, 5, 5, dtype=dtype)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert channel_products(x, torch.ones(2, 4)).dtype is dtype
            assert box_products(x, (2, 2), (1, 1), (1, 1)).dtype is dtype


@torch.no_grad()
def test_sums_of_bf16_are_rounded_once() -> None:
    """Products by ones add up in fp32 by themselves; the error stays that of sums in fp32."""
    layer, x = _layer(variant="natural", c=9, n=1, padding=1), _last(2, 9, 8, 7)
    layer, rounded = layer.bfloat16(), x.bfloat16()
    exact = layer.double()(rounded.double())
    layer = layer.bfloat16()
    with _additions():
        added = layer(rounded)
    with patch("sconv_search.structured.conv.box_products", side_effect=box_products) as summed:
        found = layer(rounded)
    assert summed.call_args.args[0].dtype == torch.bfloat16, "never wide in memory"
    errors = [float((one.double() - exact).norm() / exact.norm()) for one in (found, added)]
    assert errors[0] < 1.1 * errors[1] < 0.01
