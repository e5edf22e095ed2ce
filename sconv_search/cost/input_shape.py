"""What a network is called with: what was told of networks of its architecture, else a shape on which it runs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils import _pytree as pytree

from sconv_search.copying import copied
from sconv_search.cost.counting import require_forward
from sconv_search.cost.network_inputs import Inputs, first_of, is_shape
from sconv_search.system.cache import architecture

SIZES = (32, 64, 28, 12, 16, 8, 96, 128, 224, 227, 299, 1024, 16000, 256, 384, 240, 288, 320, 448, 512)
"""Lengths of each spatial axis that are tried where no shape was told, in turn."""
MOST_POSITIONS = 2**18
MOST_KINDS = 4
"""Numbers of input channels that are tried: those that the first layers read."""
TOLD = 16
_TOLD: OrderedDict[Hashable, Inputs] = OrderedDict()


def takes(network: nn.Module, inputs: Inputs) -> None:
    """Remembers what networks of this architecture are called with, for all that has to run them."""
    key = architecture(network)
    _TOLD[key] = tuple(inputs) if is_shape(inputs) else inputs
    _TOLD.move_to_end(key)
    if len(_TOLD) > TOLD:
        _TOLD.popitem(last=False)


def learn_from(network: nn.Module, calibration: Inputs) -> None:
    """Remembers what calibration inputs (N, ...) tell, where nothing was told before, and the network runs on one."""
    tensors = [leaf for leaf in pytree.tree_leaves(calibration) if isinstance(leaf, Tensor)]
    if _TOLD.get(architecture(network)) is not None or not all(leaf.numel() for leaf in tensors):
        return
    if isinstance(calibration, Tensor) and calibration.is_floating_point():
        one: Inputs = tuple(calibration.shape[1:])
    else:
        device = next((weight.device for weight in network.parameters()), torch.device("cpu"))
        one = pytree.tree_map_only(Tensor, lambda leaf: leaf.to(device), first_of(calibration, 1))
    with torch.random.fork_rng():
        if _runs(copied(network).eval(), one):
            takes(network, one)


def told_inputs(same: Hashable) -> Inputs | None:
    """What ``takes`` was told of networks of this ``architecture``."""
    return _TOLD.get(same)


def told_shape(same: Hashable) -> tuple[int, ...] | None:
    """The shape of one input, without the batch, where that is all that ``takes`` was told; of one tensor, too."""
    told = _TOLD.get(same)
    if isinstance(told, Tensor):
        return tuple(told.shape[1:])
    return tuple(told) if told is not None and is_shape(told) else None  # type: ignore[arg-type]  # of whole numbers


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


def _runs(network: nn.Module, inputs: Inputs) -> bool:
    try:
        require_forward(network, inputs)
    except ValueError:
        return False
    return True
