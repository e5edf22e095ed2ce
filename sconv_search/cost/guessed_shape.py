"""An input shape that a network runs on, where nobody says one."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.conv import _ConvNd

from sconv_search.compressor import layers
from sconv_search.cost.counting import require_forward

SIZES = (32, 64, 28, 12, 16, 8, 96, 128, 224, 227, 299, 1024, 16000)
"""Lengths of each spatial axis, tried in turn."""
MOST_POSITIONS = 2**18


def guessed_shape(network: nn.Module) -> tuple[int, ...]:
    """The first shape, without the batch, that the network runs on, of those that its first layer may read.

    Raises:
        ValueError: the network has no layer, or fails on every shape tried.
    """
    first = next(iter(layers(network).values()), None)
    if first is None:
        raise ValueError("it has no convolution and no linear layer")
    channels, axes = (
        (first.in_channels, len(first.kernel_size)) if isinstance(first, _ConvNd) else (_features(first), 0)
    )
    for size in [size for size in SIZES if size**axes <= MOST_POSITIONS] if axes else [1]:
        shape = (channels, *[size] * axes)
        try:
            require_forward(network, shape)
        except ValueError as error:
            cause = error
        else:
            return shape
    raise ValueError(f"no input shape that was tried runs; the last: {cause}")


def _features(layer: nn.Module) -> int:
    assert isinstance(layer, nn.Linear)
    return layer.in_features
