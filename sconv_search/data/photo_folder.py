"""A folder of photos as batches of a network's inputs, without labels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sconv_search.data.class_folders import IMAGE_SUFFIXES, Read, is_first, is_hidden, is_image
from sconv_search.data.crops import Photos
from sconv_search.data.disk import opened
from sconv_search.data.image_folders import part_folders
from sconv_search.data.photo_views import MODES, require_channels
from sconv_search.data.splits import SPLIT_SEED


class PhotoFolder:
    """Batches (N, C, H, W) of the photos of a folder, in an order that is random and always the same.

    Args:
        folder: holds photos at any depth, so in a folder for each class too; where it holds ``train/``, those there.
        photos: how they become inputs.
        batch: photos a batch.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it holds no photo, or a link to a folder above, or the network's inputs are of other channels than
            gray or color photos.
    """

    def __init__(self, folder: Path, photos: Photos, *, batch: int = 32) -> None:
        if not folder.is_dir():
            raise FileNotFoundError(f"the data folder {str(folder)!r} does not exist")
        require_channels(photos)
        root = part_folders(folder).get("train", folder)
        paths = sorted(_images(root))
        if not paths:
            kinds = ", ".join(sorted(IMAGE_SUFFIXES))
            raise ValueError(f"{str(root)!r} holds no image ({kinds}), neither in it nor in folders below")
        order = torch.randperm(len(paths), generator=torch.Generator().manual_seed(SPLIT_SEED))
        self.paths = tuple(paths[position] for position in order.tolist())
        self.photos, self.batch = photos, batch

    def __len__(self) -> int:
        return -(-len(self.paths) // self.batch)

    def __iter__(self) -> Iterator[Tensor]:
        view = _viewed(self.photos)
        for start in range(0, len(self.paths), self.batch):
            yield torch.stack([view(path) for path in self.paths[start : start + self.batch]])


def _images(root: Path) -> Iterator[Path]:
    read: Read = {}
    for place, folders, names in os.walk(root, followlinks=True):
        if not is_first(Path(place), root, read):
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not is_hidden(Path(name)))  # the walk goes on by this list
        yield from (path for name in names if is_image(path := Path(place) / name))


def _viewed(photos: Photos) -> Any:
    """The function from a file to an input (C, H, W)."""
    from torchvision.transforms import v2  # here: it takes a second

    steps = v2.Compose(
        [
            v2.Resize(photos.resize, antialias=True),
            v2.CenterCrop(list(photos.size)),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(list(photos.mean), list(photos.std)),
        ]
    )
    mode = MODES[len(photos.mean)]
    return lambda path: steps(opened(path, mode)).as_subclass(Tensor)
