"""A folder of photos for networks that were trained on ImageNet: one for each class, or a few."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from sconv_search.data.class_folders import IMAGE_SUFFIXES, is_image, skipped_words
from sconv_search.data.disk import opened
from sconv_search.data.layout import PHOTOS
from sconv_search.data.splits import DataSet, Split

NAMES = "[0-9][0-9][0-9][0-9]_*"
STRIDE = 4


def photos(folder: Path | None, *, size: int, mean: float, std: float) -> DataSet:
    """Photos named ``<class, four digits>_<anything>.jpg``, or with another suffix of images, their central pixels.

    One in four, in the order of names, is for fitting and batch-norm statistics; of the rest, every other one is for
    validation and for the test. What start weights were trained on is not known, so scores serve to compare networks
    alone.

    Args:
        folder: holds the photos, or a folder ``imagenet_sample`` that does. Other files there are skipped, which is
            said.
        size: pixels a side that are taken.
        mean: of pixels scaled to 0..1, for all channels.
        std: likewise.

    Raises:
        FileNotFoundError: the photos are missing; the expected layout is given.
        ValueError: one is damaged or too small, or there are fewer than four.
    """
    root = PHOTOS.root(folder)
    inside = sorted(path for path in root.iterdir() if path.is_file())
    paths = [path for path in inside if is_image(path) and path.match(NAMES)]
    if len(paths) < STRIDE:
        raise ValueError(
            f"{str(root)!r} holds {len(paths)} photos named <class, four digits>_<anything> with a suffix of "
            f"{', '.join(sorted(IMAGE_SUFFIXES))}; at least {STRIDE} are needed"
        )
    images = torch.from_numpy(np.stack([_center(path, size) for path in paths])).movedim(-1, 1)
    files, folder_words = (
        Split(images=images, labels=torch.tensor([int(path.name[:4]) for path in paths])),
        torch.arange(len(paths)),
    )
    scored = folder_words[folder_words % STRIDE > 0]
    train, validation, test = (
        files.take(part) for part in (folder_words[folder_words % STRIDE == 0], scored[::2], scored[1::2])
    )
    return DataSet(
        name="photos",
        train=train,
        validation=validation,
        test=test,
        mean=(mean,) * 3,
        std=(std,) * 3,
        evaluation_batch=100,
        notes=skipped_words([path for path in inside if path not in set(paths)], root),
    )


def _center(path: Path, size: int) -> np.ndarray:
    """The central pixels of a photo, (size, size, 3)."""
    pixels = np.asarray(opened(path, "RGB"))
    if min(pixels.shape[:2]) < size:
        raise ValueError(
            f"photo {str(path)!r} is {pixels.shape[1]}x{pixels.shape[0]} pixels; at least {size}x{size} are needed"
        )
    top, left = ((side - size) // 2 for side in pixels.shape[:2])
    return pixels[top : top + size, left : left + size]
