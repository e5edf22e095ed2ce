"""What every layer that stands in for a convolution shares: its geometry, its padding, and the way back to dense."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd

from sconv_search.layer_kinds import layer_kind, obstacle


def padding_pairs(conv: _ConvNd) -> list[int]:
    """The convolution's padding as ``F.pad`` wants it: (before, after) from the last axis to the first."""
    pairs: list[int] = []
    for axis in reversed(range(len(conv.kernel_size))):
        if conv.padding_mode != "zeros":  # what torch pads by then, also where an attribute was set later
            before = 2 * (len(conv.kernel_size) - 1 - axis)
            pairs += [int(size) for size in conv._reversed_padding_repeated_twice[before : before + 2]]
        elif conv.padding == "valid":
            pairs += [0, 0]
        elif conv.padding == "same":
            total = conv.dilation[axis] * (conv.kernel_size[axis] - 1)
            pairs += [total // 2, total - total // 2]
        else:
            pairs += [int(conv.padding[axis])] * 2
    return pairs


def require_kind(layer: nn.Module, kind: type[nn.Module], title: str) -> None:
    """Refuses a layer of another kind than what stands in for it is made from.

    Raises:
        TypeError: the layer's class is given, and what else speaks against it.
    """
    if layer_kind(layer) is not kind:
        reason = obstacle(layer) if isinstance(layer, kind) else f"got {type(layer).__name__}"
        raise TypeError(f"{title} is made from {kind.__name__}, {reason}")


class ReplacedConv(nn.Module):
    """Keeps the geometry of a dense convolution whose function another form computes.

    Args:
        conv: the dense layer; its bias is copied, its kernel is not read.

    Raises:
        TypeError: conv is not of the kind that ``dense_type`` names.
    """

    dense_type: ClassVar[type[_ConvNd]]
    if TYPE_CHECKING:  # TorchScript cannot read these
        weight: Tensor
        bias: Tensor | None

    def __init__(self, conv: _ConvNd) -> None:
        super().__init__()
        require_kind(conv, self.dense_type, type(self).__name__)
        self.in_channels, self.out_channels, self.groups = conv.in_channels, conv.out_channels, conv.groups
        self.kernel_size, self.stride, self.dilation = conv.kernel_size, conv.stride, conv.dilation
        self.padding, self.padding_mode = conv.padding, conv.padding_mode
        self._pads = padding_pairs(conv)
        self.bias = None if conv.bias is None else nn.Parameter(conv.bias.detach().clone())

    def dense_kernel(self) -> Tensor:
        """The kernel (O, C, N...) of the dense convolution that computes the same."""
        raise NotImplementedError(f"{type(self).__name__} must say its dense kernel")

    def to_dense(self) -> _ConvNd:
        """The ordinary convolution that computes the same."""
        geometry: dict[str, Any] = {
            name: getattr(self, name)
            for name in (
                *("in_channels", "out_channels", "kernel_size", "stride"),
                *("padding", "dilation", "groups", "padding_mode"),
            )
        }
        kernel = self.dense_kernel().detach()
        conv = self.dense_type(**geometry, bias=self.bias is not None, device=kernel.device, dtype=kernel.dtype)
        with torch.no_grad():
            conv.weight.copy_(kernel)
            if self.bias is not None and conv.bias is not None:
                conv.bias.copy_(self.bias)
        return conv.train(self.training)

    def padded(self, x: Tensor) -> Tensor:
        """The input with this layer's padding around it."""
        mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
        return F.pad(x, self._pads, mode=mode) if any(self._pads) else x

    def extra_repr(self) -> str:
        """Geometry, for ``print(network)``."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, dilation={self.dilation}, groups={self.groups}, "
            f"bias={self.bias is not None}, padding_mode={self.padding_mode!r}"
        )
