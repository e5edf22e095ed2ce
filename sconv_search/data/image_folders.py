"""Any labeled photos on disk: a folder for each class, in ``train/`` ``val/`` ``test/`` or in one folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch

from sconv_search.data.class_folders import SHOWN, ClassFolders, Read, class_folders, is_hidden, skipped_words
from sconv_search.data.crops import Photos
from sconv_search.data.disk import KEPT_HASHES, DiskSplit, sampled
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
        ValueError: the classes are not those of the network or differ between parts, too few images are left, the
            start weights may have seen all images, two folders are one part, or links make one of two.
    """
    root = data_folder(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"the data folder {str(root)!r} does not exist; expected is {LAYOUT}")
    named = part_folders(root)
    known: Read = {}
    read = {name: class_folders(place, known) for name, place in named.items()} or {"all": class_folders(root)}
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
        notes=(
            *skipped_words([path for part in read.values() for path in part.skipped], root),
            *beside_words(root, named),
            *repeated_words(parts, root),
        ),
    )


def part_folders(root: Path) -> dict[str, Path]:
    """The folders of the parts that there are; none where the root holds the images of all.

    Capitals count as small letters, where the folder holds others: it may be the class of trains.

    Raises:
        ValueError: two folders are one part.
    """
    found: dict[str, Path] = {}
    inside = _folders(root)
    for part, names in PARTS.items():
        places = [
            path
            for path in inside
            if path.name in names or (path.name.lower() in names and any(child.is_dir() for child in path.iterdir()))
        ]
        if len(places) > 1:
            shown = " and ".join(repr(path.name) for path in places)
            raise ValueError(f"{str(root)!r} holds {shown}, which both name the part {part!r}; keep one of them")
        if places:
            found[part] = places[0]
    return found


def _folders(root: Path) -> list[Path]:
    return [path for path in sorted(root.iterdir()) if path.is_dir() and not is_hidden(path)] if root.is_dir() else []


def beside_words(root: Path, named: Mapping[str, Path]) -> tuple[str, ...]:
    """What is said of folders beside those of parts, which are not read."""
    others = [path for path in _folders(root) if path not in named.values()] if named else []
    if not others:
        return ()
    shown = ", ".join(repr(path.name) for path in others[:SHOWN]) + (" and others" if len(others) > SHOWN else "")
    known = ", ".join(name for names in PARTS.values() for name in names)
    return (f"not read in {str(root)!r}, as no part is called so: {shown} (parts are {known})",)


def repeated_words(parts: Mapping[str, DiskSplit], root: Path) -> tuple[str, ...]:
    """What is said of photos that are in two parts, whose scores then are of images that were trained on, or in two
    classes; files of equal size, beginning and end count as equal.
    """
    if sum(map(len, parts.values())) > KEPT_HASHES:
        return ()
    first: dict[tuple[int, str], tuple[str, object, Path]] = {}
    repeated: dict[str, list[tuple[Path, Path]]] = {"parts": [], "classes": []}
    for name, part in parts.items():
        for file, target in zip(part.files, part.targets, strict=True):
            label = None if isinstance(target, Path) else target
            of, own, other = first.setdefault(sampled(file), (name, label, file))
            if of != name or own != label:
                repeated["parts" if of != name else "classes"].append((other, file))
    return tuple(
        f"{len(pairs)} {'photo' if len(pairs) == 1 else 'photos'} in {str(root)!r} {'is' if len(pairs) == 1 else 'are'}"
        f" in two {kind}, such as {' and '.join(repr(path.relative_to(root).as_posix()) for path in pairs[0])}"
        for kind, pairs in repeated.items()
        if pairs
    )


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
