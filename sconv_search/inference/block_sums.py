"""Sums over disjoint groups of channels as a convolution with groups: blocks of channels become blocks of sums.

Runtimes keep channels in blocks of 8 or 16 and leave that layout for slices and gathers, but not for a convolution
whose groups are such blocks. One of them makes the sums over channels and those over space at once, for few
multiplications.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sconv_search.structured.sums.channel_pooling import MergedChannels, NaturalChains

BLOCK = 8
"""Sums of one block, the channels that an AVX2 register holds in fp32; of more where they cannot be shared out
evenly.
"""


@dataclass(frozen=True, kw_only=True)
class BlockSums:
    """What a pooling becomes once its input's channels are in the right order.

    Args:
        order: (C,) int64, position -> channel.
        matrix: (c, C / blocks), which of its block's channels each sum takes, by 1 or -1.
        blocks: how many there are.
        columns: (c,) int64, position -> the small kernel's column that belongs to it.
    """

    order: Tensor
    matrix: Tensor
    blocks: int
    columns: Tensor


def block_sums(pooling: NaturalChains) -> BlockSums | None:
    """The same sums in the smallest blocks into which they can be shared out; None where there are none but the
    whole.
    """
    if pooling.groups > 1 or not isinstance(pooling, MergedChannels):
        return None
    members: list[list[int]] = [[] for _ in range(pooling.count)]
    for channel, position in enumerate(pooling.members.tolist()):
        members[position].append(channel)
    for blocks in range(pooling.count // BLOCK, 1, -1):
        if pooling.count % blocks == 0 and pooling.channels % blocks == 0:
            shared = shared_out([len(own) for own in members], blocks)
            if shared is not None:
                return _arranged(pooling, members, shared)
    return None


def shared_out(sizes: Sequence[int], blocks: int) -> list[list[int]] | None:
    """Items in as many blocks, of equally many items and equal total size; None where no exchange of two brings that
    about.

    Large and small ones are dealt out in turn; then the fullest and the emptiest block exchange what evens them out
    best.
    """
    ranked = sorted(range(len(sizes)), key=lambda item: -sizes[item])
    members_by_block: list[list[int]] = [[] for _ in range(blocks)]
    for index, item in enumerate(ranked):
        turn, at = divmod(index, blocks)
        members_by_block[blocks - 1 - at if turn % 2 else at].append(item)
    while True:
        totals = [sum(sizes[item] for item in own) for own in members_by_block]
        most, least = totals.index(max(totals)), totals.index(min(totals))
        gap = totals[most] - totals[least]
        if gap == 0:
            return members_by_block
        useful = [
            (a, b) for a in members_by_block[most] for b in members_by_block[least] if 0 < sizes[a] - sizes[b] < gap
        ]
        if not useful:
            return None
        first, second = min(useful, key=lambda pair: abs(gap - 2 * (sizes[pair[0]] - sizes[pair[1]])))
        (
            members_by_block[most][members_by_block[most].index(first)],
            members_by_block[least][members_by_block[least].index(second)],
        ) = second, first


def _arranged(pooling: MergedChannels, members: Sequence[Sequence[int]], shared: Sequence[Sequence[int]]) -> BlockSums:
    device = pooling.members.device
    order = [channel for block in shared for position in block for channel in members[position]]
    columns = [position for block in shared for position in block]
    signs = torch.ones(pooling.channels) if pooling.signs is None else pooling.signs.cpu().float()
    width = pooling.channels // len(shared)
    matrix = torch.zeros(pooling.count, width)
    rows = [row for row, position in enumerate(columns) for _ in members[position]]
    matrix[rows, torch.arange(pooling.channels) % width] = signs[order]
    return BlockSums(
        order=torch.tensor(order, device=device),
        matrix=matrix.to(device),
        blocks=len(shared),
        columns=torch.tensor(columns, device=device),
    )
