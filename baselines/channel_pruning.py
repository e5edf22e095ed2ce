"""Channel pruning: whole channels leave the network, together with all that makes, carries or reads them.

Source: Li et al., Pruning Filters for Efficient ConvNets, ICLR 2017; coupled layers as in Fang et al., DepGraph:
    Towards
Any Structural Pruning, CVPR 2023; the refit of the readers as in He, Zhang, Sun, Channel Pruning for Accelerating Very
Deep Neural Networks, ICCV 2017.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import ClassVar, get_args

from torch import Tensor, nn

from sconv_search.baselines.channel_importance import Importance, kept_channels
from sconv_search.baselines.decomposition import no_penalty, require_multiple
from sconv_search.baselines.reader_refit import refit_readers_
from sconv_search.calibration.sequential_fit import as_it_is, fit_in_sequence
from sconv_search.channels.cutting import makes_channels, sizes
from sconv_search.channels.dependency_graph import Group, UntraceableError
from sconv_search.channels.groups import Dependencies, dependencies
from sconv_search.channels.removal import remaining, without_
from sconv_search.compressor import Compressor, Penalty, Prepared, require_sites, site, swapped
from sconv_search.cost.input_shape import takes
from sconv_search.layer_kinds import LAYER_KINDS, layer_kind
from sconv_search.plan import CompressionPlan, Structure


@dataclass(frozen=True, kw_only=True)
class ChannelPruning(Compressor):
    """The most important channels of each group of coupled layers; a site is the group's first layer.

    Args:
        steps: channel counts are offered in this many equal steps.
        importance: how channels are ranked, see ``channel_importance``. By default ``magnitude``, and
            ``reconstruction`` where there are calibration inputs.
        multiple: only numbers of channels that are multiples of it are offered.

    Raises:
        ValueError: the importance is unknown, or the multiple is less than 1.
    """

    name: ClassVar[str] = "channel_pruning"
    regularizable: ClassVar[bool] = False
    reshapes_neighbors: ClassVar[bool] = True
    steps: int = 8
    importance: Importance | None = None
    multiple: int = 1

    def __post_init__(self) -> None:
        require_multiple(self.multiple)
        if self.importance is not None and self.importance not in get_args(Importance):
            raise ValueError(f"importance must be one of {', '.join(get_args(Importance))}, got {self.importance!r}")

    def options(self, network: nn.Module) -> dict[str, list[Structure]]:
        """Numbers of channels a group, fewest first; nothing, with a warning, for a network that cannot be traced."""
        try:
            groups = dependencies(network).groups
        except UntraceableError as error:
            warnings.warn(
                f"channel pruning offers nothing for {type(network).__name__}: {error}; other methods still work"
            )
            return {}
        structures = {name: self._counts(group) for name, group in groups.items()}
        return {name: [{"keep": keep} for keep in counts] for name, counts in structures.items() if counts}

    def _counts(self, group: Group) -> list[int]:
        unit = math.lcm(group.blocks, self.multiple)
        units, whole = group.channels // unit, group.channels
        counts = {max(1, round(units * step / self.steps)) * unit for step in range(1, self.steps)}
        return [count for count in sorted(counts) if group.least <= count < whole]

    def limits(self, layer: nn.Module) -> Structure:
        """The channels that the layer makes; empty for all but convolutions and linear layers."""
        return {"keep": sizes(layer)[1]} if makes_channels(layer) else {}

    def dropped(self, layer: nn.Module, structure: Structure) -> int:
        """Channels that a structure takes away."""
        return self.limits(layer)["keep"] - structure["keep"]

    def penalty(self, network: nn.Module, plan: CompressionPlan) -> Penalty:
        """Constant 0: the method works on trained weights."""
        return no_penalty(network)

    def compress(
        self,
        network: nn.Module,
        plan: CompressionPlan,
        calibration: Tensor | None = None,
        reference: nn.Module | None = None,
    ) -> nn.Module:
        """The network with only the most important channels of each site's group.

        All channels are ranked on the network as given, so the order of the sites does not matter.

        Args:
            calibration: inputs (N, ...) on which the layers that read pruned channels are refit to their dense outputs,
                by least squares over the channels that are left. Transposed convolutions are not refit.

        Raises:
            KeyError: the plan names a site that the network lacks.
            ValueError: a site is not the first layer of a group that can be pruned, a number of channels is missing,
                out of range or not the same for all groups of a convolution, the network cannot be traced, or the
                importance needs calibration inputs and there are none.
        """
        pruned = self.prepared(network, plan, calibration)
        if calibration is None:
            return pruned.network
        return fit_in_sequence(pruned.network, pruned.builds, calibration, target=network, kept=pruned.kept)

    def prepared(
        self,
        network: nn.Module,
        plan: CompressionPlan,
        calibration: Tensor | None = None,
        reference: nn.Module | None = None,
    ) -> Prepared:
        """The network without the channels, and how the layers that read the others are refit; raises as ``compress``
        does.
        """
        require_sites(network, plan.sites)
        chosen = {name: choice.structure for name, choice in plan.only(self.name).sites.items()}
        result = swapped(network, {})
        if not chosen:
            return Prepared(network=result, builds={}, kept={})
        if calibration is not None:
            takes(network, calibration.shape[1:])
        known = dependencies(network)
        groups = {name: _checked(name, structure, known) for name, structure in chosen.items()}
        importance = self.importance or ("magnitude" if calibration is None else "reconstruction")
        kept = [
            (groups[name], kept_channels(network, groups[name], chosen[name]["keep"], importance, calibration))
            for name in chosen
        ]
        if calibration is not None:
            refit_readers_(result, network, kept, calibration)
        without_(result, kept)
        sides = remaining(network, kept)
        readers = [name for name, side in sides if side == "in" and layer_kind(site(network, name)) in LAYER_KINDS]
        return Prepared(
            network=result,
            builds={} if calibration is None else dict.fromkeys(readers, as_it_is),
            kept={name: positions for (name, side), positions in sides.items() if side != "in"},
        )


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
    if not group.least <= keep <= group.channels or keep % group.blocks:
        multiple = f" in multiples of {group.blocks}" if group.blocks > 1 else ""
        raise ValueError(f"site {name!r}: keep must be in {group.least}..{group.channels}{multiple}, got {keep}")
    return group
