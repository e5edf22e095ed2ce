"""What a plan costs in the columns of the structured convolutions' paper.

Its *mults* are our MACs. Its *additions* are those of convolutions and linear layers, k - 1 for an output of k MACs,
and those of the sum-pooling; biases, batch norms, shortcuts and the average before a classifier are not among them.
(Our ``adds`` are the additions beside the MACs, shortcuts and averages included.)
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from sconv_search.compressor import layers, swapped
from sconv_search.cost.counting import measure_modules
from sconv_search.plan import CompressionPlan
from sconv_search.records import Cost
from sconv_search.structured.conv import StructuredConv1d, StructuredConv2d, StructuredConv3d
from sconv_search.structured.linear import StructuredLinear
from sconv_search.structured.method import TRANSPOSED, StructuredConvolution
from sconv_search.structured.sums.channel_pooling import NaturalChains

# Structured layers as the paper draws them: every box summed on its own, then the small kernel in the box basis.
#
# Slow, and dear in additions: for comparison alone. What is built here computes what the structured layers compute.
#
# Legend: g groups, C input channels of one group, L and K the box's lengths along the channels and along space.
#
# Source: Bhalgat et al., Structured Convolutions for Efficient Neural Network Design, NeurIPS 2020, arXiv 2008.02454,
# figure 4.

StructuredConv = StructuredConv1d | StructuredConv2d | StructuredConv3d


class BoxPooledConv(nn.Module):
    """A structured convolution whose ``L K^d`` inputs of each box are summed anew: ``L K^d - 1`` additions a sum.

    Args:
        layer: the structured layer, which is copied; its channels are in their natural order.
    """

    def __init__(self, layer: StructuredConv) -> None:
        super().__init__()
        self.layer = _in_the_box_basis(layer)
        lengths = (layer.in_channels // layer.groups, *layer.kernel_size)
        self.boxes = [length - count + 1 for length, count in zip(lengths, layer.weight.shape[1:], strict=True)]

    def forward(self, x: Tensor) -> Tensor:
        """As the structured layer: (N, g C, space...) -> (N, O, space...)."""
        layer: Any = self.layer
        x = layer.padded(x).unflatten(1, (layer.groups, -1))
        gaps = (1, *layer.dilation)
        pooled = [axis for axis, box in enumerate(self.boxes, start=2) if box > 1]
        for axis in pooled:
            gap = gaps[axis - 2]
            x = x.unfold(axis, (self.boxes[axis - 2] - 1) * gap + 1, 1)[..., ::gap]
        if pooled:
            x = x.sum(tuple(range(-len(pooled), 0)))
        convolve: Any = (F.conv1d, F.conv2d, F.conv3d)[len(layer.kernel_size) - 1]
        output: Tensor = convolve(
            x.flatten(1, 2), layer.weight, layer.bias, layer.stride, 0, layer.dilation, layer.groups
        )
        return output


class BoxPooledLinear(nn.Module):
    """A structured linear layer whose L inputs of each box are summed anew: ``L - 1`` additions a sum.

    Args:
        layer: the structured layer, which is copied; its features are in their natural order.
    """

    def __init__(self, layer: StructuredLinear) -> None:
        super().__init__()
        self.layer = _in_the_box_basis(layer)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        layer: Any = self.layer
        box = layer.in_features - layer.c + 1
        pooled = x.unfold(-1, box, 1).sum(-1) if box > 1 else x
        return F.linear(pooled, layer.weight, layer.bias)


def box_pooled(network: nn.Module) -> nn.Module:
    """A copy of a compressed network in which every structured layer sums its boxes one by one.

    Raises:
        TypeError: a structured layer sums channels in another order than the natural one, or is transposed.
    """
    forms: dict[str, nn.Module] = {}
    for name, module in network.named_modules():
        if isinstance(module, StructuredConv):
            forms[name] = BoxPooledConv(module)
        elif isinstance(module, StructuredLinear):
            forms[name] = BoxPooledLinear(module)
        elif isinstance(module, tuple(TRANSPOSED.values())):
            raise TypeError(
                f"{name!r} is a {type(module).__name__}; boxes of transposed layers are not summed one by one here"
            )
    return swapped(network, forms)


def _in_the_box_basis(layer: StructuredConv | StructuredLinear) -> nn.Module:
    """A copy of the layer, which holds its geometry and bias, with ``alpha`` for a weight."""
    if type(layer.pooling) is not NaturalChains:
        raise TypeError(
            f"boxes are sums of channels in their natural order; this layer has {type(layer.pooling).__name__}"
        )
    rewritten = copy.deepcopy(layer)
    rewritten.weight = nn.Parameter(layer.alpha.detach().clone())
    return rewritten


@dataclass(frozen=True, kw_only=True)
class PaperCounts:
    """Counts of one input; exact integers.

    Args:
        mults: multiplications of convolutions and linear layers.
        naive_additions: additions in all, where each box is summed on its own, as in the paper.
        chain_additions: additions in all, as this project's layers run.
        params: trainable numbers.
    """

    mults: int
    naive_additions: int
    chain_additions: int
    params: int


def paper_counts(network: nn.Module, plan: CompressionPlan, input_shape: Sequence[int]) -> PaperCounts:
    """The counts of a network compressed by a plan of structured convolutions, measured on both forms as they are
    built.

    Raises:
        KeyError, TypeError: as ``StructuredConvolution.compress``.
        ValueError: as that, or other operators than convolutions and linear layers multiply; as ``measure_cost``.
    """
    before, names = measure_modules(network, input_shape), layers(network)
    inside, every = sum(before[name].macs for name in names), before[""].macs
    if inside != every:
        raise ValueError(
            f"the paper counts convolutions and linear layers alone; theirs are {inside} of the {every} MACs"
        )
    outputs = sum(before[name].activations for name in names)
    chain = naive = before
    if plan.sites:
        compressed = network
        for method in plan.methods:
            compressed = StructuredConvolution(name=method).compress(compressed, plan.only(method))
        chain, naive = measure_modules(compressed, input_shape), measure_modules(box_pooled(compressed), input_shape)
    return PaperCounts(
        mults=chain[""].macs,
        naive_additions=_additions(naive, names) - outputs,
        chain_additions=_additions(chain, names) - outputs,
        params=chain[""].params,
    )


def _additions(costs: Mapping[str, Cost], names: Collection[str]) -> int:
    """One for each MAC of the layers, and what they add beside."""
    return sum(costs[name].macs + costs[name].adds for name in names)
