"""Any photos with a class a pixel on disk: ``images/`` and ``masks/`` of equal names, in parts or in one folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from sconv_search.data.class_folders import IMAGE_SUFFIXES, Read, is_first, is_image, skipped_words
from sconv_search.data.crops import Photos
from sconv_search.data.disk import DiskSplit
from sconv_search.data.image_folders import beside_words, part_folders, repeated_words, shuffled, three_splits
from sconv_search.data.layout import data_folder
from sconv_search.data.photo_views import BORDER, PhotoAndMask
from sconv_search.data.splits import DataSet

LOOKED_AT = 16
"""Masks of each part, of which it is said where they name one class alone."""
LAYOUT = "images/NAME.jpg with masks/NAME.png, in train/, val/ and test/ or without them"


def mask_folders(
    folder: Path | None, *, train_was_seen: bool, photos: Photos, classes: int, binary: bool = False
) -> DataSet:
    """Photos whose masks have a class a pixel, below the network's number of classes; 255 is no class.

    Args:
        folder: holds ``images/`` and ``masks/``, or such folders in ``train/``, ``val/`` and ``test/``. A mask has the
            name of its photo, with a suffix of its own, and one channel.
        train_was_seen: the start weights saw all images of ``train/``.
        photos: how they become inputs; photos and masks are resized to their size as they are.
        binary: masks hold 0 for no, and 1 or 255 for yes.

    Raises:
        FileNotFoundError: a folder, or a photo's mask, is missing.
        ValueError: too few images are left, or the start weights may have seen all images.
    """
    root = data_folder(folder)
    named = part_folders(root) or {"all": root}
    skipped: list[Path] = []
    whole, mirrored = (PhotoAndMask(photos, mirrored=mirrored, binary=binary) for mirrored in (False, True))
    parts = {}
    read: Read = {}
    for name, part_folder in named.items():
        is_first(part_folder, part_folder, read)
        is_first(part_folder / "images", part_folder, read)
        images, masks = _pairs(part_folder, skipped)
        parts[name] = DiskSplit(
            files=images,
            targets=masks,
            root=part_folder,
            view=whole,
            augmentation=mirrored,
            shape=photos.shape,
            classes=classes,
        )
    train, validation, test = three_splits(root, parts, train_was_seen)
    return DataSet(
        name=root.resolve().name,
        train=shuffled(train),
        validation=validation,
        test=test,
        mean=photos.mean,
        std=photos.std,
        calibration_images=64,
        evaluation_batch=16,
        notes=(
            *skipped_words(skipped, root),
            *beside_words(root, part_folders(root)),
            *repeated_words(parts, root),
            *(() if binary else _one_class_words(parts, root)),
        ),
    )


def _one_class_words(parts: Mapping[str, DiskSplit], root: Path) -> tuple[str, ...]:
    """What is said where the first masks name one class alone, as those do that are drawn in 0 and 255."""
    masks = [path for part in parts.values() for path in part.targets[:LOOKED_AT] if isinstance(path, Path)]
    values = sorted({int(value) for path in masks for value in np.unique(np.asarray(Image.open(path)))})
    classes = [value for value in values if value != BORDER]
    if len(classes) > 1:
        return ()
    shown_values = " and ".join(map(str, values))
    return (
        f"the masks of {str(root)!r} hold {shown_values} alone ({len(masks)} were looked at), and {BORDER} is no class:"
        " there is nothing to tell apart; for no and yes write 0 and 1, or take a network with one logit",
    )


def _pairs(folder: Path, skipped: list[Path]) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    for kind in ("images", "masks"):
        if not (folder / kind).is_dir():
            raise FileNotFoundError(f"there is no {str(folder / kind)!r}; expected is {LAYOUT}")
    masks = {path.stem: path for path in sorted((folder / "masks").iterdir()) if is_image(path)}
    inside = sorted((folder / "images").iterdir())
    images = [path for path in inside if is_image(path)]
    skipped += [path for path in inside if not is_image(path)]
    if not images:
        raise ValueError(f"{str(folder / 'images')!r} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))})")
    if lost := [path.name for path in images if path.stem not in masks]:
        raise FileNotFoundError(
            f"{len(lost)} of {len(images)} photos in {str(folder / 'images')!r} have no mask of their name in masks/:"
            f" {', '.join(lost[:3])}"
        )
    return tuple(images), tuple(masks[path.stem] for path in images)
