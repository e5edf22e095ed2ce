"""Channel sums of every variant: what they compute, what they can express, and how their choice is made."""

from __future__ import annotations

import copy
import io
from itertools import combinations, permutations, product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sconv_search import CompositeConv2d, StructuredConv2d, StructuredConvTranspose2d, StructuredLinear, measure_cost
from sconv_search.structured import kernels
from sconv_search.structured.sums.chains import chain_order
from sconv_search.structured.sums.channel_pooling import MergedChannels
from sconv_search.structured.sums.merging import merged_groups
from sconv_search.structured.sums.variants import VARIANTS, channel_pooling


def gram(vectors: Tensor) -> Tensor:
    return vectors @ vectors.T


def masks(pooling: nn.Module) -> Tensor:
    """The sums as a (g c, g C) matrix."""
    channels = pooling.channels * pooling.groups
    return pooling(torch.eye(channels, dtype=torch.float64), 1).T


def chain_residual(vectors: Tensor, order: tuple[int, ...], signs: Tensor, count: int) -> float:
    placed = (vectors * signs[:, None])[list(order)]
    return float((placed - kernels.project_axis(placed, 0, count)).square().sum())


@pytest.mark.parametrize("variant", VARIANTS)
@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_pooling_then_small_kernel_is_the_dense_kernel_closest_to_the_trained_one(
    variant: str, data: st.DataObject
) -> None:
    groups, channels = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 9))
    count = data.draw(st.integers(1, channels))
    layer = nn.Conv2d(groups * channels, 2 * groups, (1, 2), groups=groups).double()
    torch.manual_seed(data.draw(st.integers(0, 99)))
    nn.init.normal_(layer.weight)
    pooling = channel_pooling(layer, count, variant)
    w = layer.weight.detach()
    small = pooling.coefficients(w)
    dense = pooling.kernel(small)
    assert small.shape == (2 * groups, count, 1, 2)
    for group in range(groups):
        own = masks(pooling)[group * count : (group + 1) * count, group * channels : (group + 1) * channels]
        rows = slice(2 * group, 2 * group + 2)
        applied = torch.einsum("ocab,cd->odab", small[rows], own)
        torch.testing.assert_close(dense[rows], applied, rtol=0, atol=1e-10)
        columns = w[rows].transpose(0, 1).flatten(1)
        best = own.T @ torch.linalg.lstsq(own.T, columns).solution
        torch.testing.assert_close(dense[rows].transpose(0, 1).flatten(1), best, rtol=0, atol=1e-9)
    torch.testing.assert_close(pooling.kernel(pooling.coefficients(dense)), dense, rtol=0, atol=1e-10)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("groups", [1, 2])
