"""Tucker-2: a convolution as a pointwise one to ``rank_in`` channels, a small one of the full kernel, and a pointwise
one.

Legend: O filters, C input channels, T taps, Ri and Ro the ranks along C and O.

Source: Kim, Park, Yoo, Choi, Yang, Shin, Compression of Deep Convolutional Neural Networks for Fast and Low Power
Mobile Applications, ICLR 2016, section 3.1 (Tucker-2). The factors from higher-order orthogonal iteration (De
Lathauwer, De Moor, Vandewalle, SIAM Journal on Matrix Analysis and Applications 21(4), 2000, algorithm 4.2).
With data, core and outer factor are the optimum for a given inner factor: the least-squares fit of the outputs, cut to
rank Ro along the leading axes of its own outputs (reduced-rank regression, Izenman 1975). The inner factor is refit in
turn with them (``weighted_factors``).
"""

from __future__ import annotations

import math
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from sconv_search.baselines.decomposition import (
    Conv,
    Decomposition,
    TransposedConv,
    convolution,
    is_factorizable,
    kernel_of,
    principal_axes,
    shifted_bias,
)
from sconv_search.baselines.factorized_layer import factorized_layer
from sconv_search.baselines.weighted_factors import SWEEPS, refit_factor, steps_within
from sconv_search.calibration.moments import Moments, least_squares_tail
from sconv_search.plan import Structure
from sconv_search.system.cache import remembered

_Fit = tuple[Tensor, Tensor, Tensor, Tensor, float]
"""Core, outer and inner factor, the bias' shift, and the error."""
ITERATIONS = 3
"""Orthogonal iterations; from the leading axes of the inputs, further ones change the error by less than 1 % of it."""


class Tucker(Decomposition):
    """Tucker-2 of a convolution's kernel along its filters and input channels; transposed where the layer is.

    Offered are pairs of ranks in proportion to C and O. With calibration inputs, the error of the layer's outputs is
    never greater than without.
    """

    name: ClassVar[str] = "tucker"
    title: ClassVar[str] = "Tucker-2"
    takes: ClassVar[str] = "a convolution without groups and with more than one tap"

    def limits(self, layer: nn.Module) -> Structure:
        """The channels on both sides; empty for all but convolutions without groups and with more than one tap."""
        return _structure(layer.in_channels, layer.out_channels) if is_eligible(layer) else {}  # type: ignore[arg-type]

    def structures(self, layer: nn.Module) -> list[Structure]:
        """Pairs of ranks at equal steps of the dense MACs, the greatest that fit."""
        assert isinstance(layer, Conv)
        dense = layer.weight.numel()
        pairs = [pair for pair in proportional_ranks(layer, self.multiple) if _work(layer, *pair) < dense]
        kept: list[Structure] = []
        for step in range(1, self.steps):
            fitting = [pair for pair in pairs if self.steps * _work(layer, *pair) <= dense * step]
            if fitting and (structure := _structure(*fitting[-1])) not in kept:
                kept.append(structure)
        return kept or [_structure(*pair) for pair in pairs[:1] if self.multiple > 1]

    def decomposed(
        self, name: str, layer: nn.Module, structure: Structure, moments: Moments | None, trained: nn.Module
    ) -> nn.Sequential:
        """The three convolutions."""
        assert isinstance(layer, Conv)
        return factorize(layer, structure["rank_in"], structure["rank_out"], moments)


def _structure(rank_in: int, rank_out: int) -> Structure:
    return {"rank_in": rank_in, "rank_out": rank_out}


def is_eligible(layer: nn.Module) -> bool:
    """Whether the layer is a convolution without groups and with more than one tap; transposed or not."""
    return is_factorizable(layer) and isinstance(layer, Conv) and layer.groups == 1 and max(layer.kernel_size) > 1


