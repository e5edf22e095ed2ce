"""A network's double for questions about its channels: quick to run whatever its size, with random weights of its own.

Legend: g groups, O outputs and C inputs of one group.

Which channels meet does not depend on what weights are, so a trained zero must not hide a dependency, and a product
with a whole kernel need not be computed: each layer whose channels can be pruned becomes a product of two factors over
``RANK`` channels a group. Every output still depends on every input of its group, by numbers of its own, at a
thousandth of the work.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import is_parametrized

from sconv_search.channels.cutting import TRANSPOSED, cut_, ignore_, is_depthwise, makes_channels, sizes

RANK = 3
OVERLAPPING = 2**16
"""Entries above which the random numbers of a weight that is computed in whole overlap in memory."""
POINTWISE = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class UntraceableError(ValueError):
    """Nothing can be said of the network's channels, so it has no known groups."""


class Thin:
    """What a layer of two factors computes: the first reads the inputs, the second makes the outputs."""

    def __init__(self, layer: nn.Module, generator: torch.Generator) -> None:
        self.reading, self.making = _factors(layer)
        self._whole: Tensor | None = None
        (read_shape, made_shape), like = _factor_shapes(layer), layer.weight
        assert isinstance(like, Tensor)
        fan_in = made_shape[0] if isinstance(layer, TRANSPOSED) else math.prod(made_shape[1:])
        _set_(self.reading, _drawn(read_shape, like, generator, math.prod(read_shape[1:]) ** -0.5), None)
        shift = None if layer.bias is None else _drawn((sizes(layer)[1],), like, generator, 0.1)
        _set_(self.making, _drawn(made_shape, like, generator, math.sqrt(2 / fan_in)), shift)

    def __call__(self, *args: Any, **named: Any) -> Tensor:
        """The output for the arguments of the layer's own forward."""
        x = args[0] if args else named.pop("input")
        read = type(self.reading).forward(self.reading, x)
        result: Tensor = type(self.making).forward(self.making, read, *args[1:], **named)
        return result

    def cut_(self, side: str, kept: Tensor) -> None:
        """Leaves the channels at the given positions of one side, as ``channel_cut.cut_`` does."""
        cut_(self.reading if side == "in" else self.making, side, kept)

    def ignore_(self, positions: Tensor) -> None:
        """Reads nothing from the given input channels, and everything from all others."""
        weight = self.reading.weight
        assert isinstance(weight, Tensor)
        if self._whole is None:
            self._whole = weight.detach().clone()
        weight.detach().copy_(self._whole)
        ignore_(self.reading, positions)


def _factors(layer: nn.Module) -> tuple[nn.Module, nn.Module]:
    """Two layers, without weights of their own yet, that run one after the other where the given one runs."""
    inner: Any = copy.copy(layer)
    if isinstance(layer, nn.Linear):
        outer: Any = copy.copy(layer)
        inner.out_features = outer.in_features = RANK
        return inner, outer
    assert isinstance(layer, _ConvNd)
    outer = POINTWISE[len(layer.kernel_size)](1, 1, 1)
    first, last = (outer, inner) if isinstance(layer, TRANSPOSED) else (inner, outer)
    first.in_channels, last.out_channels = layer.in_channels, layer.out_channels
    first.out_channels = last.in_channels = RANK * layer.groups
    first.groups = last.groups = layer.groups
    return first, last


def _factor_shapes(layer: nn.Module) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of the weights that read and of those that make."""
    read, made = sizes(layer)
    if not isinstance(layer, _ConvNd):
        return (RANK, read), (made, RANK)
    ones = (1,) * len(layer.kernel_size)
    if isinstance(layer, TRANSPOSED):
        return (RANK, read, *ones), (RANK, made, *layer.kernel_size)
    return (RANK * layer.groups, read // layer.groups, *layer.kernel_size), (made, RANK, *ones)


def _set_(layer: nn.Module, weight: Tensor, bias: Tensor | None) -> None:
    layer.__dict__["_parameters"] = {"weight": _parameter(weight), "bias": None if bias is None else _parameter(bias)}


def own_weights(layer: nn.Module) -> bool:
    """Whether the layer is as it was made: nothing computes its weight or bias, and its forward is its class's own."""
    weight = layer._parameters.get("weight")
    computed = bool({"weight", "bias"} & vars(layer).keys()) or is_parametrized(layer)
    computed |= weight is not None and not weight.is_floating_point()
    return not computed and not {"forward", "_conv_forward"} & vars(layer).keys()