def test_a_layer_of_each_variant_computes_as_its_dense_equal(variant: str, groups: int) -> None:
    conv = nn.Conv2d(12, 8, 3, stride=2, padding=1, groups=groups, bias=True).double()
    x = torch.randn(2, 12, 7, 6).double()
    layer = StructuredConv2d.from_conv(conv, c=4, n=2, variant=variant)
    torch.testing.assert_close(layer(x), layer.to_dense()(x), rtol=0, atol=1e-12)
    linear = StructuredLinear.from_linear(nn.Linear(12, 5).double(), c=5, variant=variant)
    torch.testing.assert_close(linear(x.movedim(1, -1)), linear.to_dense()(x.movedim(1, -1)))
    up = nn.ConvTranspose2d(12, 8, 3, stride=2, padding=1, output_padding=1, groups=groups, dilation=2).double()
    small = StructuredConvTranspose2d.from_conv(up, c=4, variant=variant)
    torch.testing.assert_close(small(x), small.to_dense()(x), rtol=0, atol=1e-12)
    torch.testing.assert_close(small(x[0]), small(x)[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("count", [1, 3, 5, 11])
def test_additions_are_those_of_the_formula(variant: str, count: int) -> None:
    layer = StructuredConv2d.from_conv(nn.Conv2d(12, 8, 3, padding=1, bias=False), c=count, n=3, variant=variant)
    signs = 12 if variant.startswith("signed") else 0
    expected = (12 - count if variant.endswith("merged") else 11) + signs
    cost = measure_cost(layer, (12, 6, 7))
    assert (cost.adds, cost.macs) == (expected * 6 * 7, 8 * count * 9 * 6 * 7)


@pytest.mark.parametrize("variant", VARIANTS[1:])
def test_the_choice_travels_in_the_state_dict(variant: str) -> None:
    trained, fresh = nn.Conv2d(10, 8, 3, groups=2), nn.Conv2d(10, 8, 3, groups=2)
    layer = StructuredConv2d.from_conv(trained, c=2, n=3, variant=variant)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    rebuilt = StructuredConv2d.from_conv(fresh, c=2, n=3, variant=variant)
    x = torch.randn(2, 10, 5, 5)
    assert not torch.equal(rebuilt(x), layer(x))
    file.seek(0)
    rebuilt.load_state_dict(torch.load(file))
    assert torch.equal(rebuilt(x), layer(x))
    assert torch.equal(copy.deepcopy(rebuilt)(x), layer(x))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("groups", [1, 2])
def test_gradients_are_those_of_the_masks(variant: str, groups: int) -> None:
    pooling = channel_pooling(nn.Conv2d(12, 4, 1, groups=groups).double(), 4, variant)
    x = torch.randn(3, 12, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(pooling, x)
    assert torch.autograd.gradgradcheck(pooling, x)
    towards = torch.randn(3, 4 * groups, 2, 2, dtype=torch.float64)
    (found,) = torch.autograd.grad(pooling(x), x, towards)
    torch.testing.assert_close(found, torch.einsum("sc,nsyx->ncyx", masks(pooling), towards), rtol=0, atol=1e-12)


def test_merged_channels_are_a_composite_kernel() -> None:
    conv = nn.Conv2d(7, 6, 3, padding=1, bias=False).double()
    layer = StructuredConv2d.from_conv(conv, c=3, n=3, variant="merged")
    taps = torch.eye(9, dtype=torch.float64).view(9, 1, 3, 3)
    groups = masks(layer.pooling).view(3, 1, 7, 1, 1) * taps
    composite = CompositeConv2d.from_conv(conv, groups.flatten(0, 1))
    torch.testing.assert_close(layer.dense_kernel(), composite.dense_kernel(), rtol=0, atol=1e-12)


@given(st.integers(2, 6), st.integers(0, 10_000), st.booleans(), st.data())
@settings(max_examples=40, deadline=None)
def test_groups_cover_all_channels_and_are_near_the_best_of_all_partitions(
    channels: int, seed: int, signed: bool, data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, channels - 1))
    vectors = torch.randn(channels, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    def residual(members: Tensor, signs: Tensor) -> float:
        turned = vectors * signs[:, None]
        return float(
            sum((own - own.mean(0)).square().sum() for own in (turned[members == group] for group in range(count)))
        )

    members, signs = merged_groups(gram(vectors), count, signed)
    sizes = torch.bincount(members, minlength=count)
    assert (sizes > 0).all()
    assert (sizes.diff() <= 0).all()
    turns = list(product([1.0, -1.0], repeat=channels)) if signed else [(1.0,) * channels]
    partitions = [torch.tensor(p) for p in product(range(count), repeat=channels) if len(set(p)) == count]
    if len(partitions) * len(turns) <= 2000:
        best = min(residual(p, torch.tensor(t).double()) for p in partitions for t in turns)
        found = residual(members, torch.ones(channels).double() if signs is None else signs)
        assert best - 1e-9 <= found <= 1.6 * best + 1e-9


@pytest.mark.parametrize("signed", [False, True])
def test_groups_of_equal_channels_are_found(signed: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(5, 4, generator=generator, dtype=torch.float64)
    truth = torch.tensor([0, 1, 2, 3, 4, 0, 1, 0, 3, 3, 0])
    turns = (
        torch.where(torch.rand(11, generator=generator) < 0.5, -1.0, 1.0).double()
        if signed
        else torch.ones(11).double()
    )
    members, signs = merged_groups(gram(centers[truth] * turns[:, None]), 5, signed)
    for i, j in combinations(range(11), 2):
        assert (members[i] == members[j]) == (truth[i] == truth[j])
        if signs is not None and truth[i] == truth[j]:
            assert signs[i] * signs[j] == turns[i] * turns[j]


def test_equal_channels_do_not_leave_a_group_empty() -> None:
    members, _ = merged_groups(gram(torch.ones(6, 2, dtype=torch.float64)), 4)
    assert sorted(torch.bincount(members).tolist()) == [1, 1, 1, 3]


@given(st.integers(2, 6), st.integers(0, 10_000), st.booleans(), st.data())
@settings(max_examples=30, deadline=None)
def test_the_order_is_a_permutation_that_no_exchange_improves(
    channels: int, seed: int, signed: bool, data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, channels))
    vectors = torch.randn(channels, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    order, signs = chain_order(gram(vectors), count, signed)
    signs = torch.ones(channels).double() if signs is None else signs
    assert sorted(order.tolist()) == list(range(channels))
    found = chain_residual(vectors, tuple(order.tolist()), signs, count)
    for i, j in combinations(range(channels), 2):
        other = order.tolist()
        other[i], other[j] = other[j], other[i]
        assert found <= chain_residual(vectors, tuple(other), signs, count) + 1e-9
    if signed:
        for i in range(channels):
            flipped = signs.clone()
            flipped[i] *= -1
            assert found <= chain_residual(vectors, tuple(order.tolist()), flipped, count) + 1e-9
    best = min(chain_residual(vectors, order, signs, count) for order in permutations(range(channels)))
    assert found <= 2 * best + 0.2 * float(vectors.square().sum())


@pytest.mark.parametrize(("count", "signed"), [(9, False), (14, False), (17, False), (9, True), (17, True)])
def test_no_exchange_improves_an_order_of_many_channels(count: int, signed: bool) -> None:
    vectors = torch.randn(20, 8, generator=torch.Generator().manual_seed(count), dtype=torch.float64)
    order, signs = chain_order(gram(vectors), count, signed)
    signs = torch.ones(20).double() if signs is None else signs
    found = chain_residual(vectors, tuple(order.tolist()), signs, count)
    for i, j in combinations(range(20), 2):
        other = order.tolist()
        other[i], other[j] = other[j], other[i]
        assert found <= chain_residual(vectors, tuple(other), signs, count) + 1e-9


def test_the_order_beats_the_natural_one_and_signs_beat_none() -> None:
    vectors = torch.randn(24, 40, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ones = torch.ones(24).double()
    for count in (6, 11, 18):
        natural = chain_residual(vectors, tuple(range(24)), ones, count)
        order, _ = chain_order(gram(vectors), count)
        permuted = chain_residual(vectors, tuple(order.tolist()), ones, count)
        order, signs = chain_order(gram(vectors), count, True)
        signed = chain_residual(vectors, tuple(order.tolist()), signs, count)
        assert signed < permuted < natural


def test_a_sum_without_channels_cannot_be_built_wrongly() -> None:
    pooling = MergedChannels(2, 1, torch.tensor([0, 1, 1]), None)
    assert torch.equal(pooling(torch.tensor([[1.0, 2.0, 4.0]]), 1), torch.tensor([[6.0, 1.0]])[:, [1, 0]])


def test_a_group_of_very_many_channels_is_summed_in_few_rounds() -> None:
    members = torch.zeros(1000, dtype=torch.int64)
    members[-1] = 1
    pooling = MergedChannels(2, 1, members, None)
    x = torch.randn(3, 1000).double()
    assert len([name for name, _ in pooling.named_buffers() if name.endswith("first")]) == 10
    torch.testing.assert_close(pooling(x), torch.stack([x[:, :-1].sum(1), x[:, -1]], 1))
