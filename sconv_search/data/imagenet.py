"""ImageNet on disk: a folder for each class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sconv_search.data.class_folders import ClassFolders, Read, class_folders, skipped_words
from sconv_search.data.crops import Crops
from sconv_search.data.disk import DiskSplit
from sconv_search.data.layout import IMAGENET
from sconv_search.data.splits import SPLIT_SEED, DataSet, differing_names

PARTS = ("train", "val")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HELD_OUT = 0.01
"""Share of the training images that is held out for validation: 12,812 of ImageNet's."""


class CentralCrop:
    """The center of the resized image."""

    def __init__(self, crops: Crops) -> None:
        from torchvision.transforms import v2  # here: it takes a second

        side = crops.resize or round(crops.size * 256 / 224)
        self._transform: Any = v2.Compose(
            [v2.Resize(side, antialias=True), v2.CenterCrop(crops.size), v2.PILToTensor()]
        )

    def __call__(self, image: Any, label: Any) -> tuple[Tensor, Any]:
        """(PIL image, class) -> uint8 (3, size, size), class."""
        return self._transform(image), label


class RandomCrop:
    """A random part of the image, of 8 to 100 % of its area, resized; mirrored later, batch by batch, on the device."""

    def __init__(self, crops: Crops) -> None:
        from torchvision.transforms import v2

        steps: list[Any] = [v2.PILToTensor(), v2.RandomResizedCrop(crops.size, antialias=True)]
        if crops.distorted:
            steps += [v2.TrivialAugmentWide(), v2.RandomErasing(p=0.1)]
        self._transform: Any = v2.Compose(steps)

    def __call__(self, image: Any, label: Any) -> tuple[Tensor, Any]:
        """(PIL image, class) -> uint8 (3, size, size), class."""
        return self._transform(image), label


def imagenet(folder: Path | None, *, train_was_seen: bool, crops: Crops, classes: int = 1000) -> DataSet:
    """ImageNet, its classes in the order of their WordNet ids.

    Args:
        folder: holds ``train/<WordNet id>/*.JPEG`` and ``val/<WordNet id>/*.JPEG``, or a folder ``imagenet`` that does.
        train_was_seen: the start weights were trained on the training images: then validation and test are two fixed
            halves of ``val``. Otherwise a hundredth of ``train`` is held out for validation.
        classes: the number of classes that the network tells apart.

    Raises:
        FileNotFoundError: the data is missing; the expected layout is given.
        ValueError: there are more or fewer classes, ``train`` and ``val`` name others, or a file is empty or damaged.
    """
    root = IMAGENET.root(folder)
    read: Read = {}
    folders = {name: class_folders(root / name, read) for name in PARTS}
    names = {name: part.names for name, part in folders.items()}
    if len(set(names.values())) > 1:
        raise ValueError(f"{str(root)!r} has other classes (folders) in train than in val: {differing_names(names)}")
    train, test = (_part(root, name, folders[name], crops, classes) for name in PARTS)
    if train_was_seen:
        half = len(test) // 2
        validation, test = (test.some(part) for part in (_order(test)[:half], _order(test)[half:]))
        if not half:
            raise ValueError(f"{str(root / 'val')!r} holds 1 image; validation and test need one each")
    else:
        held = max(1, round(HELD_OUT * len(train)))
        validation, train = (train.some(part) for part in (_order(train)[:held], _order(train)[held:]))
    shuffled = train.some(_order(train))  # so that the first images, which methods are fitted to, are of many classes
    return DataSet(
        name="imagenet",
        train=shuffled,
        validation=validation,
        test=test,
        mean=MEAN,
        std=STD,
        flip=True,
        evaluation_batch=250,
        notes=skipped_words([path for part in folders.values() for path in part.skipped], root),
    )


def _order(split: DiskSplit) -> Tensor:
    return torch.randperm(len(split), generator=torch.Generator().manual_seed(SPLIT_SEED))


def _part(root: Path, name: str, folders: ClassFolders, crops: Crops, classes: int) -> DiskSplit:
    if len(folders.names) != classes:
        raise ValueError(f"{str(root / name)!r} holds {len(folders.names)} classes (folders); {classes} are expected")
    return DiskSplit(
        files=folders.files,
        targets=folders.labels,
        root=root,
        view=CentralCrop(crops),
        augmentation=RandomCrop(crops),
        shape=(3, crops.size, crops.size),
        classes=classes,
        class_names=folders.names,
    )