def is_thin(layer: nn.Module) -> bool:
    """Whether two factors can take the layer's place."""
    return makes_channels(layer) and not is_depthwise(layer) and "weight" in layer._parameters and own_weights(layer)


def stand_in(network: nn.Module, dtype: torch.dtype, whole: Collection[str] = ()) -> nn.Module:
    """The double of a network or of a part of it, in evaluation mode and on the CPU; the argument is not modified.

    Equal parts have equal doubles. A layer that ``is_thin`` has a ``Thin`` as its forward, and weights without
    contents.

    Args:
        whole: layers that keep the forward of their kind and whole weights.

    Raises:
        UntraceableError: weights have no shape or no values.
    """
    generator = torch.Generator().manual_seed(0)
    thin = {name: layer for name, layer in network.named_modules() if is_thin(layer) and name not in whole}
    empty = {id(layer.weight) for layer in thin.values()}
    memo: dict[int, Any] = {}
    for name, weight in network.named_parameters():
        if is_lazy(weight):
            raise UntraceableError(f"{name!r} has no shape yet; run the network once")
        if weight.is_meta:
            raise UntraceableError(f"{name!r} has no values, it is on the device 'meta'")
        memo[id(weight)] = _parameter(_weight(name, weight, generator, dtype, empty=id(weight) in empty))
    for buffer in network.buffers():
        plain = buffer.detach().cpu().clone()
        memo[id(buffer)] = plain.to(dtype) if plain.is_floating_point() else plain
    for value in (value for module in network.modules() for value in vars(module).values()):
        if isinstance(value, Tensor) and not value.is_leaf:  # computed by a hook, which computes it anew
            memo[id(value)] = value.detach().clone()
    copied = copy.deepcopy(network, memo).eval()
    for name, module in copied.named_modules():
        if isinstance(module, _NormBase):
            module.reset_running_stats()
        if name in thin:
            module.forward = Thin(module, generator)
    return copied


def _weight(name: str, weight: Tensor, generator: torch.Generator, dtype: torch.dtype, *, empty: bool) -> Tensor:
    """Random values under which a signal neither dies nor grows."""
    if not (weight.is_floating_point() or weight.is_complex()):
        return weight.detach().cpu().clone()
    like = torch.empty((), dtype=dtype.to_complex() if weight.is_complex() else dtype)
    shape = tuple(weight.shape)
    if empty:
        return torch.full((), 0.1, dtype=like.dtype).expand(shape)
    if weight.dim() > 1:
        draw = _drawn if weight.numel() <= OVERLAPPING else _overlapping
        return draw(shape, like, generator, math.sqrt(2 / max(1, weight[0].numel())))
    drawn = _drawn(shape, like, generator, 1)
    return 0.1 * drawn if name.endswith("bias") else drawn.abs() / 2 + 0.5


def _drawn(shape: tuple[int, ...], like: Tensor, generator: torch.Generator, scale: float) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=like.dtype).mul_(scale)


def _overlapping(shape: tuple[int, ...], like: Tensor, generator: torch.Generator, scale: float) -> Tensor:
    """Random numbers, of which each row begins a few places after the one before it."""
    strides = [1]
    for step in range(len(shape) - 1):
        strides.insert(0, strides[0] * 7 + step)
    taken = 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    return _drawn((taken,), like, generator, scale).as_strided(shape, strides)


def _parameter(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor, requires_grad=False)
