"""The shape of a network's input: the one that was told for networks of its architecture, else one on which it runs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from sconv_search.copying import copied
from sconv_search.cost.counting import require_forward
from sconv_search.system.cache import architecture

SIZES = (32, 64, 28, 12, 16, 8, 96, 128, 224, 227, 299, 1024, 16000, 256, 384, 240, 288, 320, 448, 512)
"""Lengths of each spatial axis that are tried where no shape was told, in turn."""
MOST_POSITIONS = 2**18
MOST_KINDS = 4
"""Numbers of input channels that are tried: those that the first layers read."""
TOLD = 64
_TOLD: OrderedDict[Hashable, tuple[int, ...]] = OrderedDict()


def takes(network: nn.Module, input_shape: Sequence[int]) -> None:
    """Remembers the shape of one input, without the batch, of networks of this architecture."""
    key = architecture(network)
    _TOLD[key] = tuple(input_shape)
    _TOLD.move_to_end(key)
    if len(_TOLD) > TOLD:
        _TOLD.popitem(last=False)


def told_shape(same: Hashable) -> tuple[int, ...] | None:
    """What ``takes`` was told of networks of this ``architecture``."""
    return _TOLD.get(same)


def guesses(network: nn.Module) -> Iterator[tuple[int, ...]]:
    """Shapes of one input, without the batch, that the first layers could read; the likeliest come first."""
    readers: dict[tuple[int, int], None] = {}
    for layer in network.modules():
        if isinstance(layer, _ConvNd):
            readers.setdefault((len(layer.kernel_size), layer.in_channels))
        elif isinstance(layer, nn.Linear):
            readers.setdefault((0, layer.in_features))
    for axes, channels in list(readers)[:MOST_KINDS]:
        yield from ((channels, *[size] * axes) for size in (SIZES if axes else (1,)) if size**axes <= MOST_POSITIONS)


def guessed_shape(network: nn.Module) -> tuple[int, ...] | None:
    """The first of the guesses that a copy of the network runs on; None if it runs on none."""
    tried = copied(network).eval()
    with torch.random.fork_rng():
        return next((shape for shape in guesses(network) if _runs(tried, shape)), None)


def _runs(network: nn.Module, shape: tuple[int, ...]) -> bool:
    try:
        require_forward(network, shape)
    except ValueError:
        return False
    return True
