"""Leaves coupled groups of channels only those that are kept."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import replace

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
        lost = torch.ones(group.channels, dtype=torch.bool)
        lost[channels] = False
        for member in group.members:
            gone.setdefault((member.layer, member.side), []).append(member.positions[lost[member.channels]])
    remaining_positions, layers = {}, dict(network.named_modules(remove_duplicate=False))
    for (name, side), positions in gone.items():
        remains = torch.ones(sizes(layers[name])[side != "in"], dtype=torch.bool)
        remains[torch.cat(positions)] = False
        remaining_positions[name, side] = remains.nonzero().flatten()
    return remaining_positions


def narrowed(layer: nn.Module, name: str, kept: Iterable[tuple[Group, int]]) -> nn.Module:
    """A copy without values of a layer, once each of its groups keeps so many channels of its first ones.

    Which ones stay does not matter for its shape, unless the layer has only a part of them.
    """
    result = copy.deepcopy(layer, {id(w): nn.Parameter(w.detach().to("meta")) for w in layer.parameters()}).to("meta")
    own = []
    for group, keep in kept:
        first = torch.arange(group.channels).view(group.blocks, -1)[:, : keep // group.blocks].flatten()
        members = tuple(replace(member, layer="0") for member in group.members if member.layer == name)
        own.append((replace(group, members=members), first))
    for (_, side), positions in remaining(nn.Sequential(result), own).items():
        cut_(result, side, positions)
    return result
