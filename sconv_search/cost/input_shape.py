"""The shape of a network's input: the one that was told for networks of its architecture, else one on which it runs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence

from torch import nn
from torch.nn.modules.conv import _ConvNd

from sconv_search.compressor import layers
from sconv_search.cost.counting import require_forward
from sconv_search.system.cache import architecture

SIZES = (32, 64, 28, 12, 16, 8, 96, 128, 224, 227, 299, 1024, 16000, 256, 384, 240, 288, 320, 448, 512)
"""Lengths of each spatial axis that are tried where no shape was told, in turn."""
MOST_POSITIONS = 2**18
TOLD = 64
_TOLD: OrderedDict[Hashable, tuple[int, ...]] = OrderedDict()


def takes(network: nn.Module, input_shape: Sequence[int]) -> None:
    """Remembers the shape of one input, without the batch, of networks of this architecture."""
    key = architecture(network)
    _TOLD[key] = tuple(input_shape)
    _TOLD.move_to_end(key)
    if len(_TOLD) > TOLD:
        _TOLD.popitem(last=False)


def told_shape(network: nn.Module) -> tuple[int, ...] | None:
    """What ``takes`` was told of networks of this architecture."""
    return _TOLD.get(architecture(network))


def guessed_shape(network: nn.Module) -> tuple[int, ...] | None:
    """The first shape, without the batch, that the network runs on, of those that its first layer may read; None if it
    has no layer, or fails on all that are tried.
    """
    first = next(iter(layers(network).values()), None)
    if isinstance(first, _ConvNd):
        channels, axes = first.in_channels, len(first.kernel_size)
        shapes = [(channels, *[size] * axes) for size in SIZES if size**axes <= MOST_POSITIONS]
    else:
        shapes = [(first.in_features,)] if isinstance(first, nn.Linear) else []
    return next((shape for shape in shapes if _runs(network, shape)), None)


def _runs(network: nn.Module, shape: tuple[int, ...]) -> bool:
    try:
        require_forward(network, shape)
    except ValueError:
        return False
    return True
