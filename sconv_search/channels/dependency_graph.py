"""Coupled groups of channels as a network's traces tell them, not yet put to the test."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from sconv_search.channels.cutting import is_depthwise, makes_channels, sizes
from sconv_search.channels.label_tracing import Trace, first_labels
from sconv_search.channels.labels import Bonds, Components, Numbers, numbers
from sconv_search.channels.stand_in import UntraceableError as UntraceableError


@dataclass(frozen=True, kw_only=True)
class Member:
    """One side of one layer in a group.

    Args:
        layer: module name.
        side: ``out``, ``in`` or ``both``, as in ``channel_cut``.
        positions: channels of that side which belong to the group, int64.
        channels: the group's channel that each of them follows, int64, as long.
    """

    layer: str
    side: str
    positions: Tensor
    channels: Tensor


@dataclass(frozen=True, kw_only=True)
class Group:
    """Layers that must lose the same channels.

    Args:
        site: the first convolution or linear layer, in network order, that makes the channels.
        channels: how many it makes.
        blocks: equal runs of channels that must keep equally many each, because of grouped convolutions.
        least: channels that have to stay, so that some stay to each layer that has a part of them, whichever they are.
    """

    site: str
    channels: int
    blocks: int
    members: tuple[Member, ...]
    least: int = 1


def coupled_groups(
    network: nn.Module, traces: Sequence[Trace], whole: Mapping[str, str]
) -> tuple[dict[str, Group], dict[str, str]]:
    """Groups by site, in network order, and sites without one with the reason.

    Args:
        traces: of its stand-in; together they tell of every path that the network takes.
        whole: layers whose channels stay, with the reason.
    """
    starts = first_labels(network)
    labels, across = _sides(traces)
    count = 1 + sum(sizes(network.get_submodule(name))[1] for name in starts)
    known = _Known(labels, Components(count, [*(trace.bonds for trace in traces), across]))
    groups: dict[str, Group] = {}
    left_out: dict[str, str] = {}
    covered: set[str] = set()
    for name, layer in network.named_modules():
        if not name or not makes_channels(layer) or name in covered:
            continue
        try:
            groups[name] = _group(name, network, known, whole)
        except ValueError as error:
            left_out[name] = str(error)
            continue
        covered |= {member.layer for member in groups[name].members if member.side != "in"}
    return groups, left_out


def _sides(traces: Sequence[Trace]) -> tuple[dict[tuple[str, str], Tensor], Bonds]:
    """The labels of each layer's sides over all traces, and what follows from a layer's being in several."""
    labels_by_side: dict[tuple[str, str], Tensor] = {}
    bonds = Bonds()
    for trace in traces:
        for key, own in trace.sides.items():
            if key in labels_by_side:
                bonds.join(labels_by_side[key], own)
                own = torch.maximum(labels_by_side[key], own)
            labels_by_side[key] = own
    return labels_by_side, bonds


class _Known:
    """Components of labels, and the sides of layers in which each has a channel."""

    def __init__(self, labels: Mapping[tuple[str, str], Tensor], components: Components) -> None:
        self.components = components
        self.at: dict[tuple[str, str], Numbers] = {}
        self.sides: dict[int, list[tuple[str, str]]] = {}
        for key, own in labels.items():
            numbering = numbers(own)
            component_at = np.where(numbering > 0, components.of_label[numbering], -1)
            self.at[key] = component_at
            for component in np.unique(component_at[component_at >= 0]).tolist():
                self.sides.setdefault(component, []).append(key)
        self.order = {key: index for index, key in enumerate(self.at)}


def _group(name: str, network: nn.Module, known: _Known, whole: Collection[str] | Mapping[str, str]) -> Group:
    """The group of one layer's outputs.

    Raises:
        ValueError: it cannot be pruned; the reason is given.
    """
    layer = network.get_submodule(name)
    if isinstance(whole, Mapping) and name in whole:
        raise ValueError(whole[name])
    own = known.at.get((name, "both" if is_depthwise(layer) else "out"))
    if own is None:
        raise ValueError("the traced forward does not run it")
    if own.min() < 0:
        raise ValueError(
            "it treats each channel by itself, and what it reads stays"
            if is_depthwise(layer)
            else "it makes a single channel"
        )
    if reason := known.components.reason(own):
        raise ValueError(reason)
    if len(np.unique(own)) < len(own):
        raise ValueError("several of its channels can only go together")
    channel_of = np.full(len(known.components.of_label), -1)
    channel_of[own] = np.arange(len(own))
    keys = sorted({key for component in own.tolist() for key in known.sides[component]}, key=known.order.__getitem__)
    members = tuple(_member(*key, known.at[key], channel_of) for key in keys)
    if not any(member.side == "in" for member in members):
        raise ValueError("no layer reads its channels: they are the network's output")
    least = 1 + max(len(own) - len(member.channels.unique()) for member in members)
    return Group(site=name, channels=len(own), blocks=_blocks(members, len(own), network), members=members, least=least)


def _member(layer: str, side: str, numbers_of_side: Numbers, channel_of: Numbers) -> Member:
    channels = np.where(numbers_of_side >= 0, channel_of[numbers_of_side], -1)
    positions = (channels >= 0).nonzero()[0]
    return Member(
        layer=layer, side=side, positions=torch.from_numpy(positions), channels=torch.from_numpy(channels[positions])
    )


def _blocks(members: Sequence[Member], channels: int, network: nn.Module) -> int:
    """Least common multiple of the groups that the channels meet in grouped convolutions.

    Raises:
        ValueError: the channels are only a part of those, or no smaller number of channels fits.
    """
    blocks = 1
    for member in members:
        layer = network.get_submodule(member.layer)
        if not isinstance(layer, _ConvNd) or layer.groups == 1 or member.side == "both":
            continue
        whole = torch.arange(sizes(layer)[member.side == "out"])
        if not (torch.equal(member.positions, whole) and torch.equal(member.channels, whole)):
            raise ValueError(
                f"its channels meet only a part of {member.layer!r}, a convolution of {layer.groups} groups"
            )
        blocks = math.lcm(blocks, layer.groups)
    if channels <= blocks:
        raise ValueError(f"none of its {channels} channels can go: they are {blocks} groups")
    return blocks
