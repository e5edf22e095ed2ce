"""Structured convolutions: a sum-pooling followed by a smaller convolution.

Legend: O filters, C input channels of one group, N taps along a spatial axis; (c, n) the structure, 1 <= c <= C and
1 <= n <= N. An axis of fewer than n taps keeps all of its own.

The trained parameter ``weight`` is the small kernel in the basis of the layer's channel sums (see ``channel_pooling``)
and in the box basis along space; ``alpha`` gives it in the paper's box basis. Its gradient is that of
``projected_gradient``, so that the dense network's learning rates serve.

Source: Bhalgat et al., Structured Convolutions for Efficient Neural Network Design, NeurIPS 2020, arXiv 2008.02454.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd

from sconv_search.calibration.geometry import ReplacedConv
from sconv_search.structured import kernels
from sconv_search.structured.projected_gradient import ProjectedLayer
from sconv_search.structured.sums.channel_pooling import NaturalChains
from sconv_search.structured.sums.eager_sums import as_convolved, box_products, plain, products_pay, recomputed
from sconv_search.structured.sums.spatial_pooling import pool_space
from sconv_search.structured.sums.variants import NATURAL, channel_pooling
from sconv_search.system.symbolic import as_node


def kernel_counts(kernel: tuple[int, ...], channels: int, c: int, n: int) -> tuple[int, ...]:
    """Boxes along (C, N...) for a structure (c, n).

    Raises:
        ValueError: c is not in 1..channels, or n not in 1..max(kernel).
    """
    if not 1 <= c <= channels:
        raise ValueError(f"c must be in 1..{channels} (input channels of one group), got {c}")
    if not 1 <= n <= max(kernel):
        raise ValueError(f"n must be in 1..{max(kernel)} (taps of the kernel {kernel}), got {n}")
    return (c, *(min(n, taps) for taps in kernel))


class _StructuredConvNd(ReplacedConv, ProjectedLayer):
    """Equal to a convolution whose kernel is structured; computed as channel sums, spatial sums, then a small kernel.

    Args:
        conv: the dense layer whose geometry (channels, kernel, stride, padding, dilation, groups, padding mode) is
            kept. Its weights are not read here; ``from_conv`` projects them.
        c: boxes along the channels of one group.
        n: boxes along each spatial axis.
        pooling: the channel sums; by default the chains of the channels in their own order.

    Raises:
        TypeError: conv is not of this layer's dense kind.
        ValueError: c or n is out of range.
    """

    def __init__(self, conv: _ConvNd, *, c: int, n: int, pooling: NaturalChains | None = None) -> None:
        super().__init__(conv)
        self.c, self.n = c, n
        self._counts = kernel_counts(tuple(conv.kernel_size), conv.weight.shape[1], c, n)
        self._boxes = tuple(taps - count + 1 for taps, count in zip(conv.kernel_size, self._counts[1:], strict=True))
        self.pooling = pooling or NaturalChains(conv.weight.shape[1], c, conv.groups)
        self.weight = nn.Parameter(conv.weight.new_empty(conv.out_channels, *self._counts))
        sums, dense = self.pooling.work, conv.weight[0].numel() * conv.out_channels
        self._dense_is_cheaper = sums > 0 and sums + self.weight.numel() >= dense

    def spatial_taps(self) -> Mapping[int, int]:
        """Axis of the kernel -> taps of the dense kernel along it."""
        return dict(enumerate(self.kernel_size, start=2))

    @classmethod
    def from_conv(
        cls, conv: _ConvNd, *, c: int, n: int, variant: str = NATURAL, reference: nn.Module | None = None
    ) -> Self:
        """The structured layer whose kernel is the closest to the trained one's, (O, C, N...), in the least-squares
        sense.

        Args:
            variant: one of ``channel_layout.VARIANTS``.
            reference: layer of the same shape from whose weights the variant's channel sums are derived; else ``conv``.

        Raises:
            TypeError: conv is not of this layer's dense kind.
            ValueError: c is not in 1..C or n not in 1..N.
        """
        cls(conv, c=c, n=n)  # refuses what is wrong before the sums are chosen
        layer = cls(conv, c=c, n=n, pooling=channel_pooling(reference or conv, c, variant))
        if conv.weight.is_meta:  # there are no values to project
            return layer.train(conv.training)
        with torch.no_grad():
            w = layer.pooling.coefficients(conv.weight.double())
            for dim, count in enumerate(layer._counts[1:], start=2):
                w = kernels.box_coefficients(w, dim, count)
            layer.weight.copy_(w)
        return layer.train(conv.training)

    @property
    def alpha(self) -> Tensor:
        """The small kernel (O, c, n...) in the paper's box basis; of merged channels, whose basis is theirs, the
        weight.
        """
        return self.pooling.to_boxes(self.weight)

    def dense_kernel(self) -> Tensor:
        """The structured kernel (O, C, N...) that this layer applies."""
        w: Tensor = self.weight
        for dim, taps in enumerate(self.kernel_size, start=2):
            w = kernels.compose_axis(w, dim, taps)
        return self.pooling.kernel(w)

    def pooled_patches(self, patches_gnCT: Tensor) -> Tensor:
        """What the small kernel reads of patches (g, n, C, taps...), each group's its own: (g, n, c, n...)."""
        pooled = self.pooling(patches_gnCT.transpose(0, 1).flatten(1, 2))
        pooled = pool_space(pooled, list(self._boxes), [1] * len(self._boxes))
        patches: Tensor = pooled.unflatten(1, (self.groups, -1)).transpose(0, 1)
        return patches

    def forward(self, input: Tensor) -> Tensor:
        """As the dense convolution: (N, C_in, space...) -> (N, O, space...); an input without the batch axis is taken
        too.
        """
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            return self._scripted(input)
        else:  # noqa: RET505  # what follows a return would be scripted
            node = as_node(self, input)
            return self._computed(input) if node is None else node

    def _scripted(self, x: Tensor) -> Tensor:
        """The same in TorchScript's part of Python."""
        single = x.dim() == self.weight.dim() - 1
        x = x.unsqueeze(0) if single else x
        wide = x.dtype == torch.float16 or x.dtype == torch.bfloat16
        pooled = self.pooling(x.float() if wide else x)
        pooled = F.pad(pooled, self._pads, mode="constant" if self.padding_mode == "zeros" else self.padding_mode)
        pooled = pool_space(pooled, self._boxes, self.dilation).to(x.dtype)  # type: ignore[arg-type]
        none = [0 for _ in range(x.dim() - 2)]
        result = torch.convolution(
            pooled, self.weight, self.bias, self.stride, none, self.dilation, False, none, self.groups
        )
        return result.squeeze(0) if single else result

    def _computed(self, x: Tensor) -> Tensor:
        if plain():
            self.project_gradient_()  # the parameter may be another one
        if x.dim() == self.weight.dim() - 1:
            return self._computed(x.unsqueeze(0)).squeeze(0)
        if self._dense_is_cheaper and products_pay(x):
            return self._whole(x)
        pooled, padding, stride = self._pooled(x)
        pooled = as_convolved(pooled)
        with recomputed(pooled, x, lambda given: self._pooled(given)[0]):
            return self._small(pooled, padding, stride)

    def _pooled(self, x: Tensor) -> tuple[Tensor, tuple[int, ...], tuple[int, ...]]:
        """What the small convolution reads, and the padding and stride that are left for it."""
        once = (1,) * len(self.stride)
        if all(taps == 1 for taps in self.kernel_size) and not any(self._pads):
            return self.pooling(self._strided(x)), (0,) * len(self.stride), once  # pools what is read alone
        wide = self._accumulates_wide(x)
        pooled, padding = self._pooled_in_space(self.pooling(x.float() if wide else x))
        pooled = pooled.to(x.dtype) if wide else pooled
        if all(taps == 1 for taps in self.weight.shape[2:]) and not any(padding):
            return self._strided(pooled), padding, once
        return pooled, padding, self.stride

    def _whole(self, x: Tensor) -> Tensor:
        """By the dense kernel, which eager training and scoring do where sums and small kernel take longer than that
        one.
        """
        pads = self._pads
        zeros = self.padding_mode == "zeros" and pads[0::2] == pads[1::2]
        x, padding = (x, tuple(reversed(pads[0::2]))) if zeros else (self.padded(x), (0,) * len(self.stride))
        return F.conv2d(x, self.dense_kernel(), self.bias, self.stride, padding, self.dilation, self.groups)

    def _accumulates_wide(self, x: Tensor) -> bool:
        """Spatial sums of fp16/bf16 inputs run in fp32: rounded once, the layer's error stays near the dense layer's.

        Products by ones do so by themselves.
        """
        return (
            x.dtype in (torch.float16, torch.bfloat16) and any(box > 1 for box in self._boxes) and not products_pay(x)
        )

    def _strided(self, x: Tensor) -> Tensor:
        for axis, step in enumerate(self.stride, start=2):
            x = x[(slice(None),) * axis + (slice(None, None, step),)] if step > 1 else x
        return x

    def _pooled_in_space(self, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """Padded and pooled input, and the padding that is left for the small convolution to do."""
        symmetric = self._pads[0::2] == self._pads[1::2]
        zeros = self.padding_mode == "zeros" and symmetric
        padding, nothing = tuple(reversed(self._pads[0::2])), (0,) * len(self._boxes)
        if zeros and all(box == 1 for box in self._boxes):
            return x, padding
        if zeros and products_pay(x):
            return box_products(x, self._boxes, padding, self.dilation), nothing
        return pool_space(self.padded(x), list(self._boxes), list(self.dilation)), nothing

    def _small(self, x: Tensor, padding: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
        """The small convolution.

        Of one tap, it is given the positions that it reads, and no stride: for strided ones of fewer than 8 channels in
        channels-last memory, the weight gradient of oneDNN (torch 2.15, AVX2) writes past its buffer.
        """
        convolve: Any = (F.conv1d, F.conv2d, F.conv3d)[len(padding) - 1]
        result: Tensor = convolve(x, self.weight, self.bias, stride, padding, self.dilation, self.groups)
        return result

    def extra_repr(self) -> str:
        """Geometry and structure, for ``print(network)``."""
        return f"{super().extra_repr()}, c={self.c}, n={self.n}"


class StructuredConv1d(_StructuredConvNd):
    """Sum-pooling, then a small ``Conv1d``. Made by ``from_conv(conv, c=..., n=...)``."""

    dense_type = nn.Conv1d


class StructuredConv2d(_StructuredConvNd):
    """Sum-pooling, then a small ``Conv2d``. Made by ``from_conv(conv, c=..., n=...)``."""

    dense_type = nn.Conv2d


class StructuredConv3d(_StructuredConvNd):
    """Sum-pooling, then a small ``Conv3d``. Made by ``from_conv(conv, c=..., n=...)``."""

    dense_type = nn.Conv3d
