"""What a network offers to each method: its sites, their shapes and costs, and why the other layers stay as they
are.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.conv import _ConvNd

from sconv_search.channels.dependency_graph import UntraceableError
from sconv_search.channels.groups import dependencies
from sconv_search.compressor import LAYER_KINDS, site, skipped, swapped
from sconv_search.cost.counting import cost_of_calls, counting_free, measure_cost, require_forward
from sconv_search.plan import Choice, CompressionPlan
from sconv_search.records import Cost
from sconv_search.studies.methods import METHODS, compress, method_named
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.selection import EVERYTHING, Selection, candidates, offered, selected_method
from sconv_search.studies.space.measuring import input_shapes
from sconv_search.studies.space.widths import unmixed

Shapes = list[tuple[int, ...]]
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
    input_shape: tuple[int, ...]
    methods: tuple[str, ...]
    cost: Cost
    layers: tuple[Layer, ...]
    notes: tuple[str, ...]


def site_table(
    network: nn.Module,
    input_shape: tuple[int, ...],
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
        warnings.simplefilter(
            "ignore"
        )  # the notes say what cannot be traced; how well a kernel is fit matters nothing here
        return _site_table(swapped(network, {}).eval(), input_shape, methods, selection, monitor or Monitor())


def _site_table(
    network: nn.Module, input_shape: tuple[int, ...], methods: Sequence[str], selection: Selection, monitor: Monitor
) -> SiteTable:
    with monitor.bar("asking the methods"):
        require_forward(network, input_shape)
        cost = measure_cost(network, input_shape)
        choices = offered(network, methods, selection)
        left = _reasons(network, methods, selection, choices)
        places = [name for name, _ in network.named_modules() if name in choices or name in left]
        shapes = input_shapes(network, input_shape, places)
    meter = _Meter(network, input_shape)
    found: list[Layer] = []
    with monitor.bar("measuring cheapest and dearest options") as step:
        for number, name in enumerate(places, start=1):
            found.append(_layer(name, meter, shapes[name], choices.get(name, []), left.get(name, {})))
            step(number, len(places))
    untraceable = {reason for reason in (_untraceable(network) for name in methods if _reshapes(name)) if reason}
    notes = [f"no channel pruning: {reason}; other methods still work" for reason in untraceable]
    if apart := unmixed(network, choices):
        notes.append(f"in a search that also prunes channels, no other method compresses {', '.join(apart)}")
    return SiteTable(
        network=type(network).__name__,
        input_shape=tuple(input_shape),
        methods=tuple(methods),
        cost=cost,
        layers=tuple(found),
        notes=tuple(notes),
    )


def left_out(
    network: nn.Module, offered_sites: Collection[str], methods: Sequence[str], selection: Selection = EVERYTHING
) -> dict[str, str]:
    """Layers with weights that are not among the sites offered, with the reason in words."""
    reasons = _reasons(network, methods, selection, {name: () for name in offered_sites})
    return {name or WHOLE: in_words(why) for name, why in reasons.items() if name not in offered_sites}


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
    """Layer with weights -> method without an option there -> why."""
    known = candidates(network)
    found: dict[str, dict[str, str]] = {}
    for name in (*known, *skipped(network, known)):
        taken = {choice.method for choice in choices.get(name, ())}
        if name not in known:
            found[name] = {"": _unsupported(network.get_submodule(name))}
        elif refusal := selection.refusal(name):
            found[name] = dict.fromkeys(methods, refusal)
        else:
            found[name] = {
                method: _reason(network, name, method, selection) for method in methods if method not in taken
            }
    return found


def _unsupported(module: nn.Module) -> str:
    kind = type(module).__name__
    base = next((known.__name__ for known in LAYER_KINDS if isinstance(module, known)), None)
    if base:
        return f"{kind} is a subclass of {base}, which may compute something else"
    if any(True for _ in module.children()):
        return f"{kind} uses weights of its own, which belong to no layer"
    return f"{kind} is not supported"


def _reason(network: nn.Module, name: str, method: str, selection: Selection) -> str:
    layer = site(network, name)
    if _reshapes(method):
        return _pruning_reason(network, name)
    if not selected_method(method, selection).limits(layer):
        return f"not for a {kind_of(layer)} layer"
    rounded = f" in multiples of {selection.multiple}" if selection.multiple > 1 else ""
    return f"no option{rounded} is cheaper than dense"


def _pruning_reason(network: nn.Module, name: str) -> str:
    """Why the channels that a layer makes are no site of their own."""
    if why := _untraceable(network):
        return why
    known = dependencies(network)
    if name in known.left_out:
        return known.left_out[name]
    coupled = (g.site for g in known.groups.values() if any(m.layer == name and m.side != "in" for m in g.members))
    first = next(coupled, name)
    return "no smaller number of channels fits" if first == name else f"its channels are pruned at site {first!r}"


def _untraceable(network: nn.Module) -> str | None:
    try:
        dependencies(network)
    except UntraceableError as error:
        return " ".join(str(error).split())
    return None


def _reshapes(method: str) -> bool:
    return method_named(method).reshapes_neighbors


class _Meter:
    """Costs of a network's layers and of what they become; equal layers on equal inputs are measured once."""

    def __init__(self, network: nn.Module, input_shape: tuple[int, ...]) -> None:
        self.network, self._input_shape = network, input_shape
        self._known: dict[tuple[str, str, Choice], int] = {}

    def flops(self, name: str, shapes: Shapes, choice: Choice) -> int:
        """FLOPs of the layer at a site once it is compressed, in all calls for one input."""
        if _reshapes(choice.method):
            pruned = compress(self.network, CompressionPlan(sites={name: choice}))
            return cost_of_calls(site(pruned, name), input_shapes(pruned, self._input_shape, [name])[name]).flops
        layer = site(self.network, name)
        key = (repr(layer), repr(shapes), choice)
        if key not in self._known:
            alone = nn.Sequential(layer)  # the rest of the network need not be copied for it
            built = compress(alone, CompressionPlan(sites={"0": choice}))
            self._known[key] = cost_of_calls(site(built, "0"), shapes).flops
        return self._known[key]


def _layer(name: str, meter: _Meter, shapes: Shapes, choices: Sequence[Choice], reasons: Mapping[str, str]) -> Layer:
    module = meter.network.get_submodule(name)
    own = cost_of_calls(module, shapes) if isinstance(module, (*LAYER_KINDS, _ConvNd)) else None
    by_method: dict[str, list[Choice]] = {}
    for choice in choices:
        by_method.setdefault(choice.method, []).append(choice)
    offers = {
        method: _extent(options, [meter.flops(name, shapes, options[place]) / max(1, own.flops) for place in (0, -1)])
        for method, options in by_method.items()
        if own
    }
    macs = own.macs if own else None
    return Layer(
        site=name or WHOLE, kind=kind_of(module), shape=shape_of(module), macs=macs, offers=offers, reasons=reasons
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
