"""Where a data set is expected, and what of it is missing; looked at before any long work."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

DATA_VARIABLE = "SCONV_SEARCH_DATA"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The files of a data set, in the folder of ``--data`` or in one named after the data set inside of it.

    Args:
        title: the data set's name in full.
        folder: the name of its own folder.
        parts: patterns of files, of each of which at least one must be there.
        alternative: patterns of another layout that is read as well.
        downloads: whether it is downloaded where it is missing.
    """

    title: str
    folder: str
    parts: tuple[str, ...]
    alternative: tuple[str, ...] = ()
    downloads: bool = False

    @property
    def words(self) -> str:
        """Where the data is expected, in words."""
        or_else = f" (or {', '.join(self.alternative)})" if self.alternative else ""
        folder = f"the folder of --data (or {DATA_VARIABLE}, else ./data), or in {self.folder}/ there"
        return f"{', '.join(self.parts)}{or_else} in {folder}"

    def root(self, folder: Path | None) -> Path:
        """The data set's folder.

        Raises:
            FileNotFoundError: the folder was named and does not exist, or a part is missing; the expected layout is
                given.
        """
        parent = data_folder(folder)
        candidates = [parent, parent / self.folder]
        nearest = min(candidates, key=lambda root: len(self._missing(root)))
        if missing := self._missing(nearest):
            raise FileNotFoundError(
                f"{self.title} is not in {str(parent)!r}: there is no {' and no '.join(missing)}; expected are"
                f" {self.words}"
            )
        return nearest

    def missing(self, folder: Path | None) -> str | None:
        """What ``root`` would say, or that it is downloaded; None where everything is there."""
        try:
            self.root(folder)
        except FileNotFoundError as error:
            return f"{error}; what is missing is downloaded there" if self.downloads else str(error)
        return None

    def _missing(self, root: Path) -> list[str]:
        known = [parts for parts in (self.parts, self.alternative) if parts]
        return min(([part for part in parts if next(root.glob(part), None) is None] for parts in known), key=len)


def data_folder(folder: Path | None) -> Path:
    """The folder named by the argument, else by SCONV_SEARCH_DATA, else ``data`` here.

    Raises:
        FileNotFoundError: a folder was named and does not exist.
    """
    named = folder or (Path(os.environ[DATA_VARIABLE]) if os.environ.get(DATA_VARIABLE) else None)
    if named is not None and not named.is_dir():
        raise FileNotFoundError(
            f"the data folder {str(named)!r} does not exist; name one with --data or {DATA_VARIABLE}"
        )
    return named or Path("data")


CIFAR10 = Layout(
    title="CIFAR-10",
    folder="cifar10",
    parts=("cifar-10-batches-py/data_batch_1",),
    downloads=True,
    alternative=("train_[1-5].webp", "train_labels.npy", "test.webp", "test_labels.npy"),
)
CIFAR100 = Layout(title="CIFAR-100", folder="cifar100", parts=("cifar-100-python/train",), downloads=True)
IMAGENET = Layout(title="ImageNet (ILSVRC 2012)", folder="imagenet", parts=("train/*/*", "val/*/*"))
CITYSCAPES = Layout(
    title="Cityscapes",
    folder="cityscapes",
    parts=tuple(
        pattern
        for part in ("train", "val")
        for pattern in (f"leftImg8bit/{part}/*/*_leftImg8bit.png", f"gtFine/{part}/*/*_gtFine_labelIds.png")
    ),
)
PHOTOS = Layout(title="A sample of ImageNet's photos", folder="imagenet_sample", parts=("[0-9][0-9][0-9][0-9]_*.*",))
