from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sconv_search import StructuredConv1d, StructuredConv2d, StructuredConv3d, StructuredLinear
from sconv_search.structured import kernels

LAYERS: dict[type[nn.Module], Any] = {
    nn.Conv1d: StructuredConv1d,
    nn.Conv2d: StructuredConv2d,
    nn.Conv3d: StructuredConv3d,
}
GEOMETRIES: dict[str, Callable[[], nn.Module]] = {
    "plain": partial(nn.Conv2d, 6, 4, 3),
    "no bias": partial(nn.Conv2d, 6, 4, 3, padding=1, bias=False),
    "strided": partial(nn.Conv2d, 6, 4, 3, stride=2, padding=1),
    "unequal strides and paddings": partial(nn.Conv2d, 6, 4, 3, stride=(2, 1), padding=(0, 2)),
    "dilated": partial(nn.Conv2d, 6, 4, 3, padding=2, dilation=2),
    "same": partial(nn.Conv2d, 6, 4, 3, padding="same", dilation=(1, 2)),
    "same, even kernel": partial(nn.Conv2d, 6, 4, (2, 4), padding="same"),
    "same, reflected": partial(nn.Conv2d, 6, 4, (3, 4), padding="same", padding_mode="reflect"),
    "valid": partial(nn.Conv2d, 6, 4, 3, padding="valid", stride=2),
    "non-square": partial(nn.Conv2d, 6, 4, (1, 5), padding=(0, 2)),
    "groups": partial(nn.Conv2d, 12, 4, 3, padding=1, groups=2),
    "depthwise": partial(nn.Conv2d, 6, 6, 5, padding=2, groups=6),
    "depthwise, two filters a channel": partial(nn.Conv2d, 3, 6, 3, padding=1, groups=3),
    "pointwise": partial(nn.Conv2d, 6, 4, 1),
    "pointwise, strided": partial(nn.Conv2d, 6, 4, 1, stride=2),
    "pointwise, strided, padded": partial(nn.Conv2d, 6, 4, 1, stride=2, padding=1),
    "pointwise, strided, groups": partial(nn.Conv2d, 8, 4, 1, stride=(1, 3), groups=2),
    **{
        mode: partial(nn.Conv2d, 6, 4, 3, padding=(2, 1), padding_mode=mode)
        for mode in ("reflect", "replicate", "circular")
    },
    "1d": partial(nn.Conv1d, 6, 4, 5, padding=2, stride=2),
    "1d, circular": partial(nn.Conv1d, 6, 4, 4, padding=3, padding_mode="circular", groups=2),
    "3d": partial(nn.Conv3d, 6, 4, 3, padding=1, stride=(1, 2, 2)),
    "3d, non-cubic, replicate": partial(
        nn.Conv3d, 6, 4, (1, 3, 2), padding=(0, 1, 1), padding_mode="replicate", groups=2
    ),
}
SIZES = {1: (11,), 2: (9, 8), 3: (5, 6, 5)}


@pytest.fixture(params=GEOMETRIES.values(), ids=GEOMETRIES.keys())
def conv(request: pytest.FixtureRequest) -> nn.Module:
    made: nn.Module = request.param()
    return made


