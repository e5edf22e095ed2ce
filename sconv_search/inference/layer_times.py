"""Measured time of what may stand in a layer's place, as ``optimize_for_inference`` would compute it."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from statistics import median

from torch import Tensor, nn

from sconv_search.compressor import site, swapped
from sconv_search.copying import without_hooks
from sconv_search.cost.timing import Timer, eager, timed_in_turn
from sconv_search.inference.batch_norm_folding import NORMS
from sconv_search.inference.channel_order import common_writer
from sconv_search.inference.dataflow import flows_of
from sconv_search.inference.implementations import DENSE, implementations
from sconv_search.inference.latency import drawn_input
from sconv_search.structured.kinds import LINEAR_MAPS, STRUCTURED
from sconv_search.system.memory_format import channels_last_

NEARLY_ALL = 0.95
"""Of a layer's weights: with so many, it is not timed by itself."""


def sortable_sites(network: nn.Module, input_shape: Sequence[int], names: Collection[str]) -> set[str]:
    """Those of the layers whose input channels the layer before them can write in any order."""
    given = swapped(network, {}).eval()
    flows = flows_of(given, drawn_input(given, input_shape, 2), (*LINEAR_MAPS, *NORMS))
    read = [name for name in names if site(given, name) in flows[0].read]
    return {name for name in read if common_writer(flows, site(given, name)) is not None}


def layer_times_ms(
    dense: nn.Module,
    layers: Sequence[nn.Module],
    inputs: Sequence[Tensor],
    *,
    sortable: bool = False,
    timer: Timer = timed_in_turn,
) -> tuple[float, list[float]]:
    """Median milliseconds of a dense layer, and of each layer that may stand in its place, over all of the inputs.

    A structured layer's time is that of its fastest implementation, of the dense layer where none is faster, each by
    itself: about what ``optimize_for_inference`` will make of it between its neighbors. All are measured in turn.

    Args:
        sortable: whether the channels of the input can be had in any order.
    """
    ways = {DENSE: dense}
    own = [f"{index}" for index, layer in enumerate(layers)]
    for name, layer in zip(own, layers, strict=True):
        ways |= _ways(name, layer, inputs[0], sortable) if inputs else {}
    total = dict.fromkeys(ways, 0.0)
    for x in inputs:
        runs = {name: eager(_placed(module), x) for name, module in ways.items()}
        for name, seconds in timer(runs).items():
            total[name] += 1000 * median(seconds)
    return total[DENSE], [_least(total, name, layer) for name, layer in zip(own, layers, strict=True)]


def narrowed_times_ms(
    dense: nn.Module, layers: Sequence[nn.Module], inputs: Sequence[Tensor], *, timer: Timer = timed_in_turn
) -> tuple[float, list[float]]:
    """Median milliseconds of a dense layer, and of each that has fewer channels of it, measured in turn.

    What has nearly all of its weights is taken to be as much faster as it has fewer: its time differs by less than two
    measurements do, and a channel of a DenseNet is read by up to 48 layers.

    Args:
        inputs: of the dense layer, then of each other.
    """
    shares = [_weights(layer) / _weights(dense) for layer in layers]
    timed = {f"{index}": index for index, share in enumerate(shares) if share < NEARLY_ALL}
    runs = {DENSE: eager(_placed(dense), inputs[0])}
    runs |= {name: eager(_placed(layers[index]), inputs[1 + index]) for name, index in timed.items()}
    ms = {name: 1000 * median(seconds) for name, seconds in timer(runs).items()}
    return ms[DENSE], [ms.get(f"{index}", ms[DENSE] * share) for index, share in enumerate(shares)]


def _weights(layer: nn.Module) -> int:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight.numel()


def _placed(layer: nn.Module) -> nn.Module:
    return channels_last_(copy.deepcopy(without_hooks(layer)).eval())


def _ways(name: str, layer: nn.Module, x: Tensor, sortable: bool) -> dict[str, nn.Module]:
    if type(layer) not in STRUCTURED:
        return {name: layer}
    forms = implementations(layer, x, sortable=sortable)
    return {f"{name} {way}": form.module for way, form in forms.items() if way != DENSE}


def _least(total: dict[str, float], name: str, layer: nn.Module) -> float:
    own = [taken for way, taken in total.items() if way == name or way.startswith(f"{name} ")]
    return min(own + [total[DENSE]] * (type(layer) in STRUCTURED), default=0.0)
