"""Structured layers: a sum-pooling followed by a smaller convolution or linear layer.

Legend: O filters, C input channels of one group, N taps along a spatial axis; (c, n) the structure, 1 <= c <= C and
1 <= n <= N. An axis of fewer than n taps keeps all of its own.

The trained parameter ``weight`` is the small kernel in the chain basis along the channels (see ``structure``) and in the
box basis along space; ``alpha`` gives it in the paper's box basis.

Source: Bhalgat et al., Structured Convolutions for Efficient Neural Network Design, NeurIPS 2020, arXiv 2008.02454.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd

from sconv_search import structure
from sconv_search.pooling import pool_channels, pool_grouped_channels, pool_space
from sconv_search.replaced_conv import ReplacedConv


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


def channel_coefficients(w: Tensor, count: int) -> Tensor:
    """The kernel with its channels (axis 1) in the form that the layers run: chain basis, or unchanged if all are kept."""
    return w if count == w.shape[1] else structure.chain_coefficients(w, 1, count)


def channel_kernel(coefficients: Tensor, channels: int) -> Tensor:
    """Undoes ``channel_coefficients``: axis 1 grows back to ``channels``."""
    return coefficients if coefficients.shape[1] == channels else structure.compose_chains(coefficients, 1, channels)


class _StructuredConvNd(ReplacedConv):
    """Equal to a convolution whose kernel is structured; computed as channel sums, spatial sums, then a small kernel.

    Args:
        conv: the dense layer whose geometry (channels, kernel, stride, padding, dilation, groups, padding mode) is kept.
            Its weights are not read here; ``from_conv`` projects them.
        c: boxes along the channels of one group.
        n: boxes along each spatial axis.

    Raises:
        TypeError: conv is not of this layer's dense kind.
        ValueError: c or n is out of range.
    """

    def __init__(self, conv: _ConvNd, *, c: int, n: int) -> None:
        super().__init__(conv)
        self.c, self.n = c, n
        self._counts = kernel_counts(tuple(conv.kernel_size), conv.weight.shape[1], c, n)
        self._boxes = tuple(taps - count + 1 for taps, count in zip(conv.kernel_size, self._counts[1:], strict=True))
        self.weight = nn.Parameter(conv.weight.new_empty(conv.out_channels, *self._counts))

    @classmethod
    def from_conv(cls, conv: _ConvNd, *, c: int, n: int) -> Self:
        """The structured layer whose kernel is the closest to the trained one's, (O, C, N...), in the least-squares sense.

        Raises:
            TypeError: conv is not of this layer's dense kind.
            ValueError: c is not in 1..C or n not in 1..N.
        """
        layer = cls(conv, c=c, n=n)
        with torch.no_grad():
            w = channel_coefficients(conv.weight.double(), layer._counts[0])
            for dim, count in enumerate(layer._counts[1:], start=2):
                w = structure.box_coefficients(w, dim, count)
            layer.weight.copy_(w)
        return layer.train(conv.training)

    @property
    def alpha(self) -> Tensor:
        """The small kernel (O, c, n...) in the paper's box basis."""
        return self.weight if not self._pools_channels else structure.from_chain_basis(self.weight, 1)

    @property
    def _pools_channels(self) -> bool:
        return self._counts[0] < self.in_channels // self.groups

    def dense_kernel(self) -> Tensor:
        """The structured kernel (O, C, N...) that this layer applies."""
        w: Tensor = self.weight
        for dim, taps in enumerate(self.kernel_size, start=2):
            w = structure.compose_axis(w, dim, taps)
        return channel_kernel(w, self.in_channels // self.groups)

    def forward(self, x: Tensor) -> Tensor:
        """As the dense convolution: (N, C_in, space...) -> (N, O, space...); an input without the batch axis is taken too."""
        if x.dim() == self.weight.dim() - 1:
            return self.forward(x.unsqueeze(0)).squeeze(0)
        stride = self.stride
        if all(taps == 1 for taps in self.kernel_size) and not any(self._pads):
            x, stride = self._strided(x), (1,) * len(stride)  # a pointwise layer pools only the positions that it reads
        wide = self._accumulates_wide(x)
        pooled = pool_grouped_channels(x.float() if wide else x, self.groups, self._counts[0])
        pooled, padding = self._pooled_in_space(pooled)
        return self._convolve(pooled.to(x.dtype) if wide else pooled, padding, stride)

    def _accumulates_wide(self, x: Tensor) -> bool:
        """Spatial sums of fp16/bf16 inputs run in fp32: rounded once, the layer's error stays near the dense layer's."""
        return x.dtype in (torch.float16, torch.bfloat16) and any(box > 1 for box in self._boxes)

    def _strided(self, x: Tensor) -> Tensor:
        for axis, step in enumerate(self.stride, start=2):
            x = x[(slice(None),) * axis + (slice(None, None, step),)] if step > 1 else x
        return x

    def _pooled_in_space(self, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """Padded and pooled input, and the padding that is left for the small convolution to do."""
        symmetric = self._pads[0::2] == self._pads[1::2]
        if all(box == 1 for box in self._boxes) and self.padding_mode == "zeros" and symmetric:
            return x, tuple(reversed(self._pads[0::2]))
        return pool_space(self.padded(x), self._boxes, self.dilation), (0,) * len(self._boxes)

    def _convolve(self, x: Tensor, padding: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
        convolve: Any = (F.conv1d, F.conv2d, F.conv3d)[len(stride) - 1]
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


class StructuredLinear(nn.Module):
    """Sums of input features, then a smaller linear layer; made by ``from_linear``.

    Args:
        linear: the dense layer whose sizes are kept; its weights are not read here.
        c: boxes along the input features.

    Raises:
        TypeError: linear is not an ``nn.Linear``.
        ValueError: c is not in 1..in_features.
    """

    def __init__(self, linear: nn.Linear, *, c: int) -> None:
        super().__init__()
        if type(linear) is not nn.Linear:
            raise TypeError(f"StructuredLinear is made from Linear, got {type(linear).__name__}")
        if not 1 <= c <= linear.in_features:
            raise ValueError(f"c must be in 1..{linear.in_features} (input features), got {c}")
        self.in_features, self.out_features, self.c = linear.in_features, linear.out_features, c
        self.weight = nn.Parameter(linear.weight.new_empty(linear.out_features, c))
        self.bias = None if linear.bias is None else nn.Parameter(linear.bias.detach().clone())

    @classmethod
    def from_linear(cls, linear: nn.Linear, *, c: int) -> Self:
        """The structured layer closest, in the least-squares sense, to the trained (out_features, in_features) weight."""
        layer = cls(linear, c=c)
        with torch.no_grad():
            layer.weight.copy_(channel_coefficients(linear.weight.double(), c))
        return layer.train(linear.training)

    @property
    def alpha(self) -> Tensor:
        """The small weight (out_features, c) in the paper's box basis."""
        return self.weight if self.c == self.in_features else structure.from_chain_basis(self.weight, 1)

    def dense_kernel(self) -> Tensor:
        """The structured weight (out_features, in_features) that this layer applies."""
        return channel_kernel(self.weight, self.in_features)

    def to_dense(self) -> nn.Linear:
        """The ordinary linear layer that computes the same."""
        options: dict[str, Any] = {"device": self.weight.device, "dtype": self.weight.dtype}
        linear = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None, **options)
        with torch.no_grad():
            linear.weight.copy_(self.dense_kernel())
            if self.bias is not None:
                linear.bias.copy_(self.bias)
        return linear.train(self.training)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        return F.linear(pool_channels(x, x.dim() - 1, self.c), self.weight, self.bias)

    def extra_repr(self) -> str:
        """Sizes and structure, for ``print(network)``."""
        return f"{self.in_features}, {self.out_features}, c={self.c}, bias={self.bias is not None}"
