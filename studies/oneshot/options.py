"""The options of a network with their costs and predicted damages, from its weights alone or from a few inputs."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from torch import nn

from sconv_search.compressor import site
from sconv_search.cost.counting import measure_cost
from sconv_search.cost.network_inputs import Inputs
from sconv_search.plan import Choice, CompressionPlan
from sconv_search.records import Cost
from sconv_search.search_space.space import Option, SearchSpace
from sconv_search.studies.methods import compress, method_named
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.oneshot.damages import Damages
from sconv_search.studies.selection import offered
from sconv_search.studies.space.couplings import measured_couplings
from sconv_search.studies.space.curves import along, curves, exact_costs, measured_on
from sconv_search.studies.space.input_shapes import input_shapes
from sconv_search.studies.space.narrowed_costs import measured_narrowings
from sconv_search.studies.space.pruned_costs import pruned_costs
from sconv_search.studies.space.shape_costs import candidate, costs_by_shape
from sconv_search.studies.space.sites import SHOWN_REASONS, require_offers
from sconv_search.studies.space.widths import channels_dropped, left_by_pruning, mixable
from sconv_search.studies.spec import Selection


def options_of(
    network: nn.Module,
    example: Inputs,
    methods: Sequence[str],
    selection: Selection,
    monitor: Monitor,
    *,
    inputs: Inputs | None = None,
) -> SearchSpace:
    """Every option of every site, with its cost by shapes alone and its predicted damage.

    Damage is measured for some options of each layer and interpolated for the others that differ in their size alone.
    The damage of an option is the squared error of its layer's outputs relative to the outputs, by kernels projected
    and not fitted. With inputs it is scaled, layer by layer, to the relative squared error of the network's outputs,
    which is measured once for each layer: for small errors one is proportional to the other. Without inputs a layer
    reads noise, and all layers weigh alike. An option that changes other layers too is measured on the whole network.

    Args:
        network: in evaluation mode; not modified.
        inputs: what the network is called with to read damage; None reads it from weights alone.

    Raises:
        KeyError: a method is unknown.
        ValueError: a pattern matches no layer, or nothing can be compressed.
    """
    dense = measure_cost(network, example)
    every = offered(network, methods, selection)
    choices = mixable(network, every)
    require_offers(network, choices, methods, selection)
    shapes, damages = input_shapes(network, example, choices), Damages(network, inputs)
    costs = _costs(network, shapes, choices, monitor)
    costs |= pruned_costs(network, example, choices, dense, monitor)
    sites: dict[str, tuple[Option, ...]] = {}
    total, done = sum(map(len, choices.values())), 0
    with monitor.bar(f"comparing {total} options of {len(choices)} layers") as step:
        for name, alternatives in choices.items():
            harm: dict[Choice, float] = {}
            for curve in curves(alternatives):
                if not method_named(curve[0].method).reshapes_neighbors:
                    harm |= along(curve, partial(damages.of_layer, name, shapes=shapes[name]))
                elif (name, curve[0]) in costs:
                    harm |= along(curve, partial(_pruned_damage, network, damages, name))
                else:
                    saved, harmed = _on_whole_network(network, example, dense, name, curve, damages)
                    costs |= {(name, choice): cost for choice, cost in saved.items()}
                    harm |= harmed
                step(done := done + len(curve), total)
            found = [
                Option(
                    choice=choice,
                    cost=costs[name, choice].counted(),
                    damage=harm[choice],
                    error=None,
                    dropped=channels_dropped(network, name, choice),
                )
                for choice in alternatives
                if costs[name, choice].flops < 0 and math.isfinite(harm[choice])
            ]
            sites[name] = damages.scaled(name, found)
    widths, _ = left_by_pruning(network, every)
    narrowings, unknown = measured_narrowings(network, shapes, sites, widths, monitor)
    known = {name: tuple(o for o in own if (name, o.choice.method) not in unknown) for name, own in sites.items()}
    offers = {name: options for name, options in known.items() if options}
    couplings, offers = measured_couplings(network, example, offers, dense, monitor)
    require_offers(network, offers, methods, selection)
    _tell_if_blind(offers)
    return SearchSpace(dense=dense, sites=offers, couplings=couplings, narrowings=narrowings)


def _pruned_damage(network: nn.Module, damages: Damages, name: str, choice: Choice) -> float:
    return damages.of_network(compress(network, CompressionPlan(sites={name: choice})))


def _on_whole_network(
    network: nn.Module, example: Inputs, dense: Cost, name: str, curve: Sequence[Choice], damages: Damages
) -> tuple[Mapping[Choice, Cost], Mapping[Choice, float]]:
    """What choices that change other layers too cost more than the dense network, and their damages."""
    saved: dict[Choice, Cost] = {}

    def measured(choice: Choice) -> float:
        built = compress(network, CompressionPlan(sites={name: choice}))
        saved[choice] = measure_cost(built, example, direct=True) - dense
        return damages.of_network(built)

    harm = along(curve, measured)
    between = exact_costs(curve, saved)
    for choice in curve if between is None else ():
        if choice not in saved:
            measured(choice)
    return between or saved, harm


def _costs(
    network: nn.Module,
    shapes: Mapping[str, Sequence[tuple[int, ...]]],
    choices: Mapping[str, Sequence[Choice]],
    monitor: Monitor,
) -> dict[tuple[str, Choice], Cost]:
    """What each choice that changes its own layer alone costs more than the dense layer, by shapes."""
    layers = {name: site(network, name) for name in choices}
    dense = {name: candidate(layer, shapes[name]) for name, layer in layers.items()}
    own = {
        name: [curve for curve in curves(offers) if not method_named(curve[0].method).reshapes_neighbors]
        for name, offers in choices.items()
    }
    wanted = {dense[name]: layer for name, layer in layers.items()}
    for name, offers in own.items():
        wanted |= {replace(dense[name], choice=c): layers[name] for curve in offers for c in measured_on(curve)}
    with monitor.bar("counting the cost of options") as step:
        costs = costs_by_shape(wanted, step)
    for name, offers in own.items():
        for curve in offers:
            known = {choice: costs[replace(dense[name], choice=choice)] for choice in measured_on(curve)}
            between = exact_costs(curve, known)
            if between is not None:
                costs |= {replace(dense[name], choice=choice): cost for choice, cost in between.items()}
    rest = {
        replace(dense[name], choice=choice): layers[name] for name in own for curve in own[name] for choice in curve
    }
    costs |= costs_by_shape({one: layer for one, layer in rest.items() if one not in costs})
    return {
        (name, choice): costs[replace(dense[name], choice=choice)] - costs[dense[name]]
        for name, offers in own.items()
        for curve in offers
        for choice in curve
    }


def _tell_if_blind(offers: Mapping[str, Sequence[Option]]) -> None:
    damages = {option.damage for options in offers.values() for option in options}
    blind = [name for name, options in offers.items() if not any(option.damage for option in options)]
    if blind and len(damages) > 1:
        more = f" and {len(blind) - SHOWN_REASONS} more" if len(blind) > SHOWN_REASONS else ""
        warnings.warn(
            f"no option of {', '.join(blind[:SHOWN_REASONS])}{more} does any predicted damage: the network's outputs do"
            " not depend on these layers for these inputs, so they give all they can",
            RuntimeWarning,
            stacklevel=4,
        )
    elif len(damages) == 1 and sum(map(len, offers.values())) > 1:
        warnings.warn(
            f"every option has the same predicted damage, {damages.pop():.3g}: the choice of layers is arbitrary. The"
            " network's outputs do not depend on its layers for these inputs; give other data",
            RuntimeWarning,
            stacklevel=4,
        )
