"""Channel pruning: whole channels leave the network, together with all that makes, carries or reads them.

Source: Li et al., Pruning Filters for Efficient ConvNets, ICLR 2017; coupled layers as in Fang et al., DepGraph: Towards
Any Structural Pruning, CVPR 2023.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from baselines.channel_cut import by_channel
from baselines.dependency_groups import Dependencies, dependencies, without_
from baselines.dependency_trace import Group, UntraceableError
from sconv_search.compressor import Penalty, require_sites, swapped
from sconv_search.plan import CompressionPlan, Structure

Importance = Literal["magnitude", "batch_norm"]


@dataclass(frozen=True, kw_only=True)
class ChannelPruning:
    """The most important channels of each group of coupled layers; a site is the group's first layer.

    Args:
        steps: channel counts are offered in this many equal steps.
        importance: how channels are ranked, see ``channel_importance``.
    """

    name: ClassVar[str] = "channel_pruning"
    regularizable: ClassVar[bool] = False
    reshapes_neighbours: ClassVar[bool] = True
    steps: int = 8
    importance: Importance = "magnitude"

    def options(self, network: nn.Module) -> dict[str, list[Structure]]:
        """Numbers of channels a group, fewest first; nothing, with a warning, for a network that cannot be traced."""
        try:
            groups = dependencies(network).groups
        except UntraceableError as error:
            warnings.warn(f"channel pruning offers nothing for {type(network).__name__}: {error}; other methods still work")
            return {}
        return {name: [{"keep": keep} for keep in self._counts(group)] for name, group in groups.items()}

    def _counts(self, group: Group) -> list[int]:
        block = group.channels // group.blocks
        counts = {max(1, round(block * step / self.steps)) for step in range(1, self.steps)}
        return [count * group.blocks for count in sorted(counts) if count < block]

    def penalty(self, network: nn.Module, plan: CompressionPlan) -> Penalty:
        """Constant 0: the method works on trained weights."""
        device = next((weight.device for weight in network.parameters()), torch.device("cpu"))
        return lambda: torch.zeros((), device=device)

    def compress(self, network: nn.Module, plan: CompressionPlan, calibration: Tensor | None = None) -> nn.Module:
        """The network with only the most important channels of each site's group; calibration is not used.

        All channels are ranked on the network as given, so the order of the sites does not matter.

        Raises:
            KeyError: the plan names a site that the network lacks.
            ValueError: a site is not the first layer of a group that can be pruned, a number of channels is missing, out
                of range or not the same for all groups of a convolution, or the network cannot be traced.
        """
        require_sites(network, plan.sites)
        chosen = {name: choice.structure for name, choice in plan.only(self.name).sites.items()}
        result = swapped(network, {})
        if chosen:
            known = dependencies(network)
            groups = {name: _checked(name, structure, known) for name, structure in chosen.items()}
            kept = {name: kept_channels(network, groups[name], chosen[name]["keep"], self.importance) for name in chosen}
            without_(result, [(groups[name], kept[name]) for name in chosen])
        return result


def _checked(name: str, structure: Structure, known: Dependencies) -> Group:
    if name not in known.groups:
        coupled = (g.site for g in known.groups.values() if any(m.layer == name and m.side != "in" for m in g.members))
        first = next(coupled, None)
        reason = known.left_out.get(name, "it is coupled to layers whose channels must stay, or makes none")
        raise ValueError(f"site {name!r}: " + (f"its channels are pruned at site {first!r}" if first else reason))
    group = known.groups[name]
    if set(structure) != {"keep"}:
        raise ValueError(f"site {name!r}: channel pruning takes ['keep'], got {sorted(structure)}")
    keep = structure["keep"]
    if not 1 <= keep <= group.channels or keep % group.blocks:
        multiple = f" in multiples of {group.blocks}" if group.blocks > 1 else ""
        raise ValueError(f"site {name!r}: keep must be in 1..{group.channels}{multiple}, got {keep}")
    return group


def kept_channels(network: nn.Module, group: Group, keep: int, importance: Importance) -> Tensor:
    """The most important channels of a group, ascending; equally many of each block, the earlier of equals."""
    scores = channel_importance(network, group, importance).view(group.blocks, -1)
    best = scores.argsort(dim=1, descending=True, stable=True)[:, : keep // group.blocks]
    offsets = torch.arange(group.blocks)[:, None] * scores.shape[1]
    return (best + offsets).flatten().sort().values


def channel_importance(network: nn.Module, group: Group, importance: Importance = "magnitude") -> Tensor:
    """A number a channel, (channels,) in float64: the larger, the more the channel matters.

    ``magnitude`` is the sum of the squares of all weights of the group that belong to the channel: those that make it, scale
    it and read it (Fang et al. 2023, section 3.3). ``batch_norm`` is the sum of the batch norms' absolute scales (Liu et al.,
    Learning Efficient Convolutional Networks through Network Slimming, ICCV 2017); the magnitude where there is none.
    """
    scores = torch.zeros(group.channels, dtype=torch.float64)
    scaled = False
    for member in group.members:
        layer = network.get_submodule(member.layer)
        if importance == "batch_norm" and not isinstance(layer, _NormBase):
            continue
        if layer.weight is not None:
            weights = by_channel(layer, member.side).detach().double().cpu()[member.positions]
            values = weights.abs() if importance == "batch_norm" else weights.square()
            scores.index_add_(0, member.channels, values.sum(1))
            scaled = True
    return scores if scaled else channel_importance(network, group)
