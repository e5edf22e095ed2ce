"""The ways in which a structured layer can be computed; which is fastest depends on sizes, device and runtime.

Each is made of ordinary modules, so that it exports, compiles and quantizes. The sums over channels are slices (as the
layer itself makes them), slices of sorted channels, or a 1x1 convolution by the matrix of the sums; the sums over space
are slices, an average pooling, whose divisor the small kernel takes up, or a depthwise convolution by ones. Both at
once are a convolution over blocks of sorted channels, and on a GPU one kernel of our own. The last is the dense layer.

Legend: g groups, C input channels and c sums of one group, O filters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from sconv_search.inference.block_sums import block_sums
from sconv_search.inference.fused_sums import FusedSums, fusible
from sconv_search.inference.sorted_sums import Gather, sorted_sums
from sconv_search.structured.conv import StructuredConv1d, StructuredConv2d, StructuredConv3d
from sconv_search.structured.kinds import STRUCTURED
from sconv_search.structured.linear import StructuredLinear
from sconv_search.structured.sums.channel_pooling import NaturalChains
from sconv_search.structured.sums.spatial_pooling import pool_space

AS_TRAINED, DENSE = "as trained", "dense"
SLICES, BY_WRITER, ONE_KERNEL = "slices", "sorted by the layer before", "one kernel"
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
AVERAGES = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
StructuredConv = StructuredConv1d | StructuredConv2d | StructuredConv3d


@dataclass(frozen=True, kw_only=True)
class Implementation:
    """A module that does what a layer does.

    Args:
        order: (C,) position -> channel: how it wants its input's channels; None as the layer reads them.
    """

    module: nn.Module
    order: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class _ChannelSums:
    name: str
    modules: tuple[nn.Module, ...]
    weight: Tensor
    order: Tensor | None = None


class SpaceSums(nn.Module):
    """Padding, then sums over boxes as additions of slices."""

    def __init__(self, layer: StructuredConv) -> None:
        super().__init__()
        self.boxes, self.dilation, self.pads = list(layer._boxes), list(layer.dilation), list(layer._pads)
        self.mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, space...) -> (N, C, space...); 16-bit inputs are summed in fp32."""
        dtype = x.dtype
        x = x.float() if dtype in (torch.float16, torch.bfloat16) else x
        x = F.pad(x, self.pads, mode=self.mode) if any(self.pads) else x
        return pool_space(x, self.boxes, self.dilation).to(dtype)

    def extra_repr(self) -> str:
        """Sizes, for ``print(network)``."""
        return f"boxes={self.boxes}, padding={self.pads}, dilation={self.dilation}"


def implementations(layer: nn.Module, x: Tensor, *, sortable: bool = False) -> dict[str, Implementation]:
    """The layer's implementations by name, itself first and its dense equivalent last.

    Args:
        layer: a structured or composite layer.
        x: what it reads in use.
        sortable: whether the channels of its input can be had in any order; else some implementations gather them.

    Raises:
        TypeError: the layer has no dense equivalent that is known.
    """
    if type(layer) not in STRUCTURED:
        raise TypeError(
            f"implementations are known of {', '.join(k.__name__ for k in STRUCTURED)}, got {type(layer).__name__}"
        )
    forms = {AS_TRAINED: Implementation(module=layer)}
    if isinstance(layer, StructuredConv):
        forms |= _of_convolution(layer, sortable) | _in_one_kernel(layer, x)
    elif isinstance(layer, StructuredLinear):
        forms |= _of_linear(layer, sortable and x.dim() == 2, x.dim() == 2)
    elif isinstance(getattr(layer, "pooling", None), NaturalChains):
        forms |= _of_transposed(layer)
    return {**forms, DENSE: Implementation(module=layer.to_dense())}  # type: ignore[operator]  # all of STRUCTURED have it


def _of_convolution(layer: StructuredConv, sortable: bool) -> dict[str, Implementation]:
    forms = {}
    for sums in _channel_sums(layer.pooling, layer.weight.detach(), sortable, stride=_early_stride(layer)):
        stride = (1,) * len(layer.stride) if sums.name == "1x1" and _early_stride(layer) else layer.stride
        for name, modules, factor, padding in _space_sums(layer):
            if {sums.name, name} <= {"", SLICES}:
                continue  # as trained
            small = _convolution(
                sums.weight * factor,
                layer.bias,
                groups=layer.groups,
                stride=stride,
                padding=padding,
                dilation=layer.dilation,
            )
            both = " + ".join(part for part in (sums.name, name) if part)
            forms[both] = Implementation(module=nn.Sequential(*sums.modules, *modules, small), order=sums.order)
    return forms | _in_blocks(layer, sortable)


