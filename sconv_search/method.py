"""Structured convolution as a compression method: mathematics, layers and regularisation behind one protocol."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

from torch import Tensor, nn

from sconv_search import regularization
from sconv_search.compressor import Penalty, layers, require_sites, site, swapped
from sconv_search.plan import CompressionPlan, Structure
from sconv_search.structured_conv import StructuredConv1d, StructuredConv2d, StructuredConv3d, StructuredLinear, kernel_counts

LARGEST_SPREAD = 3
STRUCTURED = {layer.dense_type: layer for layer in (StructuredConv1d, StructuredConv2d, StructuredConv3d)}


@dataclass(frozen=True, kw_only=True)
class StructuredConvolution:
    """Sum-pooling and a smaller kernel in the place of a convolution or linear layer.

    Args:
        channel_steps: channel counts are offered in this many equal steps, where a layer has spatial taps too.
        pointwise_steps: the same for layers whose only structure is along the channels.

    Source: Bhalgat et al., NeurIPS 2020, arXiv 2008.02454.
    """

    name: ClassVar[str] = regularization.METHOD
    regularizable: ClassVar[bool] = True
    reshapes_neighbours: ClassVar[bool] = False
    channel_steps: int = 8
    pointwise_steps: int = 8

    def options(self, network: nn.Module) -> dict[str, list[Structure]]:
        """Pairs (c, n) a layer, cheapest first; only those that need fewer FLOPs than the dense layer."""
        found = {name: self._layer_options(layer) for name, layer in layers(network).items()}
        return {name: options for name, options in found.items() if options}

    def _layer_options(self, layer: nn.Module) -> list[Structure]:
        assert isinstance(layer.weight, Tensor)
        channels, kernel = layer.weight.shape[1], tuple(layer.weight.shape[2:])
        steps = self.channel_steps if max(kernel, default=1) > 1 else self.pointwise_steps
        counts = sorted({max(1, round(channels * step / steps)) for step in range(1, steps + 1)})
        structures: list[Structure] = [{"c": c} for c in counts]
        if kernel:
            structures = [{"c": c, "n": n} for c, n in product(counts, range(1, max(kernel) + 1))]
        return _ordered(layer, structures[:-1])

    def penalty(self, network: nn.Module, plan: CompressionPlan) -> Penalty:
        """The structural regularisation loss of the plan's sites."""
        return regularization.structural_loss(network, plan)

    def compress(self, network: nn.Module, plan: CompressionPlan, calibration: Tensor | None = None) -> nn.Module:
        """The network with each site's kernel replaced by its least-squares structured form; calibration is not used."""
        require_sites(network, plan.sites)
        counts = regularization.site_counts(network, plan)
        return swapped(network, {name: structured_layer(site(network, name), *counts[name]) for name in counts})


def structured_layer(layer: nn.Module, c: int, *space: int) -> nn.Module:
    """The structured form of one convolution or linear layer, with ``space`` boxes along its spatial axes."""
    if isinstance(layer, nn.Linear):
        return StructuredLinear.from_linear(layer, c=c)
    assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    return STRUCTURED[type(layer)].from_conv(layer, c=c, n=max(space))


def _ordered(layer: nn.Module, structures: list[Structure]) -> list[Structure]:
    """Cheapest first, and only those whose order holds whether the layer's padding is small or large beside its input."""
    small = {_flops_a_position(layer, structure, spread=1): structure for structure in structures}
    dense = 2 * layer.weight.numel()  # type: ignore[operator]  # a Tensor
    kept: list[Structure] = []
    last = 0
    for flops in sorted(small):
        if last < (most := _flops_a_position(layer, small[flops], spread=LARGEST_SPREAD)) < dense:
            kept.append(small[flops])
            last = most
    return kept


def _flops_a_position(layer: nn.Module, structure: Structure, *, spread: int) -> int:
    """FLOPs an output position, to order options by; the study measures the real ones on the built layer.

    Args:
        spread: positions on which the spatial sums run for one input position; more than one where padding is large.
    """
    assert isinstance(layer.weight, Tensor)
    outputs, channels, *kernel = layer.weight.shape
    counts = kernel_counts(tuple(kernel) or (1,), channels, structure["c"], structure.get("n", 1))
    boxes = [taps - count for taps, count in zip(kernel, counts[1:], strict=False)]
    sums = (channels - 1 if counts[0] < channels else 0) + spread * counts[0] * sum(boxes)
    macs = outputs * math.prod(counts)
    if isinstance(layer, nn.Linear):
        return 2 * macs + sums
    assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    read = 1 if math.prod(kernel) == 1 else math.prod(layer.stride)
    return 2 * macs + layer.groups * read * sums
