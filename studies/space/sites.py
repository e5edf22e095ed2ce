"""What a network offers to each method: its sites, their shapes and costs, and why the other layers stay as they
are.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn
from torch.nn.modules.conv import _ConvNd

from sconv_search.calibration.replaceable import left_alone
from sconv_search.channels.dependency_graph import UntraceableError
from sconv_search.channels.groups import Dependencies, dependencies
from sconv_search.channels.removal import narrowed
from sconv_search.compressor import sharing_copy
from sconv_search.cost.counting import counting_free, measure_cost, require_forward
from sconv_search.cost.input_shape import takes
from sconv_search.cost.network_inputs import Inputs, is_shape, shape_text
from sconv_search.layer_kinds import LAYER_KINDS
from sconv_search.plan import Choice
from sconv_search.records import Cost
from sconv_search.studies.methods import METHODS, method_named
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.selection import EVERYTHING, candidates, offered, selected_method
from sconv_search.studies.space.input_shapes import Shapes, input_shapes, read_by
from sconv_search.studies.space.shape_costs import Candidate, candidate, costs_by_shape
from sconv_search.studies.space.widths import unmixed
from sconv_search.studies.spec import Selection
from sconv_search.training.loop import Progress as Step

SHOWN_REASONS = 3

WHOLE = "(the network itself)"


@dataclass(frozen=True, kw_only=True)
class Extent:
    """A method's options at one site, from the cheapest to the dearest; costs are shares of the layer's own FLOPs."""

    options: int
    cheapest: Choice
    cheapest_share: float
    dearest: Choice
    dearest_share: float


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer with weights.

    Args:
        kind: its class, and what is special about it: ``Conv2d, depthwise``.
        shape: channels, kernel and stride: ``16→32 3×3 /2``.
        macs: over all its calls for one input; None where it cannot be measured by itself.
        offers: method -> its options here.
        reasons: method -> why it offers none; for a layer of an unknown kind the one reason is under ``""``.
    """

    site: str
    kind: str
    shape: str
    macs: int | None
    offers: Mapping[str, Extent]
    reasons: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class SiteTable:
    """All layers of a network with weights, and what must be said beside them."""

    network: str
    input_shape: tuple[int, ...] | str
    methods: tuple[str, ...]
    cost: Cost
    layers: tuple[Layer, ...]
    notes: tuple[str, ...]


def site_table(
    network: nn.Module,
    input_shape: Inputs,
    methods: Sequence[str] = tuple(METHODS),
    selection: Selection = EVERYTHING,
    monitor: Monitor | None = None,
    count_free: Sequence[str] = (),
) -> SiteTable:
    """The network's sites as the methods see them; the network is not modified.

    Args:
        count_free: operators without a known cost that count nothing.

    Raises:
        KeyError: a method is unknown.
        ValueError: the network fails on the shape, runs an operator without a cost, or a pattern matches no site.
    """
    with warnings.catch_warnings(), counting_free(count_free):
        warnings.simplefilter("ignore")  # the notes say what cannot be traced; how well a kernel is fit does not matter
        return _site_table(sharing_copy(network).eval(), input_shape, methods, selection, monitor or Monitor())


def _site_table(
    network: nn.Module, input_shape: Inputs, methods: Sequence[str], selection: Selection, monitor: Monitor
) -> SiteTable:
    takes(network, input_shape)
    with monitor.bar("counting the network's cost"):
        require_forward(network, input_shape)
        cost = measure_cost(network, input_shape)
    choices: dict[str, list[Choice]] = {}
    for method in methods:
        with monitor.bar(f"asking {method}"):
            for name, own in offered(network, [method], selection).items():
                choices.setdefault(name, []).extend(own)
    with monitor.bar("following the shapes"):
        left = _reasons(network, methods, selection, choices)
        names = [name for name, _ in network.named_modules() if name in choices or name in left]
        shapes = input_shapes(network, input_shape, names)
    with monitor.bar("measuring cheapest and dearest options") as step:
        costs = _costs(network, {name: shapes[name] for name in names}, choices, step)
    rows = [_layer(name, network.get_submodule(name), *costs[name], left.get(name, {})) for name in names]
    untraceable = _traced(network) if any(map(_reshapes, methods)) else None
    notes = [f"no channel pruning: {untraceable}; other methods still work"] if isinstance(untraceable, str) else []
    if apart := unmixed(network, choices):
        notes.append(f"in a search that also prunes channels, no other method compresses {', '.join(apart)}")
    return SiteTable(
        network=type(network).__name__,
        input_shape=tuple(input_shape) if is_shape(input_shape) else shape_text(input_shape),  # type: ignore[arg-type]  # of numbers
        methods=tuple(methods),
        cost=cost,
        layers=tuple(rows),
        notes=tuple(notes),
    )


