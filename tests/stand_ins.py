"""Tiny data sets in the layouts of the large ones, drawn from a seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = ((200, 40, 40), (40, 200, 40), (40, 40, 200), (200, 200, 40))


def image_folders(root: Path, *, classes: int = 4, train: int = 12, val: int = 6, size: tuple[int, int] = (40, 48)) -> Path:
    """``train/<class>/*.JPEG`` and ``val/<class>/*.JPEG``: noise around one colour a class, of differing sizes."""
    random = np.random.default_rng(0)
    for part, count in (("train", train), ("val", val)):
        for number in range(classes):
            folder = root / part / f"n{number:08d}"
            folder.mkdir(parents=True)
            for place in range(count):
                shape = (size[0] + place % 3, size[1], 3)
                pixels = np.asarray(COLOURS[number % 4]) + random.integers(-30, 31, shape)
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
            colours = {ROAD: (90, 90, 90), SKY: (120, 170, 240), CAR: (200, 30, 30), VOID: (0, 0, 0)}
            pixels = np.zeros((*size, 3))
            for number, colour in colours.items():
                pixels[ids == number] = colour
            pixels = (pixels + random.integers(-20, 21, pixels.shape)).clip(0, 255).astype(np.uint8)
            city = ("aachen", "bonn")[place % 2]
            for kind, suffix, picture in (("leftImg8bit", "leftImg8bit", pixels), ("gtFine", "gtFine_labelIds", ids)):
                folder = root / kind / part / city
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture).save(folder / f"{city}_{place:06d}_000019_{suffix}.png")
    return root


def photo_folder(root: Path, *, count: int = 16, size: int = 40) -> Path:
    """Photos ``0000_x.jpg`` and on, of one colour a class."""
    random = np.random.default_rng(0)
    root.mkdir(parents=True)
    for number in range(count):
        pixels = np.asarray(COLOURS[number % 4]) + random.integers(-30, 31, (size, size, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / f"{number:04d}_x.jpg", quality=95)
    return root
