"""Any labeled photos on disk: a folder for each class, in ``train/`` ``val/`` ``test/`` or in one folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch

from sconv_search.data.class_folders import ClassFolders, class_folders, skipped_words
from sconv_search.data.crops import Photos
from sconv_search.data.disk import DiskSplit
from sconv_search.data.layout import data_folder
from sconv_search.data.photo_views import RandomPart, WholePhoto
from sconv_search.data.splits import SPLIT_SEED, DataSet, Images, differing_names

PARTS: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""Part -> the folders that it may be called."""
HELD_OUT = 0.1
"""Share of the images that is held out for validation, or for the test, where the data has no such part."""
LAYOUT = "train/CLASS/*, val/CLASS/* and test/CLASS/* (val or test may be missing), or CLASS/* alone"
Part = TypeVar("Part", bound=Images)


def image_folders(folder: Path | None, *, train_was_seen: bool, photos: Photos, classes: int) -> DataSet:
    """Photos in a folder for each class, of which the network tells so many apart.

    Args:
        folder: holds ``train/``, ``val/`` (or ``valid/``, ``validation/``) and ``test/`` with a folder for each class,
            or the classes' folders themselves, which then are split by a fixed seed.
        train_was_seen: the start weights saw all images of ``train/``.
        photos: how they become inputs.

    Raises:
        FileNotFoundError: the folder is missing.
        ValueError: the classes are not those of the network or differ between parts, too few images are left, or the
            start weights may have seen all images.
    """
    root = data_folder(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"the data folder {str(root)!r} does not exist; expected is {LAYOUT}")
    named = part_folders(root)
    read = {name: class_folders(place) for name, place in named.items()} or {"all": class_folders(root)}
    _require_classes(root, {name: part.names for name, part in read.items()}, classes)
    views = WholePhoto(photos), RandomPart(photos)
    parts = {name: _split(named.get(name, root), part, views, photos, classes) for name, part in read.items()}
    train, validation, test = three_splits(root, parts, train_was_seen)
    return DataSet(
        name=root.resolve().name,
        train=shuffled(train),
        validation=validation,
        test=test,
        mean=photos.mean,
        std=photos.std,
        flip=True,
        evaluation_batch=100,
        notes=skipped_words([path for part in read.values() for path in part.skipped], root),
    )


def part_folders(root: Path) -> dict[str, Path]:
    """The folders of the parts that there are; none where the root holds the images of all."""
    named = {part: next((root / n for n in names if (root / n).is_dir()), None) for part, names in PARTS.items()}
    return {part: path for part, path in named.items() if path is not None}


def three_splits(root: Path, parts: Mapping[str, DiskSplit], train_was_seen: bool) -> list[DiskSplit]:
    """Training, validation and test images; parts that are missing are held out of others, by a fixed seed.

    No score comes from images that the start weights may have seen.

    Raises:
        ValueError: there is no part for training, or none that is unseen.
    """
    parts = dict(parts)
    whole = parts.pop("all", None)
    if whole is not None:
        if train_was_seen:
            raise ValueError(
                f"{str(root)!r} does not say which images the network was trained on; put those into train/, and others"
                " into val/ or test/, from which scores come"
            )
        validation, rest = cut(whole, HELD_OUT, root)
        test, train = cut(rest, HELD_OUT / (1 - HELD_OUT), root)
        return [train, validation, test]
    if "train" not in parts or (len(parts) == 1 and train_was_seen):
        lacking = "train" if "train" not in parts else "val or test"
        raise ValueError(f"{str(root)!r} holds {', '.join(parts)} and no {lacking}; expected is {LAYOUT}")
    train, unseen = parts["train"], [parts[name] for name in ("val", "test") if name in parts]
    if len(unseen) == 2:
        return [train, *unseen]
    if unseen and train_was_seen:
        return [train, *cut(unseen[0], 0.5, root)]
    validation, train = cut(train, HELD_OUT, root)
    if unseen:
        return [train, validation, unseen[0]]
    test, train = cut(train, HELD_OUT, root)
    return [train, validation, test]


def cut(split: DiskSplit, share: float, root: Path) -> tuple[DiskSplit, DiskSplit]:
    """So much of a split, drawn by a fixed seed, and the rest.

    Raises:
        ValueError: one of both is empty.
    """
    order, first = _order(split), max(1, round(share * len(split)))
    if first >= len(split):
        raise ValueError(f"{str(root)!r} holds too few images to hold some out for scores: {len(split)} in one part")
    return split.some(order[:first]), split.some(order[first:])


def shuffled(split: DiskSplit) -> DiskSplit:
    """The split in a fixed random order, so that its first images, which methods are fitted to, are of many classes."""
    return split.some(_order(split))


def _order(split: DiskSplit) -> torch.Tensor:
    return torch.randperm(len(split), generator=torch.Generator().manual_seed(SPLIT_SEED))


def _split(
    root: Path, part: ClassFolders, views: tuple[WholePhoto, RandomPart], photos: Photos, classes: int
) -> DiskSplit:
    return DiskSplit(
        files=part.files,
        targets=part.labels,
        root=root,
        view=views[0],
        augmentation=views[1],
        shape=photos.shape,
        classes=classes,
        class_names=part.names,
    )


def _require_classes(root: Path, names: Mapping[str, Sequence[str]], classes: int) -> None:
    if len({tuple(own) for own in names.values()}) > 1:
        raise ValueError(f"{str(root)!r} has other classes (folders) in its parts: {differing_names(names)}")
    count = len(next(iter(names.values())))
    if count != classes:
        raise ValueError(
            f"{str(root)!r} holds {count} classes (folders), and the network tells {classes} apart; give a network of"
            f" as many, such as timm:resnet18?num_classes={count}"
        )
