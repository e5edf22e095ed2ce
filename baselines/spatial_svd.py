"""Spatial SVD: an N x M convolution as an N x 1 convolution to ``rank`` channels and a 1 x M convolution from them.

Legend: g groups, O filters and C input channels of one group, (H, W) taps, R rank.

Source: Jaderberg, Vedaldi, Zisserman, Speeding up Convolutional Neural Networks with Low Rank Expansions, BMVC 2014,
scheme 2; the filters from the SVD of the kernel unfolded to (C H) x (O W). With data, the SVD is weighted by the second
moments of the inputs along (C H) and along W (their Kronecker product stands for the moments of the whole patch, which
would make a system of (R C H)^2), then the horizontal filters are refit to the moments of the whole patch.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from sconv_search.baselines.decomposition import (
    Decomposition,
    convolution,
    kernel_of,
    principal_axes,
    ranks_in_steps,
    shifted_bias,
    singular_factors,
)
from sconv_search.baselines.factorized_layer import factorized_layer
from sconv_search.calibration.moments import Moments, Tail, least_squares_tail
from sconv_search.layer_kinds import layer_kind
from sconv_search.plan import Structure

Spatial = nn.Conv2d | nn.ConvTranspose2d


def unfolded(kernel_OCHW: Tensor, groups: int) -> Tensor:
    """The kernel as one (C H) x (O W) matrix a group, (g, C H, O W)."""
    per_group = kernel_OCHW.reshape(groups, -1, *kernel_OCHW.shape[1:])
    _, filters, channels, height, width = per_group.shape
    return per_group.permute(0, 2, 3, 1, 4).reshape(groups, channels * height, filters * width)


class SpatialSVD(Decomposition):
    """The best pair of a vertical and a horizontal convolution, by truncated SVD; transposed where the layer is.

    With calibration inputs, the error of the layer's outputs is never greater than without.
    """

    name: ClassVar[str] = "spatial_svd"
    title: ClassVar[str] = "spatial SVD"
    takes: ClassVar[str] = "a Conv2d with taps along both axes"

    def limits(self, layer: nn.Module) -> Structure:
        """The rank at which the pair is exact for any kernel; empty for all but 2-D convolutions with taps along both
        axes.
        """
        if not is_eligible(layer):
            return {}
        assert isinstance(layer, Spatial)
        outputs, channels, height, width = kernel_of(layer).shape
        return {"rank": min(channels * height, outputs // layer.groups * width)}

    def structures(self, layer: nn.Module) -> list[Structure]:
        """Ranks at equal steps of the dense MACs."""
        assert isinstance(layer, Spatial)
        dense, most = layer.weight.numel() // layer.groups, self.limits(layer)["rank"]
        ranks = ranks_in_steps(dense, _work_of_a_rank(layer), steps=self.steps, most=most, multiple=self.multiple)
        return [{"rank": rank} for rank in ranks]

    def decomposed(
        self, name: str, layer: nn.Module, structure: Structure, moments: Moments | None, trained: nn.Module
    ) -> nn.Sequential:
        """The vertical and the horizontal convolution."""
        assert isinstance(layer, Spatial)
        return separate(layer, structure["rank"], moments)


def is_eligible(layer: nn.Module) -> bool:
    """Whether the layer is a 2-D convolution (a transposed one without groups) with more than one tap along both
    axes.
    """
    if not isinstance(layer, Spatial) or layer_kind(layer) is None or min(layer.kernel_size) == 1:
        return False
    return isinstance(layer, nn.Conv2d) or layer.groups == 1


def _work_of_a_rank(conv: Spatial) -> int:
    """MACs of one rank of one group at an output position; the vertical layer runs at the input's width.

    Of a transposed convolution, at an input position; the horizontal layer runs at the output's height.
    """
    outputs, channels, height, width = kernel_of(conv).shape
    if isinstance(conv, nn.ConvTranspose2d):
        return channels * height + outputs * width * conv.stride[0]
    return channels * height * conv.stride[1] + outputs // conv.groups * width


def separate(conv: Spatial, rank: int, moments: Moments | None = None) -> nn.Sequential:
    """The pair of convolutions of that rank (in each group) that is closest to the kernel, norms shared evenly by each
    rank.

    Args:
        moments: of what the layer reads; the outputs, rather than the kernel, are then made close.
    """
    outputs, channels, height, width = kernel_of(conv).shape
    first, second, shift = _vertical_and_horizontal(conv, rank, moments)  # (g, C H, R), (g, O, R, W)
    balance = (first.norm(dim=1) / second.norm(dim=(1, 3)).clamp(min=1e-300)).sqrt().clamp(min=1e-150)
    first, second = first / balance[:, None], second * balance[:, None, :, None]
    groups = conv.groups
    return factorized_layer(
        conv,
        convolution(conv, first.mT.reshape(groups * rank, channels, height, 1), axes=(0,), groups=groups),
        convolution(
            conv, second.reshape(outputs, rank, 1, width), axes=(1,), groups=groups, bias=shifted_bias(conv, shift)
        ),
    )


def _vertical_and_horizontal(conv: Spatial, rank: int, moments: Moments | None) -> tuple[Tensor, Tensor, Tensor | None]:
    kernel = kernel_of(conv)
    matrix = unfolded(kernel, conv.groups).double()
    plain, width = singular_factors(matrix)[0][..., :rank], kernel.shape[3]
    if moments is None:
        return plain, _horizontal(plain, matrix, width), None
    kernel_gOCHW = kernel.double().unflatten(0, (conv.groups, -1))
    fits = []
    for first in (plain, _weighted_axes(kernel_gOCHW, matrix, moments, rank)):
        fits.append(
            (first, _refit(kernel_gOCHW, first, _horizontal(first, matrix, width), moments, conv.bias is not None))
        )
    first, tail = min(fits, key=lambda fit: fit[1].error)
    return first, tail.kernel.unflatten(2, (rank, width)), tail.shift


def _horizontal(first: Tensor, matrix: Tensor, width: int) -> Tensor:
    """The horizontal filters (g, O, R, W) that are closest to the kernel, given orthonormal vertical ones."""
    filters: Tensor = (first.mT @ matrix).unflatten(2, (-1, width)).transpose(1, 2)
    return filters


def _weighted_axes(kernel_gOCHW: Tensor, matrix: Tensor, moments: Moments, rank: int) -> Tensor:
    """Orthonormal vertical filters (g, C H, R) that span the leading terms of the SVD weighted along (C H) and W."""
    _, filters, channels, height, width = kernel_gOCHW.shape
    patch = (channels * height, width)
    second = moments.second.unflatten(2, patch).unflatten(1, patch)
    along_rows, along_columns = second.diagonal(dim1=2, dim2=4).sum(-1), second.diagonal(dim1=1, dim2=3).sum(-1)
    values, axes = torch.linalg.eigh(along_columns)
    root = (axes * values.clamp(min=0).sqrt()[:, None]) @ axes.mT  # (g, W, W)
    weighted = (matrix.unflatten(2, (filters, width)) @ root[:, None]).flatten(2)
    (right,) = principal_axes(weighted.mT @ along_rows @ weighted)
    orthonormal: Tensor = torch.linalg.qr(weighted @ right[..., :rank]).Q
    return orthonormal


def _refit(kernel_gOCHW: Tensor, first: Tensor, second: Tensor, moments: Moments, intercept: bool) -> Tail:
    columns = first.unflatten(1, kernel_gOCHW.shape[2:4])

    def reduce(patches_gnCHW: Tensor) -> Tensor:
        return torch.einsum("gnchw,gchr->gnrw", patches_gnCHW, columns)

    return least_squares_tail(kernel_gOCHW, second, moments, reduce, intercept=intercept)
