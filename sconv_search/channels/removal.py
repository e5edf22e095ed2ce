"""Leaves coupled groups of channels only those that are kept."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from sconv_search.channels.cutting import cut_, sizes
from sconv_search.channels.dependency_graph import Group


def without_(network: nn.Module, kept: Iterable[tuple[Group, Tensor]]) -> None:
    """Leaves each group of the network only its given channels, all groups at once, so that their order cannot
    matter.
    """
    for (name, side), positions in remaining(network, kept).items():
        cut_(network.get_submodule(name), side, positions)


def remaining(network: nn.Module, kept: Iterable[tuple[Group, Tensor]]) -> dict[tuple[str, str], Tensor]:
    """Of each layer and side that the groups meet, the positions that stay when each group has only its given
    channels.
    """
    gone: dict[tuple[str, str], list[Tensor]] = {}
    for group, channels in kept:
        for member in group.members:
            lost = ~torch.isin(member.channels, channels)
            gone.setdefault((member.layer, member.side), []).append(member.positions[lost])
    found = {}
    for (name, side), positions in gone.items():
        remains = torch.ones(sizes(network.get_submodule(name))[side != "in"], dtype=torch.bool)
        remains[torch.cat(positions)] = False
        found[name, side] = remains.nonzero().flatten()
    return found
