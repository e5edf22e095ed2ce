"""What choices that meet in layers save less together, from these layers alone instead of the network pruned by each
pair.

A pair shares costs where one of its choices drops inputs and the other outputs of a layer; two that drop inputs of one
layer (concatenated channels) each save their own. A network with hundreds of sites has thousands of such pairs
(DenseNet-201), each a trace of the whole network that would take seconds; the layers by themselves take milliseconds.
That these costs are all that is shared is checked, on the network with every choice at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations

from torch import nn

from sconv_search.channels.dependency_graph import Group, UntraceableError
from sconv_search.channels.groups import dependencies
from sconv_search.channels.removal import narrowed
from sconv_search.cost.counting import measure_cost
from sconv_search.cost.network_inputs import Inputs
from sconv_search.plan import CompressionPlan
from sconv_search.records import Cost
from sconv_search.search_space.space import Option
from sconv_search.studies.methods import compress
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.space.input_shapes import input_shapes, read_by
from sconv_search.studies.space.shape_costs import Candidate, candidate, costs_by_shape

NOTHING = Cost(macs=0, adds=0, params=0)
Pair = tuple[str, str]


def costs_by_layers(
    network: nn.Module, inputs: Inputs, choices: Mapping[str, Option], dense: Cost, monitor: Monitor
) -> dict[Pair, Cost] | None:
    """By pair of sites in the choices' order, the cost of both choices beyond the sum of each; absent where they share
    none.

    Args:
        choices: an option that drops channels for each site.

    Returns:
        None where what the layers tell is not the cost of the network with all choices, or there are no coupled groups
        to tell it by.
    """
    try:
        groups = dependencies(network).groups
    except UntraceableError:
        return None
    if not choices.keys() <= groups.keys():
        return None
    kept = {name: groups[name].channels - option.dropped for name, option in choices.items()}
    meetings = _meetings(groups, choices)
    layers = dict.fromkeys(layer for names in meetings.values() for layer in names)
    shapes = input_shapes(network, inputs, layers)
    wanted: dict[Candidate, nn.Module] = {}

    def asked(name: str, sites: Iterable[str]) -> Candidate:
        layer = narrowed(network.get_submodule(name), name, [(groups[site], kept[site]) for site in sites])
        own = candidate(layer, read_by(layer, shapes[name]))
        wanted.setdefault(own, layer)
        return own

    states = {
        (pair, name): [asked(name, sites) for sites in ((), pair[:1], pair[1:], pair)]
        for pair, names in meetings.items()
        for name in names
    }
    with monitor.bar(f"measuring {len(meetings)} pairs of coupled sites") as step:
        costs = costs_by_shape(wanted, step)
    shared = {pair: NOTHING for pair in combinations(choices, 2) if pair in meetings}
    for (pair, _), (whole, first, second, both) in states.items():
        shared[pair] = shared[pair] + costs[both] - costs[first] - costs[second] + costs[whole]
    shared = {pair: cost.counted() for pair, cost in shared.items()}
    every = compress(network, CompressionPlan(sites={name: option.choice for name, option in choices.items()}))
    predicted = sum((*(option.cost for option in choices.values()), *shared.values()), start=dense)
    return shared if predicted.counted() == measure_cost(every, inputs, direct=True).counted() else None


def _meetings(groups: Mapping[str, Group], sites: Iterable[str]) -> dict[Pair, list[str]]:
    """By pair of sites, the layers of which one narrows the inputs and the other the outputs."""
    sides: dict[str, dict[str, set[str]]] = {}
    for site in sites:
        for member in groups[site].members:
            sides.setdefault(member.layer, {}).setdefault(site, set()).add(member.side)
    meetings: dict[Pair, list[str]] = {}
    for layer, by_site in sides.items():
        for first, second in combinations(by_site, 2):
            if by_site[first] != by_site[second] or len(by_site[first]) > 1:
                meetings.setdefault((first, second), []).append(layer)
    return meetings
