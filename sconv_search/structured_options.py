"""What the options of structured layers cost, for their order: the study measures the real ones on the built layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

from torch import nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from sconv_search.channel_layout import channel_additions, layer_kernel, variant_of
from sconv_search.plan import Structure
from sconv_search.structured_conv import kernel_counts

SPREADS = tuple(product((1 / 3, 3), (1, 3)))
"""Positions on which channel sums, and spatial sums, run for one output position: few or many as padding is large or none."""


def in_order_of_cost(layer: nn.Module, structures: Sequence[Structure]) -> list[Structure]:
    """Cheapest first, and only those whose order holds whether the layer's padding is small or large beside its input."""
    dense = 2 * layer_kernel(layer).numel()
    kept: list[Structure] = []
    last = [0.0] * len(SPREADS)
    for structure in sorted(structures, key=lambda chosen: _flops_a_position(layer, chosen, (1, 1))):
        flops = [_flops_a_position(layer, structure, spread) for spread in SPREADS]
        if max(flops) < dense and (flops == last or all(cheaper < own for cheaper, own in zip(last, flops, strict=True))):
            kept.append(structure)
            last = flops
    return kept


def _flops_a_position(layer: nn.Module, structure: Structure, spread: tuple[float, float]) -> float:
    """FLOPs an output position; an input position of a transposed layer."""
    filters, channels, *taps = layer_kernel(layer).shape
    space = tuple(taps) or (1,)
    kept = kernel_counts(space, channels, structure["c"], structure.get("n", max(space)))
    pointwise = math.prod(space) == 1 or isinstance(layer, nn.Linear | _ConvTransposeNd)
    sums = (1 if pointwise else spread[0]) * channel_additions(variant_of(structure), channels, structure["c"])
    sums += spread[1] * kept[0] * sum(size - count for size, count in zip(space, kept[1:], strict=True))
    read = 1 if pointwise or not isinstance(layer, _ConvNd) else math.prod(layer.stride)
    groups = layer.groups if isinstance(layer, _ConvNd) else 1
    return 2 * filters * math.prod(kept) + groups * read * sums
