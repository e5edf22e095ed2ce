"""Coupled groups of channels as Torch-Pruning's dependency graph tells them. The only user of Torch-Pruning."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from sconv_search.channels.cutting import CHANNELWISE, is_depthwise, is_known, makes_channels, sizes
from sconv_search.compressor import layers
from sconv_search.cost.counting import example_input, require_forward

if TYPE_CHECKING:
    import torch_pruning

SIZES = (32, 64, 28, 12, 16, 8, 96, 128, 224, 227, 299, 1024, 16000)
"""Lengths of each spatial axis to trace with, tried in turn; channels are coupled alike at every length that runs."""
MOST_POSITIONS = 2**18


class UntraceableError(ValueError):
    """No graph of the network could be made, so it has no known groups."""


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
    """

    site: str
    channels: int
    blocks: int
    members: tuple[Member, ...]


def example_of(network: nn.Module) -> Tensor:
    """A random input (2, ...) that the network runs on, found from its first layer.

    Raises:
        UntraceableError: the network has no layer, or fails on every shape tried.
    """
    first = next(iter(layers(network).values()), None)
    if first is None:
        raise UntraceableError("it has no convolution and no linear layer")
    axes = len(first.kernel_size) if isinstance(first, _ConvNd) else 0
    tries = [size for size in SIZES if size**axes <= MOST_POSITIONS] if axes else [1]
    for size in tries:
        shape = (sizes(first)[0], *[size] * axes)
        try:
            require_forward(network, shape)
        except ValueError as error:
            cause = error
        else:
            like = example_input(network, shape, batch=2)
            return torch.randn(like.shape, generator=torch.Generator().manual_seed(1), dtype=like.dtype)
    raise UntraceableError(f"no input shape that was tried runs; the last: {cause}")


def traced_groups(network: nn.Module, example: Tensor) -> tuple[dict[str, Group], dict[str, str]]:
    """Groups by site as the graph tells them, not yet put to the test, and sites without one with the reason.

    Args:
        network: in evaluation mode, its weights requiring gradients; the tracing leaves it as it is.

    Raises:
        UntraceableError: the graph cannot be made.
    """
    import torch_pruning  # here: it imports torchvision and timm, for seconds

    groups: dict[str, Group] = {}
    left_out: dict[str, str] = {}
    covered: set[str] = set()
    with torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on parameters outside layers; groups that hold such are left out below
        try:
            graph = torch_pruning.DependencyGraph().build_dependency(network, example_inputs=(example,), verbose=False)
        except Exception as error:  # of any kind, from a third party's walk over autograd's graph
            raise UntraceableError(f"Torch-Pruning cannot trace it: {type(error).__name__}: {error}") from error
        names = {module: name for name, module in network.named_modules()}
        for name in (name for name, module in network.named_modules() if name and makes_channels(module)):
            if name in covered:
                continue
            try:
                group = _group(name, graph, names)
            except ValueError as error:
                left_out[name] = str(error)
                continue
            groups[name] = group
            covered |= {member.layer for member in group.members if member.side != "in"}
    return groups, left_out


def _group(name: str, graph: torch_pruning.DependencyGraph, names: Mapping[nn.Module, str]) -> Group:
    """The group of one layer's outputs.

    Raises:
        ValueError: it cannot be pruned; the reason is given.
    """
    from torch_pruning.ops import _OutputOp

    layer = graph.model.get_submodule(name)
    if layer not in graph.module2node:
        raise ValueError("the traced forward does not run it")
    channels = sizes(layer)[1]
    found = graph.get_pruning_group(layer, graph.get_pruner_of_module(layer).prune_out_channels, list(range(channels)))
    merged: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for item in found:
        module = item.dep.target.module
        if isinstance(module, _OutputOp):
            raise ValueError("its channels are the network's output")
        if module not in names:
            if isinstance(module, nn.Parameter):
                raise ValueError("its channels meet a parameter that belongs to no layer")
            continue  # an operator without weights
        if isinstance(module, nn.PReLU) and module.num_parameters == 1:
            continue
        if not is_known(module):
            raise ValueError(f"its channels pass {names[module]!r}, a {type(module).__name__}, which cannot be pruned")
        side = "both" if isinstance(module, CHANNELWISE) or is_depthwise(module) else _side(item.dep.handler)
        merged.setdefault((names[module], side), []).extend(zip(item.idxs, item.root_idxs, strict=True))
    members = tuple(_member(layer, side, pairs) for (layer, side), pairs in merged.items())
    if not any(member.side == "in" for member in members):
        raise ValueError("no layer reads its channels: they are the network's output")
    return Group(site=name, channels=channels, blocks=_blocks(members, channels, graph.model), members=members)


def _side(handler: object) -> str:
    return "out" if getattr(handler, "__name__", "") == "prune_out_channels" else "in"


def _member(layer: str, side: str, pairs: list[tuple[int, int]]) -> Member:
    positions, channels = torch.tensor(sorted(set(pairs)), dtype=torch.int64).unbind(1)
    return Member(layer=layer, side=side, positions=positions, channels=channels)


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
