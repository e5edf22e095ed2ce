"""Tiny data sets in the layouts of the large ones, drawn from a seed."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

COLORS = ((200, 40, 40), (40, 200, 40), (40, 40, 200), (200, 200, 40))


def image_folders(
    root: Path, *, classes: int = 4, train: int = 12, val: int = 6, size: tuple[int, int] = (40, 48)
) -> Path:
    """``train/<class>/*.JPEG`` and ``val/<class>/*.JPEG``: noise around one color a class, of differing sizes."""
    random = np.random.default_rng(0)
    for part, count in (("train", train), ("val", val)):
        for number in range(classes):
            folder = root / part / f"n{number:08d}"
            folder.mkdir(parents=True)
            for place in range(count):
                shape = (size[0] + place % 3, size[1], 3)
                pixels = np.asarray(COLORS[number % 4]) + random.integers(-30, 31, shape)
                name = folder / f"{folder.name}_{place}.JPEG"
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(name, quality=95)
    return root


ROAD, CAR, SKY, VOID = 7, 26, 23, 0
"""Label ids of Cityscapes, of which 0, 13 and 10 are the classes of the first three."""


def streets(root: Path, *, train: int = 12, val: int = 6, size: tuple[int, int] = (64, 128)) -> Path:
    """Sky over a road on which a car stands, in two cities; the lowest row is void, as the bonnet is."""
    random = np.random.default_rng(0)
    height, width = size
    for part, count in (("train", train), ("val", val)):
        for place in range(count):
            ids = np.full(size, ROAD, dtype=np.uint8)
            ids[: height // 2] = SKY
            left = int(random.integers(0, width // 2))
            ids[height // 2 : 3 * height // 4, left : left + width // 4] = CAR
            ids[-1] = VOID
            colors = {ROAD: (90, 90, 90), SKY: (120, 170, 240), CAR: (200, 30, 30), VOID: (0, 0, 0)}
            pixels = np.zeros((*size, 3))
            for number, color in colors.items():
                pixels[ids == number] = color
            pixels = (pixels + random.integers(-20, 21, pixels.shape)).clip(0, 255).astype(np.uint8)
            city = ("aachen", "bonn")[place % 2]
            for kind, suffix, picture in (("leftImg8bit", "leftImg8bit", pixels), ("gtFine", "gtFine_labelIds", ids)):
                folder = root / kind / part / city
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture).save(folder / f"{city}_{place:06d}_000019_{suffix}.png")
    return root


def photo_folder(root: Path, *, count: int = 16, size: int = 40) -> Path:
    """Photos ``0000_x.jpg`` and on, of one color a class."""
    random = np.random.default_rng(0)
    root.mkdir(parents=True)
    for number in range(count):
        pixels = np.asarray(COLORS[number % 4]) + random.integers(-30, 31, (size, size, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / f"{number:04d}_x.jpg", quality=95)
    return root


CIFAR_FILES = {
    "cifar10": (
        "cifar-10-batches-py",
        [f"data_batch_{part}" for part in range(1, 6)],
        "test_batch",
        "batches.meta",
        "",
    ),
    "cifar100": ("cifar-100-python", ["train"], "test", "meta", "fine_"),
}
"""Folder, training files, test file, file of names, and what the keys of labels begin with."""


def cifar_pickles(
    root: Path, kind: str, monkeypatch: pytest.MonkeyPatch, *, classes: int, train: int = 200, test: int = 60
) -> Path:
    """Python pickles of CIFAR-10 or CIFAR-100, of one color a class; torchvision is told to expect no checksums."""
    from torchvision import datasets

    random = np.random.default_rng(0)
    name, training, testing, names, prefix = CIFAR_FILES[kind]
    folder = root / name
    folder.mkdir(parents=True)

    def write(file: str, document: dict[str, Any]) -> None:
        (folder / file).write_bytes(pickle.dumps(document))

    for file, count in (*((file, train // len(training)) for file in training), (testing, test)):
        labels = random.integers(0, classes, count)
        colors = np.asarray(COLORS)[labels % 4][:, :, None]
        pixels = (colors + random.integers(-30, 31, (count, 3, 32 * 32))).clip(0, 255).astype(np.uint8)
        write(file, {"data": pixels.reshape(count, -1), f"{prefix}labels": labels.tolist()})
    write(names, {f"{prefix}label_names": [str(number) for number in range(classes)]})
    reader = getattr(datasets, kind.upper())
    monkeypatch.setattr(reader, "train_list", [[file, None] for file in training])
    monkeypatch.setattr(reader, "test_list", [[testing, None]])
    monkeypatch.setattr(reader, "meta", {**reader.meta, "md5": None})
    return root
