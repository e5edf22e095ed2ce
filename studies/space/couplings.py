"""How choices that change their neighbors' layers share costs: measured once for each two that meet in a layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from sconv_search.system.cache import architecture


def measured_couplings(
    network: nn.Module, inputs: Inputs, sites: Mapping[str, Sequence[Option]], dense: Cost, monitor: Monitor
) -> tuple[Coupling, ...]:
    """What two choices save less together than the sum of both, a pair of dropped channels at a time.

    A layer's cost is a product of the channels that it reads and makes; each pair is measured with its greatest
    choices.

    Raises:
        ValueError: two sites' common cost is no multiple of the channels that both drop.
    """
    largest = {
        name: max(options, key=lambda o: o.dropped)
        for name, options in sites.items()
        if any(o.dropped for o in options)
    }
    plans = {name: CompressionPlan(sites={name: option.choice}) for name, option in largest.items()}
    changed = {}
    with monitor.bar(f"pruning {len(plans)} sites, one at a time") as step:
        for done, (name, plan) in enumerate(plans.items(), start=1):
            changed[name] = _changed(network, compress(network, plan))
            step(done, len(plans))
    pairs = [pair for pair in combinations(largest, 2) if changed[pair[0]] & changed[pair[1]]]
    couplings = []
    with monitor.bar(f"measuring {len(pairs)} pairs of coupled sites") as step:
        for done, (first, second) in enumerate(pairs, start=1):
            both = CompressionPlan(sites={**plans[first].sites, **plans[second].sites})
            beyond = measure_cost(compress(network, both), inputs) - dense - largest[first].cost - largest[second].cost
            cost = _each(beyond.counted(), largest[first].dropped * largest[second].dropped, first, second)
            couplings.append(Coupling(first=first, second=second, cost=cost))
            step(done, len(pairs))
    return tuple(pair for pair in couplings if pair.cost != Cost(macs=0, adds=0, params=0))


def _changed(network: nn.Module, pruned: nn.Module) -> set[str]:
    """Names of the innermost modules that are not built as they were."""
    before = dict(network.named_modules())
    return {
        name
        for name, module in pruned.named_modules()
        if not any(module.children()) and (name not in before or architecture(before[name]) != architecture(module))
    }


def _each(total: Cost, count: int, first: str, second: str) -> Cost:
    amounts = {f.name: getattr(total, f.name) for f in fields(total) if f.name != "latency_ms"}
    if any(amount % count for amount in amounts.values()):
        raise ValueError(
            f"the cost that sites {first!r} and {second!r} share does not follow from their channels: {total}"
        )
    return Cost(**{name: amount // count for name, amount in amounts.items()})
