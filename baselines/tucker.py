"""Tucker-2: a convolution as a pointwise one to ``rank_in`` channels, a small one of the full kernel, and a pointwise one.

Legend: O filters, C input channels, T taps, Ri and Ro the ranks along C and O.

Source: Kim, Park, Yoo, Choi, Yang, Shin, Compression of Deep Convolutional Neural Networks for Fast and Low Power Mobile
Applications, ICLR 2016, section 3.1 (Tucker-2). The factors from higher-order orthogonal iteration (tensorly).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import tensorly
from tensorly.decomposition import partial_tucker
from torch import Tensor, nn

from baselines.factorized import Conv, convolution, no_penalty, remembered, replaced, require_ranks, singular_factors
from sconv_search.compressor import LAYER_KINDS, Penalty, layers
from sconv_search.plan import CompressionPlan, Structure

ITERATIONS = 3
"""Orthogonal iterations; from the SVD of each mode, further ones change the error by less than 1 % of it."""


@dataclass(frozen=True, kw_only=True)
class Tucker:
    """Tucker-2 of a convolution's kernel along its filters and input channels.

    Args:
        steps: pairs of ranks, in proportion to C and O, are offered at this many equal steps of the layer's dense MACs.
    """

    name: ClassVar[str] = "tucker"
    regularizable: ClassVar[bool] = False
    reshapes_neighbours: ClassVar[bool] = False
    steps: int = 12

    def options(self, network: nn.Module) -> dict[str, list[Structure]]:
        """Pairs of ranks a layer, cheapest first, for convolutions without groups and with more than one tap."""
        found = {name: self._ladder(layer) for name, layer in layers(network).items() if is_eligible(layer)}
        return {name: structures for name, structures in found.items() if structures}

    def _ladder(self, conv: nn.Module) -> list[Structure]:
        assert isinstance(conv, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        dense, pairs = conv.weight.numel(), proportional_ranks(conv)
        kept: list[Structure] = []
        for step in range(1, self.steps):
            fitting = [pair for pair in pairs if _work(conv, *pair) < dense and self.steps * _work(conv, *pair) <= dense * step]
            if fitting and (pair := {"rank_in": fitting[-1][0], "rank_out": fitting[-1][1]}) not in kept:
                kept.append(pair)
        return kept

    def penalty(self, network: nn.Module, plan: CompressionPlan) -> Penalty:
        """Constant 0: the method works on trained weights."""
        return no_penalty(network)

    def compress(self, network: nn.Module, plan: CompressionPlan, calibration: Tensor | None = None) -> nn.Module:
        """The network with each site replaced by its three convolutions; calibration is not used.

        Raises:
            KeyError: the plan names a site that the network lacks.
            TypeError: a site is no convolution without groups and with more than one tap.
            ValueError: a rank is missing or out of range.
        """
        return replaced(network, plan, self.name, _factorized)


def is_eligible(layer: nn.Module) -> bool:
    """Whether the layer is a convolution without groups and with more than one tap."""
    return isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d) and layer.groups == 1 and max(layer.kernel_size) > 1


def proportional_ranks(conv: Conv) -> list[tuple[int, int]]:
    """Pairs (Ri, Ro) in the proportion of C to O, neither falling along the list, none beyond what the other can use."""
    outputs, channels, *kernel = conv.weight.shape
    taps, most = math.prod(kernel), max(outputs, channels)
    pairs = [(max(1, channels * size // most), max(1, outputs * size // most)) for size in range(1, most + 1)]
    return [(min(rank_in, taps * rank_out), min(rank_out, taps * rank_in)) for rank_in, rank_out in pairs]


def ranks_by_energy(kernel: Tensor, share: float) -> tuple[int, int]:
    """The least (Ri, Ro) whose modes each keep that share of the kernel's squared norm; a start for a choice by hand.

    Both kept, the Tucker-2 of these ranks has a squared relative error of at most ``2 (1 - share)``.

    Raises:
        ValueError: the share is not in (0, 1].
    Source: De Lathauwer, De Moor, Vandewalle, A Multilinear Singular Value Decomposition, SIMAX 2000, property 10.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be in (0, 1], got {share}")

    def least(singular: Tensor) -> int:
        energy = singular.square().cumsum(0)
        return min(singular.numel(), int((energy < share * energy[-1] * (1 - 1e-12)).sum()) + 1)

    return least(singular_factors(_mode(kernel, 1))[1][0]), least(singular_factors(_mode(kernel, 0))[1][0])


def _mode(kernel: Tensor, axis: int) -> Tensor:
    return kernel.detach().movedim(axis, 0).reshape(1, kernel.shape[axis], -1)


def _work(conv: Conv, rank_in: int, rank_out: int) -> int:
    """MACs at an output position; the first layer runs at the input's resolution."""
    outputs, channels, *kernel = conv.weight.shape
    return channels * rank_in * math.prod(conv.stride) + rank_in * rank_out * math.prod(kernel) + rank_out * outputs


def _factorized(name: str, layer: nn.Module, structure: Structure) -> nn.Sequential:
    if type(layer) not in LAYER_KINDS or not is_eligible(layer):
        raise TypeError(f"site {name!r}: Tucker-2 needs a convolution without groups and with more than one tap, got {layer}")
    assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    require_ranks(name, "Tucker-2", structure, {"rank_in": layer.in_channels, "rank_out": layer.out_channels})
    return factorize(layer, structure["rank_in"], structure["rank_out"])


@remembered
def tucker2(kernel: Tensor, rank_in: int, rank_out: int) -> tuple[Tensor, Tensor, Tensor]:
    """Core (Ro, Ri, taps...), and orthonormal factors (O, Ro) and (C, Ri), of the kernel in float64."""
    exact = kernel.detach().double()
    starts = [singular_factors(_mode(kernel, axis))[0][0, :, :rank] for axis, rank in ((0, rank_out), (1, rank_in))]
    init = (exact, starts) if [start.shape[1] for start in starts] == [rank_out, rank_in] else "svd"
    with tensorly.backend_context("pytorch", local_threadsafe=True):
        (core, (outer, inner)), _ = partial_tucker(
            exact, rank=[rank_out, rank_in], modes=[0, 1], init=init, n_iter_max=ITERATIONS, random_state=0
        )
    return core, outer, inner


def factorize(conv: Conv, rank_in: int, rank_out: int) -> nn.Sequential:
    """The three convolutions; stride, padding and dilation are in the middle one, the bias in the last."""
    core, outer, inner = tucker2(conv.weight, rank_in, rank_out)
    axes = range(len(conv.kernel_size))
    ones = [1 for _ in axes]
    return nn.Sequential(
        convolution(conv, inner.T.reshape(*inner.T.shape, *ones), axes=()),
        convolution(conv, core, axes=axes),
        convolution(conv, outer.reshape(*outer.shape, *ones), axes=(), bias=conv.bias),
    ).train(conv.training)
