"""What choices that prune channels cost, from the layers that they narrow instead of each network built and traced.

A site's layers are measured by shapes at every choice. What the network does outside of layers with weights (sums of
branches, activations, pooling) is not in them: it is told by traces of the network in which sites are pruned by their
strongest choices, half of them and halves of these while they save anything there, and follows the number of channels.
Both are checked on a network in which all sites are pruned by weaker choices; sites for which they do not hold are left
to be built.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields

import torch
from torch import nn

from sconv_search.channels.dependency_graph import Group, Member, UntraceableError
from sconv_search.channels.groups import dependencies
from sconv_search.channels.removal import narrowed
from sconv_search.compressor import site
from sconv_search.cost.counting import measure_cost
from sconv_search.cost.network_inputs import Inputs
from sconv_search.plan import Choice, CompressionPlan
from sconv_search.records import Cost
from sconv_search.studies.methods import compress, method_named
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.space.input_shapes import Shapes, input_shapes, read_by
from sconv_search.studies.space.shape_costs import Candidate, candidate, costs_by_shape
from sconv_search.system.cache import architecture

NOTHING = Cost(macs=0, adds=0, params=0)
AMOUNTS = tuple(one.name for one in fields(Cost) if one.name != "latency_ms")


def pruned_costs(
    network: nn.Module, inputs: Inputs, choices: Mapping[str, Sequence[Choice]], dense: Cost, monitor: Monitor
) -> dict[tuple[str, Choice], Cost]:
    """What the choices that drop channels cost beyond the dense network, by site and choice; exact.

    Args:
        choices: of each site; those that change their own layer alone are passed over.

    Returns:
        Nothing of a site whose costs its layers do not tell.
    """
    try:
        groups = dependencies(network).groups
    except UntraceableError:
        return {}
    dropped: dict[str, dict[Choice, int]] = {}
    for name, own in choices.items():
        of_site = {
            choice: method.dropped(site(network, name), choice.structure)
            for choice in own
            if (method := method_named(choice.method)).reshapes_neighbors and name in groups
        }
        if of_site:
            dropped[name] = of_site
    if not dropped:
        return {}
    measuring = _Measuring(network, inputs, dense, {name: groups[name] for name in dropped})
    return measuring.costs(dropped, monitor)


@dataclass
class _Measuring:
    network: nn.Module
    inputs: Inputs
    dense: Cost
    groups: Mapping[str, Group]
    _known: dict[Candidate, Cost] = field(default_factory=dict)
    _networks: dict[tuple[tuple[str, Choice], ...], Cost] = field(default_factory=dict)
    _narrowed: dict[Hashable, tuple[Candidate, nn.Module]] = field(default_factory=dict)
    _kinds: dict[str, Hashable] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._sites: dict[str, list[str]] = {}
        self._members: dict[tuple[str, str], list[Member]] = {}
        for name, group in self.groups.items():
            for member in group.members:
                self._members.setdefault((group.site, member.layer), []).append(member)
            for layer in dict.fromkeys(member.layer for member in group.members):
                self._sites.setdefault(layer, []).append(name)
        self._shapes: Mapping[str, Shapes] = input_shapes(self.network, self.inputs, self._sites)

    def costs(self, dropped: Mapping[str, Mapping[Choice, int]], monitor: Monitor) -> dict[tuple[str, Choice], Cost]:
        """By site and choice; a site's choices are all there, or none."""
        most = {name: max(own, key=lambda choice: own[choice]) for name, own in dropped.items()}
        some = {name: sorted(own, key=lambda choice: own[choice])[(len(own) - 1) // 2] for name, own in dropped.items()}
        by_layers = self._by_layers(dropped, monitor)
        with monitor.bar(f"pruning {len(most)} sites together, and in ever smaller parts") as step:
            outside = self._outside(most, dropped, step)
        every = {
            (name, choice): _share(outside[name], count, dropped[name][most[name]])
            for name, own in dropped.items()
            for choice, count in own.items()
        }
        doubtful = {name for (name, _), share in every.items() if share is None}
        trusted = [name for name in dropped if name not in doubtful]

        def together(chosen: Mapping[str, Choice]) -> bool:
            shares = (every[name, chosen[name]] or NOTHING for name in trusted)
            left = self._beyond_layers({name: chosen[name] for name in trusted}, dropped)
            return left == sum(shares, start=NOTHING)

        if not (together(most) and together(some)):
            trusted = [
                name
                for name in trusted
                if self._built({name: some[name]}) == by_layers[name, some[name]] + (every[name, some[name]] or NOTHING)
            ]
        return {
            (name, choice): by_layers[name, choice] + share
            for (name, choice), share in every.items()
            if share is not None and name in trusted
        }

    def _outside(
        self, most: Mapping[str, Choice], dropped: Mapping[str, Mapping[Choice, int]], step: Callable[[int, int], None]
    ) -> dict[str, Cost]:
        """What each site saves outside of layers: of two halves of the sites one is pruned, and the other saves the
        rest of what they save together; those of a part that saves nothing there save nothing each.
        """
        outside: dict[str, Cost] = {}
        every = sorted(most, key=lambda name: self.groups[name].channels)  # alike in blocks that are repeated
        parts = [(every, self._beyond_layers(most, dropped))]
        while parts:
            part, saved = parts.pop()
            if len(part) == 1 or saved == NOTHING:
                outside |= dict.fromkeys(part, saved)
                step(len(outside), len(most))
                continue
            first, second = part[: len(part) // 2], part[len(part) // 2 :]
            own = self._beyond_layers({name: most[name] for name in first}, dropped)
            parts += [(first, own), (second, (saved - own).counted())]
        return outside

    def _built(self, plan: Mapping[str, Choice]) -> Cost:
        """What the choices cost beyond the dense network, on the network that they make."""
        key = tuple(plan.items())
        if key not in self._networks:
            built = compress(self.network, CompressionPlan(sites=dict(plan)))
            self._networks[key] = (measure_cost(built, self.inputs, direct=True) - self.dense).counted()
        return self._networks[key]

    def _by_layers(
        self, dropped: Mapping[str, Mapping[Choice, int]], monitor: Monitor
    ) -> dict[tuple[str, Choice], Cost]:
        """What each choice saves in the layers that it narrows, pruned alone."""
        with monitor.bar("counting the cost of narrowed layers") as step:
            wanted: dict[Candidate, nn.Module] = {}
            asked = {
                (name, choice): self._asked({name: count}, wanted)
                for name, own in dropped.items()
                for choice, count in own.items()
            }
            self._known |= costs_by_shape(wanted, step)
        return {key: self._sum(layers) for key, layers in asked.items()}

    def _beyond_layers(self, plan: Mapping[str, Choice], dropped: Mapping[str, Mapping[Choice, int]]) -> Cost:
        """What all these choices together save outside of the layers that they narrow."""
        wanted: dict[Candidate, nn.Module] = {}
        layers = self._asked({name: dropped[name][choice] for name, choice in plan.items()}, wanted)
        self._known |= costs_by_shape({one: layer for one, layer in wanted.items() if one not in self._known})
        return self._built(plan) - self._sum(layers)

    def _asked(
        self, counts: Mapping[str, int], wanted: dict[Candidate, nn.Module]
    ) -> list[tuple[Candidate, Candidate]]:
        """Each layer that the sites meet, narrowed by so many channels of them and as it was."""
        layers = dict.fromkeys(member.layer for name in counts for member in self.groups[name].members)
        return [(self._one(layer, counts, wanted), self._one(layer, {}, wanted)) for layer in layers]

    def _one(self, layer: str, counts: Mapping[str, int], wanted: dict[Candidate, nn.Module]) -> Candidate:
        kept = [
            (self.groups[name], self.groups[name].channels - counts[name])
            for name in self._sites[layer]
            if name in counts
        ]
        key = self._form(layer, kept)
        if key is None or key not in self._narrowed:
            module = narrowed(self.network.get_submodule(layer), layer, kept)
            made = candidate(module, read_by(module, self._shapes[layer])), module
            if key is None:
                wanted.setdefault(*made)
                return made[0]
            self._narrowed[key] = made
        wanted.setdefault(*self._narrowed[key])
        return self._narrowed[key][0]

    def _form(self, layer: str, kept: Sequence[tuple[Group, int]]) -> Hashable | None:
        """Equal for layers that are narrowed to the same form: in dense blocks a layer is one of dozens whose inputs a
        site's channels are. None where it is not told by the number of lost inputs and outputs.
        """
        module = self.network.get_submodule(layer)
        if getattr(module, "groups", 1) > 1:
            return None
        if layer not in self._kinds:
            self._kinds[layer] = (architecture(module), tuple(map(tuple, self._shapes[layer])))
        lost: dict[str, set[int]] = {}
        for group, keep in kept:
            gone = torch.arange(group.channels).view(group.blocks, -1)[:, keep // group.blocks :].flatten()
            for member in self._members[group.site, layer]:
                positions = member.positions[torch.isin(member.channels, gone)]
                lost.setdefault(member.side, set()).update(positions.tolist())
        return self._kinds[layer], tuple(sorted((side, len(positions)) for side, positions in lost.items()))

    def _sum(self, layers: Iterable[tuple[Candidate, Candidate]]) -> Cost:
        differences = (self._known[narrow] - self._known[whole] for narrow, whole in layers)
        return sum(differences, start=NOTHING).counted()


def _share(outside: Cost, count: int, most: int) -> Cost | None:
    """What so many channels have of what the most of them save outside of layers; None where that is no whole number.

    Nor is it one where that is a loss, or has weights: then the layers were not narrowed as it was thought.
    """
    amounts = {name: getattr(outside, name) * count for name in AMOUNTS}
    if outside.params or any(amount > 0 or amount % most for amount in amounts.values()):
        return None
    return Cost(**{name: amount // most for name, amount in amounts.items()})
