"""A folder of images for each class: which files count, and what is left out."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"})
"""Of files that are read, in any case; those of torchvision's ``ImageFolder``."""
SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class ClassFolders:
    """The images of a part of a data set.

    Args:
        names: of the classes, in the order of their numbers.
        files: the image files.
        labels: the number of the class of each.
        skipped: files that are no images, and hidden folders, which are not looked into.
    """

    names: tuple[str, ...]
    files: tuple[Path, ...]
    labels: tuple[int, ...]
    skipped: tuple[Path, ...]


def is_hidden(path: Path) -> bool:
    """Whether an editor, a notebook or a file manager made it, as ``.ipynb_checkpoints`` and ``__MACOSX``."""
    return path.name.startswith(".") or path.name == "__MACOSX"


def is_image(path: Path) -> bool:
    """Whether the file is read as an image, by its name."""
    return not is_hidden(path) and path.suffix.lower() in IMAGE_SUFFIXES


Read = dict[str, tuple[Path, Path]]
"""Real folder -> the place where it was read, and the class or part that it was read for."""


def is_first(place: Path, owner: Path, read: Read) -> bool:
    """Whether a folder is to be read: by links, one may be met again.

    Args:
        owner: the class or part that it is read for.
        read: the folders that were, which this one is added to.

    Raises:
        ValueError: a link leads to a folder that holds it, or to one that is another class's or part's.
    """
    real, above = os.path.realpath(place), os.path.realpath(place.parent)
    if place.is_symlink() and f"{above}{os.sep}".startswith(f"{real.rstrip(os.sep)}{os.sep}"):
        raise ValueError(f"the link {str(place)!r} leads to {real!r}, which holds it; remove the link")
    first, of = read.setdefault(real, (place, owner))
    if first != place and of != owner:
        raise ValueError(
            f"{str(first)!r} and {str(place)!r} are one folder, by a link; its images can be of one part and one class"
            " alone: remove the link"
        )
    return first == place


def class_folders(root: Path, read: Read | None = None) -> ClassFolders:
    """The images under ``root/<class>/``, at any depth, classes and files in the order of their names; each folder
    once.

    Args:
        read: the folders that were read for other parts, which those of this one are added to.

    Raises:
        ValueError: there is no class, or one without images, or a link leads to a folder that holds it, or to one of
            another class or part.
    """
    read = {} if read is None else read
    is_first(root, root, read)
    inside = sorted(root.iterdir())
    names = tuple(path.name for path in inside if path.is_dir() and not is_hidden(path))
    files: list[Path] = []
    labels: list[int] = []
    skipped = [path for path in inside if path.name not in names]
    if not names:
        raise ValueError(f"{str(root)!r} holds no folder; each class needs one, with its images")
    for label, name in enumerate(names):
        images: list[Path] = []
        for path in _files(root / name, skipped, read):
            (images if is_image(path) else skipped).append(path)
        if not images:
            kinds = ", ".join(sorted(IMAGE_SUFFIXES))
            raise ValueError(f"{str(root)!r} lacks images of class {name!r}: its folder holds none ({kinds})")
        files += images
        labels += [label] * len(images)
    return ClassFolders(names=names, files=tuple(files), labels=tuple(labels), skipped=tuple(skipped))


def _files(folder: Path, skipped: list[Path], read: Read) -> Iterator[Path]:
    """All files at any depth, folder by folder; hidden folders are added to what is skipped."""
    folders_seen = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        if not is_first(Path(parent), folder, read):
            folders.clear()
            continue
        hidden = [name for name in folders if is_hidden(Path(name))]
        skipped.extend(Path(parent) / name for name in hidden)
        folders[:] = sorted(name for name in folders if name not in hidden)  # the walk goes on by this list
        folders_seen.append((parent, sorted(names)))
    for parent, names in sorted(folders_seen):
        yield from (Path(parent) / name for name in names)


def skipped_words(skipped: Collection[Path], root: Path) -> tuple[str, ...]:
    """What is said of files that are not read: how many they are, and some of them; nothing where all are read."""
    if not skipped:
        return ()
    some = ", ".join(repr(path.relative_to(root).as_posix()) for path in sorted(skipped)[:SHOWN])
    more = f" and {len(skipped) - SHOWN} more" if len(skipped) > SHOWN else ""
    return (f"skipped in {str(root)!r}, as no image or hidden: {len(skipped)} ({some}{more})",)