def _in_blocks(layer: StructuredConv, sortable: bool) -> dict[str, Implementation]:
    """All sums by one convolution over blocks of channels, where padding is by zeros and there are such blocks."""
    sums, padding = block_sums(layer.pooling), _symmetric_padding(layer)
    if sums is None or padding is None:
        return {}
    boxes, nothing = layer._boxes, (0,) * len(layer._boxes)
    early = _early_stride(layer)
    over_space = any(box > 1 for box in boxes)
    ones = sums.matrix.to(layer.weight.dtype).view(*sums.matrix.shape, *[1] * len(boxes)).expand(-1, -1, *boxes)
    pooled = _convolution(
        ones,
        None,
        groups=sums.blocks,
        stride=early,
        padding=padding if over_space else nothing,
        dilation=layer.dilation,
    )
    small = _convolution(
        layer.weight.detach()[:, sums.columns],
        layer.bias,
        stride=None if early else layer.stride,
        padding=nothing if over_space else padding,
        dilation=layer.dilation,
    )
    if sortable:
        return {f"{BY_WRITER} + blocks": Implementation(module=nn.Sequential(pooled, small), order=sums.order)}
    return {"sorted + blocks": Implementation(module=nn.Sequential(Gather(sums.order), pooled, small))}


def _in_one_kernel(layer: StructuredConv, x: Tensor) -> dict[str, Implementation]:
    """All sums by one kernel, where it runs on such inputs and padding is by zeros."""
    padding = _symmetric_padding(layer)
    if not fusible(x) or padding is None:
        return {}
    sums = FusedSums(layer.pooling, box=layer._boxes, padding=padding, dilation=layer.dilation)
    small = _convolution(
        layer.weight.detach(), layer.bias, groups=layer.groups, stride=layer.stride, dilation=layer.dilation
    )
    return {ONE_KERNEL: Implementation(module=nn.Sequential(sums, small))}


def _early_stride(layer: StructuredConv) -> tuple[int, ...] | None:
    """The stride, where the sums over the channels may take it: of one tap, the others' sums would not be read."""
    pointwise = all(taps == 1 for taps in layer.kernel_size) and not any(layer._pads)
    return layer.stride if pointwise and any(step > 1 for step in layer.stride) else None


def _of_linear(layer: StructuredLinear, sortable: bool, gatherable: bool) -> dict[str, Implementation]:
    forms = {}
    for sums in _channel_sums(layer.pooling, layer.weight.detach(), sortable, linear=True):
        if sums.name not in ("", SLICES) and (gatherable or sums.name == "1x1"):
            forms[sums.name] = Implementation(
                module=nn.Sequential(*sums.modules, _linear(sums.weight, layer.bias)), order=sums.order
            )
    return forms


def _of_transposed(layer: nn.Module) -> dict[str, Implementation]:
    pooling: Any = layer.pooling
    if pooling.count == pooling.channels:
        return {}
    small: Any = layer.to_dense()  # type: ignore[operator]  # for its geometry
    geometry = {name: getattr(small, name) for name in ("stride", "padding", "output_padding", "groups", "dilation")}
    weight: Any = layer.weight
    sizes = (pooling.groups * pooling.count, small.out_channels, small.kernel_size)
    made = type(small)(*sizes, **geometry, bias=small.bias is not None, device=weight.device, dtype=weight.dtype)
    _fill_(made, weight.detach(), small.bias)
    return {"1x1": Implementation(module=nn.Sequential(_product(pooling, weight, weight.dim() - 2), made))}