def left_out(
    network: nn.Module, offered_sites: Collection[str], methods: Sequence[str], selection: Selection = EVERYTHING
) -> dict[str, str]:
    """Layers with weights that are not among the sites offered, with the reason in words."""
    reasons = _reasons(network, methods, selection, {name: () for name in offered_sites})
    return {name or WHOLE: in_words(why) for name, why in reasons.items() if name not in offered_sites}


def require_offers(
    network: nn.Module, offered_sites: Collection[str], methods: Sequence[str], selection: Selection = EVERYTHING
) -> None:
    """Refuses a network of which no layer is offered.

    Raises:
        ValueError: the reasons of its first layers.
    """
    if not offered_sites:
        rest = left_out(network, offered_sites, methods, selection)
        reasons = [f"{name}: {why}" for name, why in list(rest.items())[:SHOWN_REASONS]]
        reasons += [f"and {len(rest) - SHOWN_REASONS} more"] * (len(rest) > SHOWN_REASONS)
        words = "; ".join(reasons) or "it has no layer with weights of a kind that is replaced"
        raise ValueError(f"no layer of {type(network).__name__} can be compressed by {', '.join(methods)}: {words}")


def in_words(reasons: Mapping[str, str]) -> str:
    """Reasons in one line, methods of equal reason together; a reason that all share stands alone."""
    together: dict[str, list[str]] = {}
    for method, reason in reasons.items():
        together.setdefault(reason, []).append(method)
    if len(together) == 1:
        return next(iter(together))
    return "; ".join(f"{', '.join(methods)}: {reason}" for reason, methods in together.items())


def _reasons(
    network: nn.Module, methods: Sequence[str], selection: Selection, choices: Mapping[str, Sequence[Choice]]
) -> dict[str, dict[str, str]]:
    """Layer with weights -> method without an option there -> why; under ``""`` where no method can have one."""
    alone, known = left_alone(network), candidates(network)
    traced = _traced(network) if any(map(_reshapes, methods)) else ""
    reasons: dict[str, dict[str, str]] = {}
    for name in (*known, *(name for name in alone if name not in known)):
        others = [method for method in methods if method not in {choice.method for choice in choices.get(name, ())}]
        if name not in known and len(others) == len(methods):
            reasons[name] = {"": alone[name]}
        elif refusal := selection.refusal(name):
            reasons[name] = dict.fromkeys(methods, refusal)
        else:
            layer = network.get_submodule(name)
            reasons[name] = {
                method: _pruning_reason(traced, name)
                if _reshapes(method)
                else alone.get(name) or _reason(layer, method, selection)
                for method in others
            }
    return reasons


def _reason(layer: nn.Module, method: str, selection: Selection) -> str:
    if not selected_method(method, selection).limits(layer):
        return f"not for a {kind_of(layer)} layer"
    rounded = f" in multiples of {selection.multiple}" if selection.multiple > 1 else ""
    return f"no option{rounded} is cheaper than dense"


def _pruning_reason(traced: Dependencies | str, name: str) -> str:
    """Why the channels that a layer makes are no site of their own."""
    if isinstance(traced, str):
        return traced
    coupled = (g.site for g in traced.groups.values() if any(m.layer == name and m.side != "in" for m in g.members))
    first = next(coupled, None)
    if first is None:
        return traced.left_out.get(name, "it makes no channels of its own")
    return "no smaller number of channels fits" if first == name else f"its channels are pruned at site {first!r}"


def _traced(network: nn.Module) -> Dependencies | str:
    """The network's coupled channels, or why there is nothing to be said of them."""
    try:
        return dependencies(network)
    except UntraceableError as error:
        return " ".join(str(error).split())


