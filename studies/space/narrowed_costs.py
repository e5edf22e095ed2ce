"""Measures what every choice costs on layers that pruning has narrowed: on few small layers, exact for all widths.

How a layer's cost depends on its channels and on the entries of its structure (ranks, sums) is the same for all layers
of one geometry, and linear in each of these; so it is measured on layers of a few channels, built and traced as all
others. That it holds is checked: on further small layers, and on every option as it was measured in the network.
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import skip_init

from sconv_search.channels.cutting import TRANSPOSED, is_depthwise, sizes
from sconv_search.compressor import site
from sconv_search.cost.counting import cost_of_calls
from sconv_search.layer_kinds import layer_kind
from sconv_search.plan import Choice, CompressionPlan, Structure
from sconv_search.records import Cost
from sconv_search.search_space.multilinear import Multilinear, spanning
from sconv_search.search_space.narrowing import AMOUNTS, Narrowing
from sconv_search.search_space.space import Option
from sconv_search.studies.methods import method_named, narrowed
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.space.widths import Widths
from sconv_search.system.cache import architecture

COUNTED = tuple(name for name in AMOUNTS if name != "latency_ms")
SMALL = range(2, 7)
"""Channels of the layers that are measured, of each group."""
FEW = 3
"""Ranks and sums of them; the greatest possible one is measured, too."""
Shapes = Sequence[tuple[int, ...]]
Whole = NDArray[np.int64]


def measured_narrowings(
    network: nn.Module,
    shapes: Mapping[str, Shapes],
    offers: Mapping[str, Sequence[Option]],
    widths: Mapping[str, Widths],
    monitor: Monitor,
) -> tuple[dict[str, Narrowing], dict[tuple[str, str], str]]:
    """What the options of narrowed layers cost beyond what they cost in the dense network, at every width.

    Args:
        shapes: shapes, without the batch, of the inputs of each site's calls.

    Returns:
        Site -> its table; and of options without a known cost (site, method) -> the reason.
    """
    narrowings: dict[str, Narrowing] = {}
    refused: dict[tuple[str, str], str] = {}
    costs = _Costs()
    with monitor.bar(f"costs of {len(widths)} layers that pruning narrows") as step:
        for done, (name, own) in enumerate(widths.items(), start=1):
            layer, beyond = site(network, name), dict[Choice, tuple[Cost, ...]]()
            by_method: dict[str, list[Option]] = {}
            for option in offers.get(name, ()):
                if not method_named(option.choice.method).reshapes_neighbors:
                    by_method.setdefault(option.choice.method, []).append(option)
            for method, options in by_method.items():
                try:
                    beyond |= costs.beyond(layer, shapes[name], own, options)
                except ValueError as error:
                    refused[name, method] = str(error)
            if beyond:
                narrowings[name] = Narrowing(inputs=own.inputs, outputs=own.outputs, widths=own.pairs, beyond=beyond)
            step(done, len(widths))
    return narrowings, refused


def resized(layer: nn.Module, inputs: int, outputs: int, device: torch.device | str | None = None) -> nn.Module:
    """A convolution (transposed or not) or linear layer of the same geometry for so many channels, its weights
    undefined.
    """
    options: dict[str, Any] = {"bias": layer.bias is not None, "dtype": layer.weight.dtype}
    kept: tuple[str, ...] = ()
    if isinstance(layer, _ConvNd):
        kept = ("kernel_size", "stride", "padding", "dilation", "padding_mode")
        kept += ("output_padding",) if isinstance(layer, TRANSPOSED) else ()
        options["groups"] = inputs if is_depthwise(layer) else layer.groups
    options |= {name: getattr(layer, name) for name in kept}
    made: nn.Module = skip_init(
        layer_kind(layer) or type(layer), inputs, outputs, device=device or layer.weight.device, **options
    )
    return made


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """Choices whose cost is one function of channels and sizes.

    Args:
        fixed: entries of the structure that do not shrink with the layer.
        sizes: names of those that do.
        whole: whether each of these is the greatest possible one: what is not reduced may not be built at all.
    """

    method: str
    fixed: tuple[tuple[str, int], ...]
    sizes: tuple[str, ...]
    whole: tuple[bool, ...]


class _Costs:
    """What replacing a layer costs, as functions of its widths; measured once for all layers of a geometry."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Multilinear] = {}

    def beyond(
        self, layer: nn.Module, shapes: Shapes, widths: Widths, options: Sequence[Option]
    ) -> dict[Choice, tuple[Cost, ...]]:
        """Each option of one method -> for each pair of widths, its cost there minus its cost in the dense network.

        Raises:
            ValueError: the costs do not follow from those of small layers.
        """
        dense = (widths.inputs.channels, widths.outputs.channels)
        pairs = [dense, *widths.pairs]
        costs_by_pair = self._at(layer, shapes, pairs, [option.choice for option in options])
        beyond = {}
        for option, costs in zip(options, costs_by_pair, strict=True):
            whole = option.cost.counted()
            if costs[0] != whole:
                raise ValueError(f"{option.choice} should cost {costs[0]} by small layers, and measures {whole}")
            beyond[option.choice] = tuple(_minus(cost, option.cost) for cost in costs[1:])
        return beyond

    def _at(
        self, layer: nn.Module, shapes: Shapes, pairs: Sequence[tuple[int, int]], choices: Sequence[Choice]
    ) -> list[list[Cost]]:
        """The costs of each choice at each pair of widths."""
        method = method_named(choices[0].method)
        before = method.limits(layer)
        shrinking = _shrinking(layer, choices[0].method)
        points: dict[_Kind, list[tuple[int, ...]]] = {}
        positions: list[list[tuple[_Kind, int]]] = [[] for _ in choices]
        for inputs, outputs in pairs:
            limits = method.limits(resized(layer, inputs, outputs, "meta"))
            for choice, own in zip(choices, positions, strict=True):
                kind, values = _kind(narrowed(choice, before, limits), limits, shrinking)
                same = points.setdefault(kind, [])
                own.append((kind, len(same)))
                same.append((inputs, outputs, *values))
        values_of = {kind: self._values(layer, shapes, kind, np.array(same)) for kind, same in points.items()}
        return [
            [Cost(**dict(zip(COUNTED, values_of[kind][at].tolist(), strict=True))) for kind, at in own]
            for own in positions
        ]

    def _values(self, layer: nn.Module, shapes: Shapes, kind: _Kind, points: Whole) -> Whole:
        key = (
            architecture(resized(layer, *_units(layer, 2, 2), "meta")),
            tuple(_without_channels(layer, s) for s in shapes),
            kind,
        )
        if key not in self._known:
            self._known[key] = _fitted(layer, shapes, kind)
        if not self._known[key].knows(points):
            raise ValueError(f"small layers do not tell the cost of {kind.method} at all widths")
        return self._known[key](points)


