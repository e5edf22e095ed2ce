"""How choices that change their neighbors' layers share costs: measured once for each two that meet in a layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from itertools import combinations

from torch import nn

from sconv_search.cost.counting import measure_cost
from sconv_search.cost.network_inputs import Inputs
from sconv_search.plan import CompressionPlan
from sconv_search.records import Cost
from sconv_search.search_space.space import Coupling, Option
from sconv_search.studies.methods import compress
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.space.layer_couplings import NOTHING, Pair, costs_by_layers
from sconv_search.system.cache import architecture


def measured_couplings(
    network: nn.Module, inputs: Inputs, sites: Mapping[str, tuple[Option, ...]], dense: Cost, monitor: Monitor
) -> tuple[tuple[Coupling, ...], dict[str, tuple[Option, ...]]]:
    """What two choices save less together than the sum of both, in proportion to the pairs of channels that they drop;
    and the sites whose costs follow so.

    A layer's cost is a product of the channels that it reads and makes; each pair is measured with its greatest
    choices. Where that does not hold, the site that saves less keeps no choice that drops channels, and the monitor is
    told.
    """
    largest = {
        name: max(options, key=lambda o: o.dropped)
        for name, options in sites.items()
        if any(o.dropped for o in options)
    }
    shared = costs_by_layers(network, inputs, largest, dense, monitor) if len(largest) > 1 else {}
    if shared is None:
        shared = _by_networks(network, inputs, largest, dense, monitor)
    couplings, apart = list[Coupling](), set[str]()
    for (first, second), beyond in shared.items():
        if not apart & {first, second}:
            pair = _coupling(beyond, largest, first, second)
            if any(one.dropped * two.dropped % pair.pairs for one in sites[first] for two in sites[second]):
                lesser, other = sorted((first, second), key=lambda name: -largest[name].cost.flops)
                monitor.say(
                    f"left out {largest[lesser].choice.method} at {lesser}, whose cost beside {other} does not follow "
                    f"from the channels that both drop"
                )
                apart.add(lesser)
                continue
            couplings.append(pair)
    left = {name: tuple(o for o in own if name not in apart or not o.dropped) for name, own in sites.items()}
    known = [pair for pair in couplings if pair.cost != NOTHING and not apart & {pair.first, pair.second}]
    return tuple(known), {name: options for name, options in left.items() if options}


def _by_networks(
    network: nn.Module, inputs: Inputs, largest: Mapping[str, Option], dense: Cost, monitor: Monitor
) -> dict[Pair, Cost]:
    """What both choices cost beyond the sum of each, for each pair that changes one layer; on the networks built."""
    plans = {name: CompressionPlan(sites={name: option.choice}) for name, option in largest.items()}
    changed, shared = dict[str, set[str]](), dict[Pair, Cost]()
    with monitor.bar(f"pruning {len(plans)} sites, one at a time") as step:
        for done, (name, plan) in enumerate(plans.items(), start=1):
            changed[name] = _changed(network, compress(network, plan))
            step(done, len(plans))
    pairs = [pair for pair in combinations(largest, 2) if changed[pair[0]] & changed[pair[1]]]
    with monitor.bar(f"measuring {len(pairs)} pairs of coupled sites") as step:
        for done, (first, second) in enumerate(pairs, start=1):
            both = CompressionPlan(sites={**plans[first].sites, **plans[second].sites})
            beyond = measure_cost(compress(network, both), inputs) - dense - largest[first].cost - largest[second].cost
            shared[first, second] = beyond.counted()
            step(done, len(pairs))
    return shared


def _changed(network: nn.Module, pruned: nn.Module) -> set[str]:
    """Names of the innermost modules that are not built as they were."""
    before = dict(network.named_modules())
    return {
        name
        for name, module in pruned.named_modules()
        if not any(module.children()) and (name not in before or architecture(before[name]) != architecture(module))
    }


def _coupling(beyond: Cost, largest: Mapping[str, Option], first: str, second: str) -> Coupling:
    """The cost of the fewest pairs of dropped channels for which it is a whole number."""
    amounts = {f.name: getattr(beyond, f.name) for f in fields(beyond) if f.name != "latency_ms"}
    count = largest[first].dropped * largest[second].dropped
    times = math.gcd(count, *amounts.values())
    cost = Cost(**{name: amount // times for name, amount in amounts.items()})
    return Coupling(first=first, second=second, cost=cost, pairs=count // times if any(amounts.values()) else 1)
