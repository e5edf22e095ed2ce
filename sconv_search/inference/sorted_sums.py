"""Channel sums of a structured layer over channels in an order of our own, in which every sum is one of slices.

Gathers are slow on a CPU. Sorted, the channels need one gather instead of several; none at all where the layer before
writes them in that order (``channel_order.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sconv_search.structured.sums.channel_pooling import MergedChannels, NaturalChains, PermutedChains


@dataclass(frozen=True, kw_only=True)
class SortedSums:
    """What a pooling becomes once its input's channels are in the right order.

    Args:
        order: (C,) int64, position -> channel.
        sums: modules to apply to the sorted input, one after the other.
        columns: (c,) int64, position -> the small kernel's column that belongs to it.
    """

    order: Tensor
    sums: tuple[nn.Module, ...]
    columns: Tensor


class Gather(nn.Module):
    """Channels in another order: ``order`` is position -> channel."""

    order: Tensor

    def __init__(self, order: Tensor) -> None:
        super().__init__()
        self.register_buffer("order", order)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ...) -> (N, C, ...)."""
        return x.index_select(1, self.order)


class Signs(nn.Module):
    """Channels multiplied by 1 or -1 each."""

    signs: Tensor

    def __init__(self, signs: Tensor) -> None:
        super().__init__()
        self.register_buffer("signs", signs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ...) -> (N, C, ...)."""
        return x * self.signs.to(x.dtype).view(-1, *[1] * (x.dim() - 2))


class LevelSums(nn.Module):
    """Sums over disjoint groups of channels that lie level by level: first one member of each group, then a second one,
    ...

    Args:
        levels: how many groups have a first, second, ... member; the groups with the most members come first.
    """

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        self.levels = tuple(levels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ...) -> (N, c, ...), by C - c additions a position."""
        lower = list(x.split(self.levels, 1))
        total: Tensor = lower.pop()
        for level in reversed(lower):
            met = total.shape[1]
            added = level.narrow(1, 0, met) + total
            total = torch.cat([added, level.narrow(1, met, level.shape[1] - met)], 1) if met < level.shape[1] else added
        return total

    def extra_repr(self) -> str:
        """Sizes, for ``print(network)``."""
        return " + ".join(map(str, self.levels))


def sorted_sums(pooling: NaturalChains) -> SortedSums | None:
    """The same sums over sorted channels; None where the channels are in order already, or the convolution has
    groups.
    """
    if pooling.groups > 1 or not isinstance(pooling, (PermutedChains, MergedChannels)):
        return None
    if isinstance(pooling, PermutedChains):
        order, columns = pooling.order, torch.arange(pooling.count)
        sums: nn.Module = NaturalChains(pooling.channels, pooling.count)
    else:
        order, columns, levels = _leveled(pooling.members.tolist(), pooling.count)
        sums = LevelSums(levels)
    device = pooling.get_buffer("order" if isinstance(pooling, PermutedChains) else "members").device
    order, columns = order.to(device), columns.to(device)
    signs = () if pooling.signs is None else (Signs(pooling.signs[order]),)
    return SortedSums(order=order, sums=(*signs, sums), columns=columns)


def _leveled(members: Sequence[int], count: int) -> tuple[Tensor, Tensor, list[int]]:
    """The channels level by level, the groups in the order of their sums, and the sizes of the levels."""
    groups: list[list[int]] = [[] for _ in range(count)]
    for channel, position in enumerate(members):
        groups[position].append(channel)
    largest_first = sorted(range(count), key=lambda position: -len(groups[position]))
    levels = [sum(len(group) > level for group in groups) for level in range(max(map(len, groups)))]
    order = [groups[position][level] for level, met in enumerate(levels) for position in largest_first[:met]]
    return torch.tensor(order), torch.tensor(largest_first), levels
