"""Labeled images that stay on disk and are decoded as they are needed, by several processes."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import struct
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from sconv_search.data.shard import WHOLE, Shard
from sconv_search.data.splits import Split, named_classes
from sconv_search.system.parent_watch import end_with_parent
from sconv_search.system.seeds import seeded

MOST_WORKERS, READERS = 8, 8
READ_AT_ONCE = 256
SAMPLED = 4096
"""Bytes at each end of a file by which its content is known."""
KEPT_HASHES = 2**18
View = Callable[[Any, Any], tuple[Tensor, Any]]
"""Makes (PIL image, label), the label a class or a PIL image of classes, an uint8 tensor (C, H, W) and its label."""


@dataclass(frozen=True, kw_only=True)
class DiskSplit:
    """Images in files, all of one shape once they are viewed.

    Args:
        files: the image files.
        targets: a class for each, or a file with a class a pixel.
        root: folder against which the checksum names the files.
        view: crops as for scoring.
        augmentation: crops and distorts by random numbers of torch's default generator; its shapes may differ.
        shape: shape (C, H, W) of a viewed image.
        classes: number of classes.
        workers: processes that decode; None takes one a core, up to 8.
        device: where batches are put.
        class_names: of the classes in the order of their numbers; empty where they are not known.

    Raises:
        ValueError: there are no files, not as many targets, a class beyond the number of classes, or not as many names.
    """

    files: tuple[Path, ...]
    targets: tuple[int | Path, ...]
    root: Path
    view: View
    augmentation: View
    shape: tuple[int, ...]
    classes: int
    workers: int | None = None
    device: torch.device = torch.device("cpu")
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.files or len(self.files) != len(self.targets):
            raise ValueError(f"{len(self.files)} image files in {str(self.root)!r} have {len(self.targets)} labels")
        for file, target in zip(self.files, self.targets, strict=True):
            if not isinstance(target, Path) and target >= self.classes:
                raise ValueError(
                    f"{str(file)!r} has class {target} where there are {self.classes} classes, counted from 0"
                )
        if self.class_names and len(self.class_names) != self.classes:
            raise ValueError(f"{self.classes} classes in {str(self.root)!r} have {len(self.class_names)} names")

    def __len__(self) -> int:
        return len(self.files)

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Shape of a label: () for a class, (H, W) for a class a pixel."""
        return self.shape[1:] if isinstance(self.targets[0], Path) else ()

    def some(self, index: Tensor) -> Self:
        """The files at these positions, still on disk."""
        indices = index.tolist()
        return replace(
            self, files=tuple(self.files[i] for i in indices), targets=tuple(self.targets[i] for i in indices)
        )

    def take(self, index: Tensor) -> Split:
        """The images at these positions, in memory."""
        return next(self.batches([index]))

    def batches(
        self, index: Sequence[Tensor], seed: int | None = None, *, shard: Shard = WHOLE, start: int = 0
    ) -> Iterator[Split]:
        """The images at each of these positions in turn, decoded ahead; the same for a seed whatever the number of
        workers.
        """
        from torch.utils.data import DataLoader  # here: it takes a while, and small data sets need none

        seeds = torch.randint(2**62, (sum(map(len, index)),), generator=torch.Generator().manual_seed(seed or 0))
        numbered = list(zip(index, seeds.split(list(map(len, index))), strict=True))[start:]
        shares = [(shard.of(part).tolist(), shard.of(numbers).tolist()) for part, numbers in numbered]
        wanted = [
            [(entry, None if seed is None else number) for entry, number in zip(*batch, strict=True)]
            for batch in shares
        ]
        processes = min(_workers(self.workers), len(wanted) - 1)
        loader: Any = DataLoader(
            _Decoded(self),
            batch_sampler=wanted,
            num_workers=max(0, processes),
            collate_fn=_together,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # else it draws from the default one
            worker_init_fn=_begin,
        )
        for images, labels in loader:
            yield Split(images=images, labels=labels, class_names=self.class_names).to(self.device)

    def to(self, device: torch.device) -> Self:
        """The same files; batches are put on the device."""
        return replace(self, device=device)

    def checksum(self) -> str:
        """SHA-256 over the files' names, sizes, beginnings, ends and classes, and the classes' names; reading all of
        them might take hours.

        Raises:
            ValueError: a file is empty, or its name is not UTF-8.
        """
        digest = hashlib.sha256(named_classes(self.class_names))
        with ThreadPoolExecutor(READERS) as readers:  # a network's disk answers each after a while
            for described in readers.map(self._described, range(0, len(self.files), READ_AT_ONCE)):
                digest.update(described)
        return digest.hexdigest()

    def _described(self, start: int) -> bytes:
        pairs = zip(*(parts[start : start + READ_AT_ONCE] for parts in (self.files, self.targets)), strict=True)
        return "".join("\t".join(map(self._of_part, pair)) + "\n" for pair in pairs).encode()

    def _of_part(self, part: int | Path) -> str:
        return self._of_file(part) if isinstance(part, Path) else str(part)

    def _of_file(self, file: Path) -> str:
        name = str(file).removeprefix(str(self.root)).replace(os.sep, "/")
        try:
            name.encode()
        except UnicodeEncodeError:
            shown = os.fsencode(file).decode(errors="backslashreplace")
            raise ValueError(f"the name of the image file '{shown}' is not UTF-8; rename it") from None
        size, content = sampled(file)
        return f"{name}:{size}:{content}"

    def read(self, index: int, seed: int | None) -> tuple[Tensor, Tensor]:
        """One image with its label, viewed, or augmented by a seed.

        Raises:
            ValueError: a file cannot be decoded, holds another shape than the others, or a label that is no class.
        """
        file, target = self.files[index], self.targets[index]
        label = _label_image(target) if isinstance(target, Path) else target
        image = opened(file, "RGB")
        if seed is None:
            viewed, label = self.view(image, label)
            if tuple(viewed.shape) != self.shape:
                raise ValueError(f"{str(file)!r} is {tuple(viewed.shape)} where images of {self.shape} are expected")
        else:
            with seeded(seed):
                viewed, label = self.augmentation(image, label)
        classes = torch.as_tensor(label, dtype=torch.int64)
        if isinstance(target, Path):
            self._require_classes(target, classes, tuple(viewed.shape[1:]))
        return viewed, classes

    def _require_classes(self, file: Path, classes: Tensor, shape: tuple[int, ...]) -> None:
        """Refuses classes a pixel of another shape than the image, and those that there are not."""
        if tuple(classes.shape) != shape:
            raise ValueError(f"{str(file)!r} has labels of shape {tuple(classes.shape)} for an image of {shape}")
        if classes.numel() and (largest := int(classes.max())) >= self.classes:
            raise ValueError(f"{str(file)!r} holds class {largest}; there are {self.classes} classes, counted from 0")