def _reshapes(method: str) -> bool:
    return method_named(method).reshapes_neighbors


def _costs(
    network: nn.Module, shapes: Mapping[str, Shapes], choices: Mapping[str, Sequence[Choice]], step: Step
) -> dict[str, tuple[Cost | None, dict[str, Extent]]]:
    """By layer its cost, None where it cannot be measured by itself, and each method's options as shares of that."""
    wanted: dict[Candidate, nn.Module] = {}
    known = _traced(network) if any(_reshapes(c.method) for options in choices.values() for c in options) else ""

    def asked(own: Candidate, layer: nn.Module) -> Candidate:
        wanted.setdefault(own, layer)
        return own

    measured: dict[str, tuple[Candidate, dict[str, tuple[list[Choice], list[Candidate]]]]] = {}
    for name, read in shapes.items():
        layer = network.get_submodule(name)
        if not isinstance(layer, (*LAYER_KINDS, _ConvNd)):
            continue
        dense = candidate(layer, read)
        ends: dict[str, tuple[list[Choice], list[Candidate]]] = {}
        for method, options in _by_method(choices.get(name, ())).items():
            both = [options[0], options[-1]]
            if _reshapes(method):
                assert isinstance(known, Dependencies)
                group, dropped = known.groups[name], method_named(method).dropped
                left = [
                    narrowed(layer, name, [(group, group.channels - dropped(layer, choice.structure))])
                    for choice in both
                ]
                ends[method] = options, [asked(candidate(site, read_by(site, read)), site) for site in left]
            else:
                ends[method] = options, [asked(replace(dense, choice=choice), layer) for choice in both]
        measured[name] = asked(dense, layer), ends
    costs = costs_by_shape(wanted, step)
    costs_by_site: dict[str, tuple[Cost | None, dict[str, Extent]]] = dict.fromkeys(shapes, (None, {}))
    for name, (dense, ends) in measured.items():
        whole = max(1, costs[dense].flops)
        extents = {
            method: _extent(options, [costs[site].flops / whole for site in both])
            for method, (options, both) in ends.items()
        }
        costs_by_site[name] = costs[dense], extents
    return costs_by_site


def _by_method(choices: Sequence[Choice]) -> dict[str, list[Choice]]:
    choices_by_method: dict[str, list[Choice]] = {}
    for choice in choices:
        choices_by_method.setdefault(choice.method, []).append(choice)
    return choices_by_method


def _layer(
    name: str, module: nn.Module, own: Cost | None, extents: Mapping[str, Extent], reasons: Mapping[str, str]
) -> Layer:
    return Layer(
        site=name or WHOLE,
        kind=kind_of(module),
        shape=shape_of(module),
        macs=own.macs if own else None,
        offers=extents if own else {},
        reasons=reasons,
    )


def _extent(options: Sequence[Choice], shares: Sequence[float]) -> Extent:
    first, last = shares
    return Extent(
        options=len(options), cheapest=options[0], cheapest_share=first, dearest=options[-1], dearest_share=last
    )


def kind_of(module: nn.Module) -> str:
    """The class of a layer, and what is special about it: ``Conv2d, depthwise``."""
    kind = type(module).__name__
    if not isinstance(module, _ConvNd):
        return kind
    if module.groups > 1:
        return f"{kind}, depthwise" if module.groups == module.in_channels else f"{kind}, {module.groups} groups"
    return f"{kind}, pointwise" if math.prod(module.kernel_size) == 1 else kind


def shape_of(module: nn.Module) -> str:
    """Channels, kernel, stride and dilation of a layer, in few characters; the shapes of its weights for other
    kinds.
    """
    if isinstance(module, nn.Linear):
        return f"{module.in_features}→{module.out_features}"
    if not isinstance(module, _ConvNd):
        return ", ".join("×".join(map(str, weight.shape)) for weight in module.parameters(recurse=False))
    parts = [f"{module.in_channels}→{module.out_channels}", "×".join(map(str, module.kernel_size))]
    for sign, values in (("/", module.stride), ("d", module.dilation)):
        if max(values) > 1:
            parts.append(sign + ("×".join(map(str, values)) if len(set(values)) > 1 else str(values[0])))
    return " ".join(parts)
