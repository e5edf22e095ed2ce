"""Which channels of a network can only go together: coupled groups from Torch-Pruning's graph, each one put to the
test.

A group passes if a network without half of its channels computes the same as one in which the layers that read these
channels ignore them. So an operator that the graph misreads (a padded shortcut, a channel shuffle, a norm across
channels) costs options, never a wrong network.

Source: Fang et al., DepGraph: Towards Any Structural Pruning, CVPR 2023.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from sconv_search.channels.cutting import cut_, ignore_, sizes
from sconv_search.channels.dependency_graph import Group, example_of, traced_groups
from sconv_search.system.cache import architecture
from sconv_search.system.copying import copied

REMEMBERED = 16


@dataclass(frozen=True, kw_only=True)
class Dependencies:
    """A network's groups by site, and why the channels of each other layer stay."""

    groups: Mapping[str, Group]
    left_out: Mapping[str, str]


_REMEMBERED: dict[Hashable, Dependencies] = {}  # copies of a network are equal here, so a study traces it once


def dependencies(network: nn.Module) -> Dependencies:
    """The network's groups, in network order; they depend on its architecture, not on its weights.

    Raises:
        UntraceableError: the network fails on every input shape tried, or its graph cannot be made.
    """
    key = architecture(network)
    if key not in _REMEMBERED:
        found = _dependencies(network)
        if len(_REMEMBERED) >= REMEMBERED:
            _REMEMBERED.pop(next(iter(_REMEMBERED)))
        _REMEMBERED[key] = found
    return _REMEMBERED[key]


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


def _dependencies(network: nn.Module) -> Dependencies:
    traced = copied(network).cpu().double().eval()
    _randomize_(traced)
    example = example_of(traced)
    groups, left_out = traced_groups(traced, example)
    while found := _defects(traced, example, list(groups.values())):
        left_out |= found
        groups = {name: group for name, group in groups.items() if name not in found}
    return Dependencies(groups=groups, left_out=left_out)


def _randomize_(network: nn.Module) -> None:
    """Weights under which a signal neither dies nor grows, so that no trained zero hides a dependency."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, _NormBase):
            module.reset_running_stats()
    for name, weight in network.named_parameters():
        noise = torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
        if weight.dim() > 1:
            drawn = noise * math.sqrt(2 / max(1, weight[0].numel()))
        else:
            drawn = 0.1 * noise if name.endswith("bias") else noise.abs() / 2 + 0.5
        weight.requires_grad_(True).data = drawn


def _defects(network: nn.Module, example: Tensor, groups: list[Group]) -> dict[str, str]:
    """Groups whose pruning is not the same as ignoring their channels, found by bisection; site -> what differs."""
    if not groups or (defect := _defect(network, example, groups)) is None:
        return {}
    half, found = len(groups) // 2, {}
    if half:
        found = _defects(network, example, groups[:half]) | _defects(network, example, groups[half:])
    # none found in either half: they fail together only, so none of them is offered
    return found or {group.site: f"its channels cannot be followed through the network: {defect}" for group in groups}


def _defect(network: nn.Module, example: Tensor, groups: Sequence[Group]) -> str | None:
    generator = torch.Generator().manual_seed(0)  # one for all: equal halves would hide that two groups are coupled
    kept = [(group, _random_half(group, generator)) for group in groups]
    pruned, ignoring = copied(network), copied(network)
    with torch.no_grad():
        for group, channels in kept:
            for member in (member for member in group.members if member.side == "in"):
                ignore_(ignoring.get_submodule(member.layer), member.positions[~torch.isin(member.channels, channels)])
        try:
            without_(pruned, kept)
            torch.testing.assert_close(pruned(example), ignoring(example), rtol=1e-6, atol=1e-9)
        except AssertionError:
            return "without them, others change or take their place"
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            return str(error).strip().splitlines()[0]
    return None


def _random_half(group: Group, generator: torch.Generator) -> Tensor:
    """Half of the channels of every block, at random: an offset or a shuffle of channels shows."""
    block = group.channels // group.blocks
    halves = [torch.randperm(block, generator=generator)[: block // 2] + block * i for i in range(group.blocks)]
    return torch.cat(halves).sort().values