def proportional_ranks(conv: Conv, multiple: int = 1) -> list[tuple[int, int]]:
    """Pairs (Ri, Ro) in the proportion of C to O, neither falling along the list, none beyond what the other can use.

    Args:
        multiple: both are rounded down to multiples of it, but not below it.
    """
    outputs, channels, *kernel = kernel_of(conv).shape
    taps, most = math.prod(kernel), max(outputs, channels)
    if multiple > min(outputs, channels):
        return []

    def rounded(rank: int) -> int:
        return max(multiple, rank // multiple * multiple)

    pairs = [(rounded(channels * size // most), rounded(outputs * size // most)) for size in range(1, most + 1)]
    return [
        (rank_in, rank_out)
        for a, b in pairs
        if (rank_in := min(a, taps * b // multiple * multiple))
        and (rank_out := min(b, taps * a // multiple * multiple))
    ]


def _work(conv: Conv, rank_in: int, rank_out: int) -> int:
    """MACs at an output position; the first layer runs at the input's resolution.

    Of a transposed convolution, at an input position; the last layer runs at the output's resolution.
    """
    outputs, channels, *kernel = kernel_of(conv).shape
    before, after = (1, math.prod(conv.stride)) if isinstance(conv, TransposedConv) else (math.prod(conv.stride), 1)
    return channels * rank_in * before + rank_in * rank_out * math.prod(kernel) + rank_out * outputs * after


@remembered
def tucker2(kernel: Tensor, rank_in: int, rank_out: int) -> tuple[Tensor, Tensor, Tensor]:
    """Core (Ro, Ri, taps...), and orthonormal factors (O, Ro) and (C, Ri), of the kernel in float64."""
    exact = kernel.detach().double()
    if exact.is_meta:  # values are all that the iteration adds to these shapes
        outputs, channels, *taps = exact.shape
        return (
            exact.new_empty(rank_out, rank_in, *taps),
            exact.new_empty(outputs, rank_out),
            exact.new_empty(channels, rank_in),
        )
    inner = principal_axes(_gram(exact, 1))[0][0, :, :rank_in]
    for _ in range(ITERATIONS):
        outer = _leading_axes(torch.einsum("oc...,ci->oi...", exact, inner), 0, rank_out)
        within = torch.einsum("oc...,oj->jc...", exact, outer)
        inner = _leading_axes(within, 1, rank_in)
    return torch.einsum("jc...,ci->ji...", within, inner), outer, inner


def _leading_axes(kernel: Tensor, axis: int, rank: int) -> Tensor:
    """Orthonormal (size of that axis, rank): the left singular vectors of the kernel unfolded along it."""
    axes: Tensor = torch.linalg.eigh(_gram(kernel, axis)[0]).eigenvectors
    return axes.flip(-1)[:, :rank]


def _gram(kernel: Tensor, axis: int) -> Tensor:
    """(1, size, size): the products of the kernel's slices along an axis.

    Their eigenvectors are the singular vectors of the unfolded kernel, which is several times as wide as high, and
    take a tenth of the time of those.
    """
    unfolded = mode(kernel, axis)
    return unfolded @ unfolded.mT


def factorize(conv: Conv, rank_in: int, rank_out: int, moments: Moments | None = None) -> nn.Sequential:
    """The three convolutions; stride, padding and dilation are in the middle one, the bias in the last.

    Args:
        moments: of what the layer reads; the outputs, rather than the kernel, are then made close.
    """
    kernel = kernel_of(conv)
    core, outer, inner = tucker2(kernel, rank_in, rank_out)
    shift = None
    if moments is not None:
        inners = (inner, _weighted_axes(kernel.double(), moments)[:, :rank_in])
        fits = [_calibrated(kernel.double(), factors, rank_out, moments, conv.bias is not None) for factors in inners]
        core, outer, inner, shift, _ = _alternated(conv, min(fits, key=lambda fit: fit[-1]), moments)
    axes = range(len(conv.kernel_size))
    ones = [1 for _ in axes]
    return factorized_layer(
        conv,
        convolution(conv, inner.T.reshape(*inner.T.shape, *ones), axes=()),
        convolution(conv, core, axes=axes),
        convolution(conv, outer.reshape(*outer.shape, *ones), axes=(), bias=shifted_bias(conv, shift)),
    )


def _weighted_axes(kernel: Tensor, moments: Moments) -> Tensor:
    """Orthonormal (C, C): the leading axes along the channels, of the kernel weighted by their second moments."""
    channels = kernel.shape[1]
    along = moments.second[0].unflatten(1, (channels, -1)).unflatten(0, (channels, -1)).diagonal(dim1=1, dim2=3).sum(-1)
    values, axes = torch.linalg.eigh(along)
    root = (axes * values.clamp(min=0).sqrt()) @ axes.T
    unfolded = kernel.movedim(1, 0).flatten(1)
    gram = unfolded @ unfolded.T
    (leading,) = principal_axes((root @ gram @ root)[None])
    orthonormal: Tensor = torch.linalg.qr(gram @ root @ leading[0]).Q
    return orthonormal


def _calibrated(kernel: Tensor, inner: Tensor, rank_out: int, moments: Moments, intercept: bool) -> _Fit:
    """Core, outer and the given inner factor, the bias' shift and the error: the least for this inner factor."""

    def reduce(patches_gnC: Tensor) -> Tensor:
        return torch.einsum("gnc...,cr->gnr...", patches_gnC, inner)

    start = torch.einsum("oc...,cr->or...", kernel, inner)
    tail = least_squares_tail(kernel[None], start[None], moments, reduce, intercept=intercept)
    outer = principal_axes(tail.outputs)[0][0, :, :rank_out]
    core = (outer.T @ tail.kernel[0]).reshape(rank_out, *start.shape[1:])
    kept = outer @ outer.T
    left_out = tail.outputs[0].trace() - (tail.outputs[0] * kept).sum()
    shift = tail.shift[0]
    if intercept:
        mean = reduce(moments.mean[:, None].unflatten(2, kernel.shape[1:])).flatten()
        shift = shift + (tail.kernel[0] - kept @ tail.kernel[0]) @ mean
    return core, outer, inner, shift, tail.error + float(left_out)


def _alternated(conv: Conv, start: _Fit, moments: Moments) -> _Fit:
    """The best of the start and of rounds in which the inner factor, and then the other two, are refit."""
    intercept, kernel = conv.bias is not None, kernel_of(conv).double()
    second = moments.squares(intercept=intercept)[0]
    best = start
    for _ in range(SWEEPS):
        core, outer, inner = best[:3]
        # of the outputs, only those along the outer factor are ever made
        wanted = outer.T @ kernel.flatten(1)
        if not (steps := steps_within(wanted.shape[0], wanted.shape[1], factors=1)):
            return best
        refit = refit_factor(wanted, second, partial(_contracted, core), inner, steps)
        changed = _calibrated(kernel, torch.linalg.qr(refit).Q, outer.shape[1], moments, intercept)
        if not changed[-1] < best[-1]:
            break  # another round would begin from the same factors
        best = changed
    return best


def _contracted(core: Tensor, inner: Tensor) -> Tensor:
    """The kernel (Ro, C * taps) of a core (Ro, Ri, taps...) behind an inner factor (C, Ri)."""
    return torch.einsum("sr...,cr->sc...", core, inner).flatten(1)


def mode(kernel: Tensor, axis: int) -> Tensor:
    """The kernel unfolded along one axis, (1, that axis, all others)."""
    return kernel.detach().movedim(axis, 0).reshape(1, kernel.shape[axis], -1)