def sampled(file: Path) -> tuple[int, str]:
    """A file's size and a hash of its first and last ``SAMPLED`` bytes: files of one size are told apart by them.

    Raises:
        ValueError: the file is empty.
    """
    known = file.stat()
    if not known.st_size:
        raise ValueError(f"{str(file)!r} is empty; restore it from the data set's archive")
    return known.st_size, _hash_of_ends(str(file), known.st_size, known.st_mtime_ns)


@lru_cache(KEPT_HASHES)
def _hash_of_ends(file: str, size: int, changed_ns: int) -> str:
    with open(file, "rb", buffering=0) as source:
        content = source.read(SAMPLED)
        if size > SAMPLED:
            source.seek(max(SAMPLED, size - SAMPLED))
            content += source.read(SAMPLED)
    return hashlib.blake2b(content, digest_size=16).hexdigest()


ONE_CHANNEL = ("1", "L", "P", "I", "I;16", "I;16L", "I;16B", "I;16N")
SIXTEEN_BITS = {"I;16": None, "I;16L": None, "I;16B": None, "I;16N": None, "I": ("PNG", "PPM")}
"""Modes of images with 16 bits a pixel -> the formats of which that is sure; None: of all."""


def _label_image(path: Path) -> Image.Image:
    """A file with a class a pixel.

    Raises:
        ValueError: it has several channels, such as a picture of the classes' colors.
    """
    image = opened(path, None)
    if image.mode not in ONE_CHANNEL:
        raise ValueError(f"label file {str(path)!r} is an image of mode {image.mode}; classes a pixel need one channel")
    return image


def opened(path: Path | IO[bytes], mode: str | None, *, title: str | None = None) -> Image.Image:
    """The decoded image file, upright where EXIF says how the camera was held; with a mode, 16 bits a pixel are scaled
    to 8.

    Args:
        title: how errors call the file, where it has no path.

    Raises:
        ValueError: it is missing or damaged, or has 32 bits a pixel, whose range is not known.
    """
    name = title or str(path)
    try:
        with Image.open(path) as image:
            image.load()
            _turn_upright_(image)
            return _converted(image, name, mode) if mode else image.copy()
    except (OSError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"image file {name!r} is damaged: {error}; restore it from the data set's archive") from error


def _turn_upright_(image: Image.Image) -> None:
    """Turns and mirrors an image as its EXIF orientation says; one that cannot be read says nothing."""
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except (SyntaxError, ValueError, TypeError, KeyError, IndexError, OSError, struct.error):
        return


def _converted(image: Image.Image, name: str, mode: str) -> Image.Image:
    """Pillow alone would clip 16 and 32 bits a pixel to the range of 8."""
    formats = SIXTEEN_BITS.get(image.mode, ())
    if formats is None or image.format in formats:
        pixels = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((pixels + 128) // 257).astype(np.uint8)).convert(mode)
    if image.mode in ("I", "F"):
        kind = "whole numbers of 32 bits" if image.mode == "I" else "floating-point numbers"
        raise ValueError(f"image file {name!r} holds {kind}, of unknown range; save it with 8 or 16 bits a pixel")
    return image.convert(mode)


class _Decoded(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    """What a loader's workers do."""

    def __init__(self, split: DiskSplit) -> None:
        self._split = split

    def __getitem__(self, wanted: tuple[int, int | None]) -> tuple[Tensor, Tensor]:
        return self._split.read(*wanted)


def _begin(number: int) -> None:
    """The start of a loader's worker: Ctrl-C is its parent's to handle, and it ends with that."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()


def _together(pairs: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    return torch.stack([image for image, _ in pairs]), torch.stack([label for _, label in pairs])


def _workers(wanted: int | None) -> int:
    """Loader processes to start; a daemon, as the search's own workers are, may start none."""
    if multiprocessing.current_process().daemon:
        return 0
    return min(MOST_WORKERS, len(os.sched_getaffinity(0))) if wanted is None else wanted
