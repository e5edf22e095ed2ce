"""Sums over sorted channels are the sums of the layer."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sconv_search.inference.sorted_sums import sorted_sums
from sconv_search.structured.sums.channel_pooling import MergedChannels, NaturalChains, PermutedChains


@given(st.data())
def test_sorted_sums_are_the_layers_sums(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 5), label="count")
    extra = data.draw(st.lists(st.integers(0, count - 1), max_size=9), label="further members")
    members = data.draw(st.permutations([*range(count), *extra]), label="members")
    signs = torch.tensor([data.draw(st.sampled_from([-1.0, 1.0])) for _ in members], dtype=torch.float64)
    x = torch.randn(2, len(members), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    order = torch.tensor(members).argsort(stable=True)
    for pooling in (
        MergedChannels(count, 1, torch.tensor(members), None),
        MergedChannels(count, 1, torch.tensor(members), signs),
        PermutedChains(count, 1, order, None),
        PermutedChains(count, 1, order, signs),
    ):
        found = sorted_sums(pooling)
        assert found is not None
        y = x[:, found.order]
        for module in found.sums:
            y = module(y)
        torch.testing.assert_close(y, pooling(x)[:, found.columns], rtol=0, atol=1e-12)


@pytest.mark.parametrize("pooling", [NaturalChains(6, 3), MergedChannels(2, 2, torch.tensor([0, 1, 0, 2, 3, 3]), None)])
def test_channels_in_order_and_groups_have_none(pooling: NaturalChains) -> None:
    assert sorted_sums(pooling) is None
