"""Weight SVD: a layer as one of the same kernel size to ``rank`` channels, and a pointwise one from them.

Legend: g groups, O filters and C input channels of one group, T taps, R rank.

Source: Zhang, Zou, He, Sun, Accelerating Very Deep Convolutional Networks for Classification and Detection, TPAMI 2016,
section 3.1 (the linear case): the kernel, unfolded to O x (C T), as the product of two matrices of rank R. With data,
the best O x R factor is spanned by the leading eigenvectors of the outputs' second moments W S W^T (S those of the
unfolded inputs; about the mean where a bias can shift): the same optimum as the SVD of W S^(1/2), without S's root or
its inverse.

A transposed convolution has the pointwise layer first, where positions are few: its kernel is unfolded to C x (O T).
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from sconv_search.baselines.decomposition import (
    Conv,
    Decomposition,
    TransposedConv,
    convolution,
    fill_,
    is_factorizable,
    kernel_of,
    principal_axes,
    ranks_in_steps,
    shifted_bias,
    singular_factors,
)
from sconv_search.baselines.factorized_layer import factorized_layer
from sconv_search.calibration.moments import Moments
from sconv_search.plan import Structure


class WeightSVD(Decomposition):
    """The best pair of a layer to ``rank`` channels and a pointwise layer, by truncated SVD; each group by itself."""

    name: ClassVar[str] = "weight_svd"
    title: ClassVar[str] = "weight SVD"
    takes: ClassVar[str] = "a convolution or linear layer"

    def limits(self, layer: nn.Module) -> Structure:
        """The rank at which the pair is exact; empty for all but convolutions and linear layers."""
        return {"rank": min(unfolded(layer).shape[1:])} if is_factorizable(layer) else {}

    def structures(self, layer: nn.Module) -> list[Structure]:
        """Ranks at equal steps of the dense MACs."""
        _, outputs, inputs = unfolded(layer).shape
        most = min(outputs, inputs)
        ranks = ranks_in_steps(outputs * inputs, outputs + inputs, steps=self.steps, most=most, multiple=self.multiple)
        return [{"rank": rank} for rank in ranks]

    def decomposed(
        self, name: str, layer: nn.Module, structure: Structure, moments: Moments | None, trained: nn.Module
    ) -> nn.Sequential:
        """The two layers."""
        return factorize(layer, structure["rank"], moments)


def unfolded(layer: nn.Module) -> Tensor:
    """The layer's weights as one O x (C T) matrix a group, (g, O, C T); of a transposed convolution C x (O T), (1, C, O
    T).
    """
    assert isinstance(layer.weight, Tensor)
    groups = 1 if isinstance(layer, nn.Linear) else layer.groups
    assert isinstance(groups, int)
    weight = layer.weight.detach()  # of a transposed convolution (C, O, taps...) as it is
    return weight.reshape(groups, weight.shape[0] // groups, math.prod(weight.shape[1:]))


def factorize(layer: nn.Module, rank: int, moments: Moments | None = None) -> nn.Sequential:
    """The pair of layers of that rank (in each group) with the least squared error, their norms equal for each rank.

    Args:
        moments: of what the layer reads; the error is then that of its outputs.
    """
    matrices = unfolded(layer)
    groups, rows, _ = matrices.shape
    (basis,) = _output_axes(matrices, moments, layer.bias is not None) if moments else singular_factors(matrices)[:1]
    basis = basis[..., :rank]
    to_rank = basis.mT @ matrices.to(basis)
    shift = None
    if moments and layer.bias is not None:
        shift = ((matrices.to(basis) - basis @ to_rank) @ moments.mean[..., None])[..., 0]
    if not to_rank.is_meta:  # of shapes alone there is nothing to balance, and torch takes long for it
        balance = to_rank.norm(dim=2, keepdim=True).sqrt().clamp(min=torch.finfo(to_rank.dtype).tiny)
        to_rank, basis = to_rank / balance, basis * balance.mT
    wide, narrow = to_rank.flatten(0, 1), basis.reshape(groups * rows, rank)
    bias = shifted_bias(layer, shift)
    if isinstance(layer, nn.Linear):
        pair: tuple[nn.Module, nn.Module] = (_linear(layer, wide, None), _linear(layer, narrow, bias))
    else:
        assert isinstance(layer, Conv)
        if isinstance(layer, TransposedConv):
            pair = _transposed(layer, narrow.T, wide, bias)
        else:
            pair = _convolutions(layer, wide, narrow, bias)
    return factorized_layer(layer, *pair)


def _output_axes(matrices: Tensor, moments: Moments, intercept: bool) -> tuple[Tensor]:
    second = moments.squares(intercept=intercept)
    return principal_axes(matrices.to(second) @ second @ matrices.to(second).mT)


def _convolutions(conv: Conv, first: Tensor, second: Tensor, bias: Tensor | None) -> tuple[nn.Module, nn.Module]:
    axes = range(len(conv.kernel_size))
    kernel = first.reshape(first.shape[0], *conv.weight.shape[1:])
    pointwise = second.reshape(*second.shape, *(1 for _ in axes))
    return (
        convolution(conv, kernel, axes=axes, groups=conv.groups),
        convolution(conv, pointwise, axes=(), groups=conv.groups, bias=bias),
    )


def _transposed(conv: Conv, first: Tensor, second: Tensor, bias: Tensor | None) -> tuple[nn.Module, nn.Module]:
    axes = range(len(conv.kernel_size))
    kernel = second.reshape(second.shape[0], *kernel_of(conv).transpose(0, 1).shape[1:]).transpose(0, 1)
    return (
        convolution(conv, first.reshape(*first.shape, *(1 for _ in axes)), axes=()),
        convolution(conv, kernel, axes=axes, bias=bias),
    )


def _linear(layer: nn.Linear, weight: Tensor, bias: Tensor | None) -> nn.Linear:
    result = skip_init(
        nn.Linear,
        weight.shape[1],
        weight.shape[0],
        bias=bias is not None,
        device=layer.weight.device,
        dtype=layer.weight.dtype,
    )
    assert isinstance(result, nn.Linear)
    fill_(result, weight, bias)
    return result
