from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from sconv_search.cost.counting import measure_cost
from sconv_search.structured import kernels
from sconv_search.structured.sums.spatial_pooling import pool_channels, pool_grouped_channels, pool_space

some = settings(max_examples=40, deadline=None, derandomize=True)


class Pool(nn.Module):
    def __init__(self, pool: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(x)


def additions(pool: Callable[[Tensor], Tensor], *shape: int) -> int:
    return measure_cost(Pool(pool), shape).adds


@some
@given(st.integers(1, 12), st.data())
def test_pooled_channels_weighted_by_chain_coefficients_equal_the_channels_weighted_by_the_kernel(
    channels: int, data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, channels))
    x = torch.randn(2, channels, 5, dtype=torch.float64)
    coefficients = torch.randn(4, count, dtype=torch.float64)
    kernel = kernels.compose_chains(coefficients, 1, channels) if count < channels else coefficients
    found = torch.einsum("oc,ncx->nox", coefficients, pool_channels(x, 1, count))
    torch.testing.assert_close(found, torch.einsum("oc,ncx->nox", kernel, x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_groups_are_pooled_apart(count: int) -> None:
    x = torch.randn(2, 12, 5)
    expected = torch.cat([pool_channels(group, 1, count) for group in x.split(4, dim=1)], dim=1)
    assert torch.equal(pool_grouped_channels(x, 3, count), expected)


@some
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 2)), min_size=1, max_size=3))
def test_pooled_space_is_a_convolution_with_ones(axes: list[tuple[int, int]]) -> None:
    boxes, dilation = zip(*axes, strict=True)
    x = torch.randn(2, 3, *(7,) * len(axes), dtype=torch.float64)
    convolve = (F.conv1d, F.conv2d, F.conv3d)[len(axes) - 1]
    ones = torch.ones(3, 1, *boxes, dtype=torch.float64)
    expected = convolve(x, ones, dilation=dilation, groups=3)
    torch.testing.assert_close(pool_space(x, boxes, dilation), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("count", range(1, 9))
def test_pooling_channels_takes_one_addition_less_than_channels(count: int) -> None:
    expected = 7 * 30 if count < 8 else 0
    assert additions(lambda x: pool_channels(x, 1, count), 8, 5, 6) == expected


@pytest.mark.parametrize("count", range(1, 5))
def test_pooling_groups_takes_one_addition_less_than_channels_a_group(count: int) -> None:
    expected = 3 * (4 - 1) * 30 if count < 4 else 0
    assert additions(lambda x: pool_grouped_channels(x, 3, count), 12, 5, 6) == expected


def test_pooling_space_takes_one_addition_less_than_the_box_for_each_output_of_an_axis() -> None:
    rows = 4 * (3 - 1) * (9 - 2) * 8  # 4 channels, boxes of 3 along 9 rows
    columns = 4 * (2 - 1) * (9 - 2) * (8 - 2)  # boxes of 2 taps that are 2 apart, along 8 columns of the 7 rows left
    assert additions(lambda x: pool_space(x, (3, 2), (1, 2)), 4, 9, 8) == rows + columns


def test_a_box_of_one_tap_is_the_input_itself() -> None:
    x = torch.randn(2, 3, 4)
    assert pool_space(x, (1,), (1,)) is x
    assert pool_channels(x, 1, 3) is x


def test_inputs_are_not_modified() -> None:
    x = torch.randn(2, 6, 5)
    before = x.clone()
    pool_grouped_channels(x, 2, 2)
    pool_space(x, (3,), (1,))
    assert torch.equal(x, before)
