"""Groups of very many channels: they are divided into blocks of like channels, and merged within each block.

Legend: C channels, F entries of a channel's kernel vector, c groups.

Time and memory of Ward's agglomeration and of the exchanges grow with C^2 and more: 25,088 inputs, of VGG's first
linear layer, would take 15 GB and hours. A block is halved along the direction in which its channels differ most until
it is small. How many groups each block gets follows from all trees together: the merges of least cost are carried out,
wherever they are. Beside all channels at once, at 4,096 of them and c of 512 to 3,584, the squared residual rises by
0.3 to 0.6 % on Gaussian kernels, and by 2 to 5 % on kernels that mostly follow 16 directions.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sconv_search.structured.sums.merging import larger_first, merge_heights, merged_groups

MOST_TOGETHER = 4096
"""Channels that are merged all at once; of the time (3 s), more would take its square."""
BLOCK = 2048
"""Channels of a block, at most."""
DIRECTIONS = 64
"""Random directions in which channels are compared before they are divided."""


def merged_in_blocks(vectors_CF: Tensor, count: int, signed: bool = False) -> tuple[Tensor, Tensor | None]:
    """Groups of channels and signs as ``merged_groups`` gives them, of channels of one block each.

    Args:
        vectors_CF: the channels' kernel vectors, on the CPU.
        count: number of groups, at least as many as there are blocks of ``BLOCK`` channels.
        signed: whether a channel may enter its group's sum with the weight -1.
    """
    blocks = _blocks(vectors_CF, count, signed)
    grams = [_gram(vectors_CF[block]) for block in blocks]
    counts = _shares([merge_heights(gram, signed) for gram in grams], count)
    members, signs = torch.empty(len(vectors_CF), dtype=torch.int64), torch.ones(len(vectors_CF), dtype=torch.float64)
    start = 0
    for block, gram, own in zip(blocks, grams, counts, strict=True):
        labels, turned = merged_groups(gram, own, signed)
        members[block] = labels + start
        if turned is not None:
            signs[block] = turned
        start += own
    return larger_first(members, count), signs if signed else None


def _gram(vectors: Tensor) -> Tensor:
    return (vectors @ vectors.T).double()


def _blocks(vectors_CF: Tensor, count: int, signed: bool) -> list[Tensor]:
    """Channels of each block, ascending: not more blocks than groups."""
    drawn = torch.Generator().manual_seed(0)  # the same for every layer: a choice of channels depends on weights alone
    towards = torch.randn(vectors_CF.shape[1], DIRECTIONS, generator=drawn).to(vectors_CF)
    seen = (vectors_CF @ towards).double()
    if signed:
        seen = seen * torch.where(seen @ _leading(seen) < 0, -1.0, 1.0)[:, None]
    waiting, blocks = [torch.arange(len(seen))], list[Tensor]()
    while waiting:
        block = waiting.pop()
        if len(block) <= BLOCK or len(waiting) + len(blocks) + 2 > count:
            blocks.append(block)
            continue
        centered = seen[block] - seen[block].mean(0)
        order = block[(centered @ _leading(centered)).argsort(stable=True)]
        waiting += [half.sort().values for half in order.chunk(2)]
    return blocks


def _leading(seen: Tensor) -> Tensor:
    """The direction in which the rows' squares sum to the most."""
    leading: Tensor = torch.linalg.eigh(seen.T @ seen).eigenvectors[:, -1]
    return leading


def _shares(heights: list[Tensor], count: int) -> list[int]:
    """Groups of each block when the cheapest merges of all blocks are carried out until so many groups are left."""
    block = np.concatenate([np.full(len(own), index) for index, own in enumerate(heights)])
    channels = len(block) + len(heights)
    order = np.argsort(torch.cat(heights).numpy(), kind="stable")[: channels - count]
    merges = np.bincount(block[order], minlength=len(heights))
    return [len(own) + 1 - int(done) for own, done in zip(heights, merges, strict=True)]
