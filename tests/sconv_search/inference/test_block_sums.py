"""Sums by a convolution over blocks of channels are the sums of the layer."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from sconv_search import StructuredConv2d
from sconv_search.inference.block_sums import BLOCK, block_sums, shared_out
from sconv_search.inference.implementations import BY_WRITER, implementations
from sconv_search.structured.sums.channel_pooling import MergedChannels, NaturalChains, PermutedChains


@given(st.integers(2, 4), st.data())
def test_sums_in_blocks_are_the_layers_sums(blocks: int, data: st.DataObject) -> None:
    """Members are dealt out evenly, so that blocks exist, and then shuffled."""
    more = data.draw(
        st.lists(st.integers(0, BLOCK - 1), min_size=1, max_size=BLOCK), label="further members of each block"
    )
    members = [block * BLOCK + place for block in range(blocks) for place in (*range(BLOCK), *more)]
    members = data.draw(st.permutations(members), label="members")
    signs = torch.tensor([data.draw(st.sampled_from([-1.0, 1.0])) for _ in members])
    x = torch.randn(2, len(members), 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for own in (None, signs):
        pooling = MergedChannels(BLOCK * blocks, 1, torch.tensor(members), own)
        found = block_sums(pooling)
        assert found is not None
        y = F.conv1d(x[:, found.order], found.matrix.double()[:, :, None], groups=found.blocks)
        torch.testing.assert_close(y, pooling(x)[:, found.columns], rtol=0, atol=1e-12)


@given(st.lists(st.integers(1, 9), min_size=4, max_size=24), st.sampled_from([2, 3, 4]))
def test_items_are_shared_out_evenly_or_not_at_all(sizes: list[int], blocks: int) -> None:
    sizes = sizes[: len(sizes) // blocks * blocks]
    found = shared_out(sizes, blocks)
    if found is not None:
        assert sorted(item for own in found for item in own) == list(range(len(sizes)))
        assert {len(own) for own in found} == {len(sizes) // blocks}
        assert len({sum(sizes[item] for item in own) for own in found}) == 1


def test_exchanges_even_out_what_dealing_does_not() -> None:
    assert shared_out([5, 1, 1, 1, 2, 2], 2) is None, "one block holds 7 at least, of 12"
    assert shared_out([4, 3, 3, 2, 2, 2], 2) is not None
    assert shared_out([6, 5, 5, 3, 3, 2, 1, 1, 1, 1], 2) is not None


@pytest.mark.parametrize(
    "pooling",
    [
        NaturalChains(32, 16),
        PermutedChains(16, 1, torch.arange(32), None),
        MergedChannels(8, 1, torch.arange(16) % 8, None),
        MergedChannels(16, 2, torch.arange(64) % 32, None),
        MergedChannels(16, 1, torch.tensor([*range(16), *[0] * 16]), None),
    ],
    ids=["natural", "permuted", "one block", "groups", "one large sum"],
)
def test_other_sums_have_no_blocks(pooling: NaturalChains) -> None:
    assert block_sums(pooling) is None


@pytest.mark.parametrize("variant", ["merged", "signed_merged"])
@pytest.mark.parametrize("sortable", [False, True])
@pytest.mark.parametrize(
    ("geometry", "taps", "n"),
    [
        ({"padding": 1}, 3, 2),
        ({"padding": 1}, 3, 3),
        ({"padding": 1, "stride": 2}, 3, 2),
        ({}, 1, 1),
        ({"stride": 2}, 1, 1),
        ({"padding": 2, "dilation": 2}, 3, 2),
        ({"padding": (0, 1)}, 3, 2),
    ],
)
def test_a_layer_in_blocks_is_the_layer(
    variant: str, sortable: bool, geometry: dict[str, int], taps: int, n: int
) -> None:
    torch.manual_seed(0)
    conv, x = nn.Conv2d(32, 6, taps, **geometry).double(), torch.randn(2, 32, 9, 8, dtype=torch.float64)
    layer = StructuredConv2d.from_conv(conv, c=16, n=n, variant=variant).eval()
    name = f"{BY_WRITER if sortable else 'sorted'} + blocks"
    one = implementations(layer, x, sortable=sortable)[name]
    assert (one.order is not None) is sortable
    given_x = x if one.order is None else x[:, one.order]
    torch.testing.assert_close(one.module(given_x), layer(x), rtol=0, atol=1e-10)


def test_padding_that_zeros_cannot_stand_for_has_none() -> None:
    conv = nn.Conv2d(32, 6, 3, padding=1, padding_mode="circular")
    layer = StructuredConv2d.from_conv(conv, c=16, n=2, variant="merged")
    assert not any("blocks" in name for name in implementations(layer, torch.zeros(1, 32, 6, 6)))
