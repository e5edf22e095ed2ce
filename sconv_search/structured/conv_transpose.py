"""Structured transposed convolutions: sums over the input channels, then a smaller transposed convolution.

Only the channels are structured: sums over the taps of a transposed convolution would run at the larger output.

Source: Bhalgat et al., NeurIPS 2020, arXiv 2008.02454, for the pooling; its transposed use is this project's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvTransposeNd

from sconv_search.calibration.geometry import require_kind
from sconv_search.structured.projected_gradient import ProjectedLayer
from sconv_search.structured.sums.channel_pooling import NaturalChains
from sconv_search.structured.sums.eager_sums import plain
from sconv_search.structured.sums.variants import NATURAL, channel_pooling, layer_kernel
from sconv_search.system.symbolic import as_node

_GEOMETRY = (
    *("in_channels", "out_channels", "kernel_size", "stride", "padding"),
    *("output_padding", "groups", "dilation", "padding_mode"),
)


class _StructuredConvTransposeNd(ProjectedLayer):
    """Equal to a transposed convolution whose kernel is structured along the channels. Made by ``from_conv(conv,
    c=...)``.

    Args:
        conv: the dense layer whose geometry is kept; its weights are not read here.
        c: sums of the channels of one group.
        pooling: the channel sums; by default the chains of the channels in their own order.

    Raises:
        TypeError: conv is not of this layer's dense kind.
        ValueError: c is not in 1..C.
    """

    dense_type: ClassVar[type[_ConvTransposeNd]]
    summed_axis: ClassVar[int] = 0
    if TYPE_CHECKING:  # TorchScript cannot read these
        weight: Tensor
        bias: Tensor | None
        kernel_size: tuple[int, ...]
        stride: tuple[int, ...]
        padding: tuple[int, ...]
        output_padding: tuple[int, ...]
        dilation: tuple[int, ...]
        groups: int

    def __init__(self, conv: _ConvTransposeNd, *, c: int, pooling: NaturalChains | None = None) -> None:
        super().__init__()
        require_kind(conv, self.dense_type, type(self).__name__)
        channels = conv.in_channels // conv.groups
        if not 1 <= c <= channels:
            raise ValueError(f"c must be in 1..{channels} (input channels of one group), got {c}")
        for name in _GEOMETRY:
            setattr(self, name, getattr(conv, name))
        self.c = c
        self.pooling = pooling or NaturalChains(channels, c, conv.groups)
        self.weight = nn.Parameter(conv.weight.new_empty(conv.groups * c, *conv.weight.shape[1:]))
        self.bias = None if conv.bias is None else nn.Parameter(conv.bias.detach().clone())

    @classmethod
    def from_conv(
        cls, conv: _ConvTransposeNd, *, c: int, variant: str = NATURAL, reference: nn.Module | None = None
    ) -> Self:
        """The structured layer closest, in the least-squares sense, to the trained kernel (C_in, O / g, taps...).

        Args:
            variant: one of ``channel_layout.VARIANTS``.
            reference: layer of the same shape from whose weights the variant's sums are derived; else ``conv``.
        """
        cls(conv, c=c)  # refuses what is wrong before the sums are chosen
        layer = cls(conv, c=c, pooling=channel_pooling(reference or conv, c, variant))
        if conv.weight.is_meta:  # there are no values to project
            return layer.train(conv.training)
        with torch.no_grad():
            small = layer.pooling.coefficients(layer_kernel(conv).double())
            layer.weight.copy_(_inputs_first(small, conv.groups))
        return layer.train(conv.training)

    def dense_kernel(self) -> Tensor:
        """The kernel (C_in, O / g, taps...) of the dense transposed convolution that computes the same."""
        groups = self.pooling.groups
        small = self.weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
        return _inputs_first(self.pooling.kernel(small), groups)

    def to_dense(self) -> _ConvTransposeNd:
        """The ordinary transposed convolution that computes the same."""
        geometry: dict[str, Any] = {name: getattr(self, name) for name in _GEOMETRY}
        kernel = self.dense_kernel().detach()
        conv = self.dense_type(**geometry, bias=self.bias is not None, device=kernel.device, dtype=kernel.dtype)
        with torch.no_grad():
            conv.weight.copy_(kernel)
            if self.bias is not None and conv.bias is not None:
                conv.bias.copy_(self.bias)
        return conv.train(self.training)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """As the dense layer: (N, C_in, space...) -> (N, O, space...); an input without the batch axis is taken too.

        Args:
            output_size: of the spatial axes, where the stride leaves a choice; all axes may be given.
        """
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            return self._scripted(input, output_size)
        else:  # noqa: RET505  # what follows a return would be scripted
            node = as_node(self, input, output_size)
            return self._computed(input, output_size) if node is None else node

    def _scripted(self, x: Tensor, output_size: list[int] | None) -> Tensor:
        assert output_size is None, "a scripted structured layer takes no output_size"
        single = x.dim() == self.weight.dim() - 1
        pooled = self.pooling(x.unsqueeze(0) if single else x)
        result = torch.convolution(
            pooled,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.dilation,
            True,
            self.output_padding,
            self.groups,
        )
        return result.squeeze(0) if single else result

    def _computed(self, x: Tensor, output_size: list[int] | None) -> Tensor:
        if plain():
            self.project_gradient_()  # the parameter may be another one
        axes = self.weight.dim() - 2
        dense: Any = self  # it has the attributes that are read
        ends = _ConvTransposeNd._output_padding(
            dense, x, output_size, dense.stride, dense.padding, dense.kernel_size, axes, dense.dilation
        )
        pooled = self.pooling(x, x.dim() - axes - 1)
        convolve: Any = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[axes - 1]
        geometry = (self.stride, self.padding, tuple(ends), self.groups, self.dilation)
        result: Tensor = convolve(pooled, self.weight, self.bias, *geometry)
        return result

    def extra_repr(self) -> str:
        """Geometry and structure, for ``print(network)``."""
        return (
            ", ".join(f"{name}={getattr(self, name)}" for name in _GEOMETRY)
            + f", c={self.c}, bias={self.bias is not None}"
        )


def _inputs_first(kernel: Tensor, groups: int) -> Tensor:
    """(O, C, ...) as transposed convolutions keep it: (g C, O / g, ...)."""
    arranged: Tensor = kernel.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
    return arranged


class StructuredConvTranspose1d(_StructuredConvTransposeNd):
    """Channel sums, then a small ``ConvTranspose1d``."""

    dense_type = nn.ConvTranspose1d


class StructuredConvTranspose2d(_StructuredConvTransposeNd):
    """Channel sums, then a small ``ConvTranspose2d``."""

    dense_type = nn.ConvTranspose2d


class StructuredConvTranspose3d(_StructuredConvTransposeNd):
    """Channel sums, then a small ``ConvTranspose3d``."""

    dense_type = nn.ConvTranspose3d