def inputs(conv: nn.Module, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(2, conv.in_channels, *SIZES[conv.weight.dim() - 2], dtype=dtype)


def structures(conv: nn.Module) -> list[tuple[int, int]]:
    return list(product(range(1, conv.weight.shape[1] + 1), range(1, max(conv.kernel_size) + 1)))


def projected(conv: nn.Module, c: int, n: int) -> nn.Module:
    result = copy.deepcopy(conv)
    counts = (c, *(min(n, taps) for taps in conv.kernel_size))
    with torch.no_grad():
        result.weight.copy_(kernels.project(conv.weight.double(), counts))
    return result


def structured(conv: nn.Module, c: int, n: int) -> Any:
    return LAYERS[type(conv)].from_conv(conv, c=c, n=n)


def largest(x: Tensor) -> float:
    return x.abs().max().item()


def test_layer_is_the_convolution_with_the_projected_kernel(conv: nn.Module) -> None:
    conv = conv.double()
    x = inputs(conv)
    for c, n in structures(conv):
        layer = structured(conv, c, n)
        torch.testing.assert_close(layer(x), projected(conv, c, n)(x), rtol=0, atol=1e-10)
        torch.testing.assert_close(layer.to_dense()(x), layer(x), rtol=0, atol=1e-10)


def test_single_precision_loses_at_most_1e_5_of_the_largest_output(conv: nn.Module) -> None:
    x = inputs(conv, torch.float32)
    for c, n in structures(conv):
        expected = projected(conv, c, n)(x)
        layer = structured(conv, c, n)
        assert layer(x).dtype == torch.float32
        assert largest(layer(x) - expected) <= 1e-5 * largest(expected)
        assert largest(layer.to_dense()(x) - expected) <= 1e-5 * largest(expected)


@st.composite
def convolutions(draw: st.DrawFn) -> nn.Module:
    axes, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    kernel = draw(st.tuples(*[st.integers(1, 3 if axes == 3 else 4)] * axes))
    paddings = st.tuples(*[st.integers(0, 2)] * axes)
    named = st.sampled_from(["same", "valid"])
    padding = draw(paddings | named)
    strides = st.just((1,) * axes) if padding == "same" else st.tuples(*[st.integers(1, 3)] * axes)
    return list(LAYERS)[axes - 1](
        groups * draw(st.integers(1, 5)),
        groups * draw(st.integers(1, 3)),
        kernel,
        stride=draw(strides),
        padding=padding,
        dilation=draw(st.tuples(*[st.integers(1, 2)] * axes)),
        groups=groups,
        bias=draw(st.booleans()),
        padding_mode=draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"])),
        dtype=torch.float64,
    )


@settings(max_examples=50, deadline=None, derandomize=True)
@given(convolutions(), st.data())
def test_any_geometry_is_kept(conv: nn.Module, data: st.DataObject) -> None:
    c, n = data.draw(st.sampled_from(structures(conv)))
    x = inputs(conv)
    torch.testing.assert_close(structured(conv, c, n)(x), projected(conv, c, n)(x), rtol=0, atol=1e-10)


def test_full_structure_is_the_original_convolution(conv: nn.Module) -> None:
    layer = structured(conv, *structures(conv)[-1])
    x = inputs(conv, torch.float32)
    assert torch.equal(layer.weight, conv.weight)
    torch.testing.assert_close(layer(x), conv(x), rtol=0, atol=1e-6)


def test_an_input_without_the_batch_axis_is_taken(conv: nn.Module) -> None:
    layer = structured(conv, *structures(conv)[0])
    x = inputs(conv, torch.float32)
    torch.testing.assert_close(layer(x[0]), layer(x)[0], rtol=0, atol=1e-6)


def test_alpha_composes_to_the_kernel(conv: nn.Module) -> None:
    conv = conv.double()
    for c, n in structures(conv):
        layer = structured(conv, c, n)
        assert layer.alpha.shape == (conv.out_channels, c, *(min(n, taps) for taps in conv.kernel_size))
        composed = kernels.compose(layer.alpha, conv.weight.shape[1:])
        torch.testing.assert_close(composed, projected(conv, c, n).weight, rtol=0, atol=1e-12)


def test_the_dense_form_repeats_the_geometry() -> None:
    conv = GEOMETRIES["1d, circular"]()
    assert repr(structured(conv, 2, 2).to_dense()) == repr(conv)


@pytest.mark.parametrize("c", [0, 7, -1])
def test_c_out_of_range_is_refused(c: int) -> None:
    with pytest.raises(ValueError, match=rf"c must be in 1\.\.6 .* got {c}"):
        StructuredConv2d.from_conv(nn.Conv2d(12, 4, 3, groups=2), c=c, n=2)
    with pytest.raises(ValueError, match=rf"c must be in 1\.\.6 .* got {c}"):
        StructuredLinear.from_linear(nn.Linear(6, 4), c=c)


@pytest.mark.parametrize("n", [0, 6, -2])
def test_n_out_of_range_is_refused(n: int) -> None:
    with pytest.raises(ValueError, match=rf"n must be in 1\.\.5 .* got {n}"):
        StructuredConv2d.from_conv(nn.Conv2d(6, 4, (3, 5)), c=2, n=n)


class OwnConv(nn.Conv2d):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input).relu()


@pytest.mark.parametrize("layer", [nn.ConvTranspose2d(4, 4, 3), nn.Conv1d(4, 4, 3), nn.Linear(4, 4), OwnConv(4, 4, 3)])
def test_another_kind_of_layer_is_refused_by_name(layer: nn.Module) -> None:
    with pytest.raises(TypeError, match=f"StructuredConv2d is made from Conv2d, .*{type(layer).__name__}"):
        StructuredConv2d.from_conv(layer, c=2, n=2)


@pytest.mark.parametrize("shape", [(5, 9), (9,), (2, 3, 9)])
def test_linear_layer_is_that_of_the_projected_weight(shape: tuple[int, ...]) -> None:
    linear, x = nn.Linear(9, 4, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
    for c in range(1, 10):
        layer = StructuredLinear.from_linear(linear, c=c)
        expected = nn.functional.linear(x, kernels.project(linear.weight, (c,)), linear.bias)
        torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-10)
        torch.testing.assert_close(layer.to_dense()(x), expected, rtol=0, atol=1e-10)
        torch.testing.assert_close(kernels.compose(layer.alpha, (9,)), layer.dense_kernel(), rtol=0, atol=1e-12)
    assert torch.equal(layer.weight, linear.weight)


def test_a_convolution_is_no_linear_layer() -> None:
    with pytest.raises(TypeError, match="StructuredLinear is made from Linear, got Conv1d"):
        StructuredLinear.from_linear(nn.Conv1d(4, 4, 1), c=2)