def _channel_sums(
    pooling: NaturalChains,
    weight: Tensor,
    sortable: bool,
    *,
    stride: tuple[int, ...] | None = None,
    linear: bool = False,
) -> Iterator[_ChannelSums]:
    """The ways of summing channels, with the small kernel that belongs to each."""
    if pooling.count == pooling.channels:
        yield _ChannelSums(name="", modules=(), weight=weight)
        return
    if stride is None:
        yield _ChannelSums(name=SLICES, modules=(pooling,), weight=weight)
        if (sums := sorted_sums(pooling)) is not None:
            gather = () if sortable else (Gather(sums.order),)
            order = sums.order if sortable else None
            name = BY_WRITER if sortable else "sorted"
            yield _ChannelSums(name=name, modules=(*gather, *sums.sums), weight=weight[:, sums.columns], order=order)
    yield _ChannelSums(
        name="1x1", modules=(_product(pooling, weight, 0 if linear else weight.dim() - 2, stride),), weight=weight
    )


def _product(pooling: NaturalChains, like: Tensor, axes: int, stride: tuple[int, ...] | None = None) -> nn.Module:
    """The channel sums as a convolution by a matrix of 0, 1 and -1; as a linear layer where there are no spatial
    axes.
    """
    channels, count = pooling.channels, pooling.count
    pooled = pooling(torch.eye(pooling.groups * channels, device=like.device, dtype=like.dtype))
    blocks = [pooled[i * channels : (i + 1) * channels, i * count : (i + 1) * count].T for i in range(pooling.groups)]
    matrix = torch.cat(blocks)
    if not axes:
        return _linear(matrix, None)
    return _convolution(
        matrix.reshape(*matrix.shape, *[1] * axes), None, groups=pooling.groups, stride=stride or (1,) * axes
    )


def _space_sums(layer: StructuredConv) -> Iterator[tuple[str, tuple[nn.Module, ...], float, tuple[int, ...]]]:
    """Name, modules, factor on the small kernel, and the padding that is left to the small convolution."""
    boxes, padding, axes = layer._boxes, _symmetric_padding(layer), len(layer._boxes)
    nothing = (0,) * axes
    if all(box == 1 for box in boxes) and padding is not None:
        yield "", (), 1.0, padding
        return
    yield SLICES, (SpaceSums(layer),), 1.0, nothing
    if padding is None:
        return
    if all(gap == 1 for gap in layer.dilation):
        fits = all(2 * pad <= box for pad, box in zip(padding, boxes, strict=True))  # AvgPool's own limit
        if fits:
            yield "average", (AVERAGES[axes - 1](boxes, 1, padding),), float(math.prod(boxes)), nothing  # type: ignore[arg-type]
    sums = layer.groups * layer.c
    ones = torch.ones(sums, 1, *boxes, device=layer.weight.device, dtype=layer.weight.dtype)
    depthwise = _convolution(ones, None, groups=sums, padding=padding, dilation=layer.dilation)
    yield "depthwise", (depthwise,), 1.0, nothing


def _symmetric_padding(layer: StructuredConv) -> tuple[int, ...] | None:
    """By axis, where padding is by zeros and the same at both ends."""
    pads = layer._pads
    symmetric = layer.padding_mode == "zeros" and pads[0::2] == pads[1::2]
    return tuple(reversed(pads[0::2])) if symmetric else None


def _convolution(
    weight: Tensor,
    bias: Tensor | None,
    *,
    groups: int = 1,
    stride: Sequence[int] | None = None,
    padding: Sequence[int] | None = None,
    dilation: Sequence[int] | None = None,
) -> _ConvNd:
    axes = weight.dim() - 2
    geometry: dict[str, Any] = {
        "kernel_size": tuple(weight.shape[2:]),
        "stride": tuple(stride or (1,) * axes),
        "padding": tuple(padding or (0,) * axes),
        "dilation": tuple(dilation or (1,) * axes),
    }
    made = CONVOLUTIONS[axes - 1](
        weight.shape[1] * groups,
        weight.shape[0],
        groups=groups,
        bias=bias is not None,
        device=weight.device,
        dtype=weight.dtype,
        **geometry,
    )
    _fill_(made, weight, bias)
    return made


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device=weight.device, dtype=weight.dtype)
    _fill_(made, weight, bias)
    return made


def _fill_(layer: _ConvNd | _ConvTransposeNd | nn.Linear, weight: Tensor, bias: Tensor | None) -> None:
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None and layer.bias is not None:
            layer.bias.copy_(bias)
    layer.eval().requires_grad_(False)
