"""Exchanges of wide layers: moves that are kept up to date are those of a table that is computed anew."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sconv_search.structured.sums import variants
from sconv_search.structured.sums.blocks import merged_in_blocks
from sconv_search.structured.sums.merging import merged_groups
from sconv_search.structured.sums.moves import Moves


def vectors(channels: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(channels, 12, generator=generator, dtype=torch.float64)


def best_anew(gram: Tensor, members: Tensor, signs: Tensor, count: int, signed: bool) -> tuple[float, int, int]:
    """The change of the squared residual by each move, from the residuals themselves."""

    def squared(members: Tensor, signs: Tensor) -> float:
        return sum(
            float(gram.diagonal()[own].sum() - signs[own] @ gram[own][:, own] @ signs[own] / len(own))
            for own in ((members == group).nonzero().flatten() for group in range(count))
        )

    now, found = squared(members, signs), (float("inf"), 0, 0)
    for channel in range(len(members)):
        if int((members == members[channel]).sum()) == 1:
            continue
        for target in set(range(count)) - {int(members[channel])}:
            for turn in (1.0, -1.0) if signed else (float(signs[channel]),):
                moved, turned = members.clone(), signs.clone()
                moved[channel], turned[channel] = target, turn
                found = min(found, (squared(moved, turned) - now, channel, target))
    return found


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_after_every_move_the_table_names_the_best_move_of_all(signed: bool, seed: int) -> None:
    count, v = 4, vectors(14, seed)
    members = torch.arange(14) % count
    signs = torch.ones(14, dtype=torch.float64)
    moves = Moves((v @ v.T).numpy(), members.numpy(), signs.numpy(), count, signed=signed)
    for _ in range(12):
        change, channel, target = moves.best()
        expected = best_anew(v @ v.T, torch.from_numpy(moves.members), torch.from_numpy(moves.signs), count, signed)
        assert change == pytest.approx(expected[0], abs=1e-10)
        if change >= -1e-12:
            break
        assert (channel, target) == expected[1:]
        moves.move_(channel, target)
    else:
        pytest.fail("14 channels take more than 12 moves")


def residual(v: Tensor, members: Tensor, signs: Tensor | None, count: int) -> float:
    turned = v if signs is None else v * signs[:, None]
    means = torch.zeros(count, v.shape[1], dtype=v.dtype).index_add_(0, members, turned)
    means /= torch.bincount(members, minlength=count)[:, None]
    return float((turned - means[members]).square().sum() / v.square().sum())


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("count", [5, 60, 190])
def test_groups_within_blocks_are_nearly_as_good_as_those_of_all_channels(
    signed: bool, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sconv_search.structured.sums.blocks.BLOCK", 64)
    v = vectors(200, 1)
    members, signs = merged_in_blocks(v, count, signed)
    sizes = torch.bincount(members, minlength=count)
    assert (sizes > 0).all()
    assert (sizes.diff() <= 0).all()
    assert (signs is None) is not signed
    whole = residual(v, *merged_groups(v @ v.T, count, signed), count)
    assert whole <= residual(v, members, signs, count) < 1.25 * whole


def test_not_more_blocks_than_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sconv_search.structured.sums.blocks.BLOCK", 8)
    members, _ = merged_in_blocks(vectors(100, 2), 3)
    assert torch.bincount(members).tolist() == sorted(torch.bincount(members, minlength=3).tolist(), reverse=True)


def test_a_layer_of_very_many_inputs_is_divided_into_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variants, "MOST_TOGETHER", 16)
    monkeypatch.setattr("sconv_search.structured.sums.blocks.BLOCK", 8)
    torch.manual_seed(0)
    wide = variants.channel_pooling(nn.Linear(40, 6), 10, "merged")
    kernel = torch.randn(6, 40)
    assert wide.coefficients(kernel).shape == (6, 10)
    monkeypatch.setattr("sconv_search.structured.sums.variants.merged_groups", None)  # is not asked
    assert not torch.equal(wide.members, variants.channel_pooling(nn.Linear(40, 6), 10, "merged").members)
