"""``images`` and ``masks``: any network by name on photos in a folder, as its own configuration wants them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sconv_search.data.crops import Photos
from sconv_search.data.image_folders import LAYOUT as IMAGES
from sconv_search.data.image_folders import image_folders
from sconv_search.data.imagenet import MEAN, STD
from sconv_search.data.layout import data_folder
from sconv_search.data.mask_folders import LAYOUT as MASKS
from sconv_search.data.mask_folders import mask_folders
from sconv_search.data.photo_views import require_channels
from sconv_search.data.splits import DataSet
from sconv_search.data.tables import is_table, photo_tables
from sconv_search.networks.trained import returns_trained
from sconv_search.studies.task import Task
from sconv_search.studies.user_code import NamedNetwork, network_by, with_options
from sconv_search.training.metrics import MEAN_IOU, TOP1
from sconv_search.training.schedule import Schedule

FULL = Schedule(epochs=10, batch_size=32, learning_rate=0.01)
"""A confirmation; trials and the dense network have the same but for epochs and rate."""
RESIZE = 256 / 224
"""The shorter side of a photo beside the input's, where the network's configuration does not say."""


@dataclass(frozen=True, kw_only=True)
class _Data:
    """Builds the data of a folder, for as many classes as the network tells apart."""

    kind: str
    photos: Photos
    make: Callable[[bool], nn.Module]
    has_weights: bool | None

    def expected(self) -> str:
        """Where the photos are expected, in words."""
        return MASKS if self.kind == "masks" else IMAGES

    def is_trained(self) -> bool:
        """Whether the network comes trained, said without loading its weights where its name tells."""
        return returns_trained(partial(self.make, True)) if self.has_weights is None else self.has_weights

    def __call__(self, folder: Path | None, train_was_seen: bool) -> DataSet:
        """The splits, for as many classes as the network tells apart."""
        root, logits = data_folder(folder), _logits(self.make(False), self.photos, pixels=self.kind == "masks")
        classes = max(2, logits)  # one logit tells no and yes apart
        if self.kind == "masks":
            seen, binary = train_was_seen, logits == 1
            return mask_folders(folder, train_was_seen=seen, photos=self.photos, classes=classes, binary=binary)
        read = photo_tables if root.is_dir() and is_table(root) else image_folders
        return read(root, train_was_seen=train_was_seen, photos=self.photos, classes=classes)


def folder_task(kind: str, text: str, network: str) -> Task:
    """The task of a network on photos in the folder of ``--data``.

    Args:
        kind: ``images`` for a class a photo, ``masks`` for a class a pixel.
        text: the kind with arguments: ``images?size=64&mean=0.5&std=0.25``; by default the network's own size and
            normalization, else 224 pixels and ImageNet's; ``batch`` is that of trainings, by default 32.
        network: its name.

    Raises:
        ValueError: there is no network, or an argument is unknown or does not fit.
        KeyError: the network is unknown.
    """
    if not network:
        raise ValueError(f"task {kind!r} needs a network; name one with --network, such as --network timm:resnet18")
    named, given = network_by(network), with_options(text)[1]
    photos = _photos(named, given, text)
    full = replace(FULL, batch_size=_batch(given.get("batch", FULL.batch_size), text))
    return Task(
        name=f"{text}@{network}",
        network=lambda: named.make(False),
        data=_Data(kind=kind, photos=photos, make=named.make, has_weights=named.has_weights),
        input_shape=photos.shape,
        dense_schedule=replace(full, epochs=30, learning_rate=0.05),
        search_schedule=replace(full, epochs=1, learning_rate=0.005),
        confirm_schedule=full,
        metric=MEAN_IOU if kind == "masks" else TOP1,
    )


def _photos(named: NamedNetwork, given: Mapping[str, Any], text: str) -> Photos:
    if unknown := [name for name in given if name not in ("size", "mean", "std", "batch")]:
        raise ValueError(f"task {text!r} has no argument {unknown[0]!r}; known: size, mean, std, batch")
    network = named.make(False)
    photos = named.photos(network) or Photos(size=(224, 224), resize=256, mean=MEAN, std=STD)
    channels = _channels(network)
    if channels is not None and channels != len(photos.mean):
        mean, std = ((sum(values) / len(values),) * channels for values in (photos.mean, photos.std))
        photos = replace(photos, mean=mean, std=std)
    require_channels(photos)
    if "size" in given:
        size = _numbers("size", given["size"], 2, text)
        if any(side != int(side) or side < 1 for side in size):
            raise ValueError(f"task {text!r}: size must be whole numbers above 0, as size=224 or size=256,512")
        height, width = int(size[0]), int(size[1])
        photos = replace(photos, size=(height, width), resize=max(height, width, round(min(size) * RESIZE)))
    if "mean" in given:
        photos = replace(photos, mean=_numbers("mean", given["mean"], len(photos.mean), text))
    if "std" in given:
        photos = replace(photos, std=_numbers("std", given["std"], len(photos.std), text))
    if min(photos.std) <= 0:
        raise ValueError(f"task {text!r}: std must be above 0")
    return photos


def _batch(value: Any, text: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"task {text!r}: batch must be a whole number above 0, such as batch=8; got {value!r}")
    return value


def _numbers(name: str, value: Any, count: int, text: str) -> tuple[float, ...]:
    """So many numbers, from one for all or from numbers with commas."""
    parts: Sequence[Any] = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else [value]
    try:
        numbers = tuple(float(part) for part in parts)
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) not in (1, count):
        raise ValueError(f"task {text!r}: {name} must be 1 or {count} numbers, such as {name}=0.5; got {value!r}")
    return numbers * count if len(numbers) == 1 else numbers


def _channels(network: nn.Module) -> int | None:
    """What the first convolution reads; None without one."""
    first = next((layer for layer in network.modules() if isinstance(layer, nn.modules.conv._ConvNd)), None)
    return None if first is None else first.in_channels


@torch.no_grad()
def _logits(network: nn.Module, photos: Photos, *, pixels: bool) -> int:
    """How many logits the network gives: one a class, or one for no and yes.

    Raises:
        ValueError: it gives no logits of them.
    """
    wanted = 4 if pixels else 2
    try:
        logits: Any = network.eval()(torch.zeros(1, *photos.shape))
    except Exception as error:  # of any kind: the forward is the user's own
        raise ValueError(f"{type(network).__name__} fails on an input of shape {photos.shape}: {error}") from error
    if not isinstance(logits, torch.Tensor) or logits.dim() != wanted:
        form = "(N, classes, height, width)" if pixels else "(N, classes)"
        got = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ValueError(f"{type(network).__name__} must give logits {form} for this task, gives {got}")
    return logits.shape[1]