def _minus(cost: Cost, option: Cost) -> Cost:
    """What the narrowed choice costs beyond the dense one; its time is taken to shrink as its operations do."""
    share = cost.flops / option.flops if option.flops else 1.0
    return replace(cost - option.counted(), latency_ms=option.latency_ms * (share - 1.0))


def _kind(choice: Choice, limits: Structure, shrinking: Sequence[str]) -> tuple[_Kind, tuple[int, ...]]:
    values = tuple(choice.structure[entry] for entry in shrinking)
    fixed = tuple(sorted((entry, value) for entry, value in choice.structure.items() if entry not in shrinking))
    whole = tuple(value == limits[entry] for entry, value in zip(shrinking, values, strict=True))
    return _Kind(method=choice.method, fixed=fixed, sizes=tuple(shrinking), whole=whole), values


def _units(layer: nn.Module, inputs: int, outputs: int) -> tuple[int, int]:
    """Channels of a small layer that has so many in each group; a depthwise one makes what it reads."""
    groups = layer.groups if isinstance(layer, _ConvNd) and not is_depthwise(layer) else 1
    assert isinstance(groups, int)
    return groups * inputs, groups * (inputs if is_depthwise(layer) else outputs)


def _shrinking(layer: nn.Module, method: str) -> tuple[str, ...]:
    """Entries of the method's structures whose limit follows the layer's channels."""
    small, large = (
        method_named(method).limits(resized(layer, *_units(layer, count, count), "meta")) for count in (2, 6)
    )
    return tuple(entry for entry in large if small[entry] != large[entry])


def _fitted(layer: nn.Module, shapes: Shapes, kind: _Kind) -> Multilinear:
    """The cost of choices of a kind on layers of this geometry, as a function of inputs, outputs and sizes.

    Raises:
        ValueError: it is not linear in each of them.
    """
    points = np.array(list(_points(layer, kind)))
    chosen = spanning(points)
    measured = partial(_measured, layer, shapes, kind)
    fitted = Multilinear.through(points[chosen], np.array([measured(points[index]) for index in chosen]))
    others = [index for index in range(len(points)) if index not in chosen]
    for index in {others[len(others) // 2], others[-1]} if others else ():  # the last has the most of everything
        by_fit, built = fitted(points[index][None])[0], measured(points[index])
        if by_fit.tolist() != built:
            raise ValueError(
                f"the cost of {kind.method} is not linear in channels and {', '.join(kind.sizes) or 'nothing else'}"
            )
    return fitted


def _points(layer: nn.Module, kind: _Kind) -> Iterator[tuple[int, ...]]:
    """Inputs, outputs and sizes of small layers for which the kind has a choice."""
    method = method_named(kind.method)
    for pair in dict.fromkeys(_units(layer, *counts) for counts in product(SMALL, SMALL)):
        limits = method.limits(resized(layer, *pair, "meta"))
        allowed = [
            [limits[entry]] if whole else range(1, min(FEW + 1, limits[entry]))
            for entry, whole in zip(kind.sizes, kind.whole, strict=True)
        ]
        yield from ((*pair, *values) for values in product(*allowed))


def _measured(layer: nn.Module, shapes: Shapes, kind: _Kind, point: Whole) -> list[int]:
    """What replacing a small layer costs, as built."""
    inputs, outputs, *values = map(int, point)
    small = resized(layer, inputs, outputs).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in small.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator))
    choice = Choice(method=kind.method, structure={**dict(kind.fixed), **dict(zip(kind.sizes, values, strict=True))})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # how well random weights are fit matters nothing
        built = method_named(kind.method).compress(nn.Sequential(small), CompressionPlan(sites={"0": choice}))
    resized_shapes = [_with_channels(small, shape) for shape in shapes]
    difference = cost_of_calls(site(built, "0"), resized_shapes) - cost_of_calls(small, resized_shapes)
    return [getattr(difference, name) for name in COUNTED]


def _with_channels(layer: nn.Module, shape: tuple[int, ...]) -> tuple[int, ...]:
    inputs = sizes(layer)[0]
    return (*shape[:-1], inputs) if isinstance(layer, nn.Linear) else (inputs, *shape[1:])


def _without_channels(layer: nn.Module, shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[:-1] if isinstance(layer, nn.Linear) else shape[1:]
