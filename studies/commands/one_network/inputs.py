"""What a network reads: the shape of its inputs, and how photos become such inputs."""

from __future__ import annotations

from dataclasses import replace

from sconv_search.data.crops import Photos
from sconv_search.data.imagenet import MEAN, STD
from sconv_search.studies.commands.one_network.typed import numbers, shape_of
from sconv_search.studies.oneshot.networks import FoundNetwork
from sconv_search.studies.options.compress import OneShotNetwork

USUAL = Photos(size=(224, 224), resize=256, mean=MEAN, std=STD)
"""How photos become inputs, where the network does not say."""


def input_shape(name: str, network: FoundNetwork, typed: str | None) -> tuple[int, ...]:
    """The shape of one input, without the batch.

    Args:
        typed: what the user gave for it.

    Raises:
        ValueError: what was typed is no shape, or nothing says the shape.
    """
    if typed is not None:
        return shape_of(typed)
    if network.shape is None:
        raise ValueError(
            f"{name!r} does not say what inputs it takes; give the shape of one, such as --input 3,224,224"
        )
    return network.shape


def photos_for(source: OneShotNetwork, network: FoundNetwork, shape: tuple[int, ...]) -> tuple[Photos, tuple[str, ...]]:
    """How photos become inputs of that shape, as the network's configuration says or else as ImageNet's do; and what is
    to be said of it.

    Raises:
        ValueError: inputs are no images, or numbers that were typed do not fit.
    """
    if len(shape) != 3:
        raise ValueError(f"--data reads photos, for inputs (channels, height, width); the network's are {shape}")
    channels, size = shape[0], (shape[1], shape[2])
    known = network.photos
    notes: tuple[str, ...] = ()
    if known is None or len(known.mean) != channels:
        mean, std = (
            values if len(values) == channels else (sum(values) / len(values),) * channels for values in (MEAN, STD)
        )
        known = replace(USUAL, mean=mean, std=std)
        if source.mean is None or source.std is None:
            notes = ("photos are normalized as ImageNet's, as the network does not say how (--mean, --std)",)
    if size != known.size:
        resize = round(known.resize * min(size) / min(known.size))
        known = replace(known, size=size, resize=max(resize, *size))
    mean = known.mean if source.mean is None else numbers("--mean", source.mean, channels)
    std = known.std if source.std is None else numbers("--std", source.std, channels)
    if min(std) <= 0:
        raise ValueError(f"--std must be above 0, got {source.std!r}")
    return replace(known, mean=mean, std=std), notes
