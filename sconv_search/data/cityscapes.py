"""Cityscapes on disk, in the layout of its archives, with the 19 classes of its benchmark a pixel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from sconv_search.data.class_folders import is_hidden, skipped_words
from sconv_search.data.disk import DiskSplit
from sconv_search.data.imagenet import MEAN, STD
from sconv_search.data.layout import CITYSCAPES
from sconv_search.data.splits import IGNORED, SPLIT_SEED, DataSet

IMAGE, LABELS = "_leftImg8bit.png", "_gtFine_labelIds.png"
CLASSES = 19
HELD_OUT = 0.1
CLASS_WEIGHTS = (
    0.8373,
    0.918,
    0.866,
    1.0345,
    1.0166,
    0.9969,
    0.9754,
    1.0489,
    0.8786,
    1.0023,
    0.9539,
    0.9843,
    1.1116,
    0.9037,
    1.0865,
    1.0955,
    1.0865,
    1.1529,
    1.0507,
)
"""Road, sidewalk ... bicycle. Source: ``lib/datasets/cityscapes.py`` of HRNet/HRNet-Semantic-Segmentation."""


class WholeStreet:
    """The whole image, and its labels as numbers of classes."""

    def __call__(self, image: Any, label: Image.Image) -> tuple[Tensor, Tensor]:
        """(PIL image, PIL image of label ids) -> uint8 (3, H, W), classes (H, W)."""
        from torchvision.transforms.v2.functional import pil_to_tensor

        return pil_to_tensor(image), _classes(pil_to_tensor(label)[0])


class StreetCrop:
    """A random crop of the image at 0.5 to 2 times its size, mirrored half of the time; beyond its edge nothing
    counts.
    """

    def __init__(self, size: tuple[int, int], image_size: tuple[int, int]) -> None:
        from torchvision import tv_tensors  # here: it takes a second
        from torchvision.transforms import v2

        fill = {tv_tensors.Image: 0, tv_tensors.Mask: IGNORED}
        self._transform: Any = v2.Compose(
            [
                v2.ScaleJitter(image_size, scale_range=(0.5, 2.0), antialias=True),
                v2.RandomCrop(size, pad_if_needed=True, fill=fill),
                v2.RandomHorizontalFlip(),
            ]
        )

    def __call__(self, image: Any, label: Image.Image) -> tuple[Tensor, Tensor]:
        """(PIL image, PIL image of label ids) -> uint8 (3, h, w), classes (h, w)."""
        from torchvision import tv_tensors

        pixels, classes = WholeStreet()(image, label)
        cropped, mask = self._transform(tv_tensors.Image(pixels), tv_tensors.Mask(classes))
        return cropped.as_subclass(Tensor), mask.as_subclass(Tensor)


def cityscapes(
    folder: Path | None,
    *,
    train_was_seen: bool,
    size: tuple[int, int] = (1024, 2048),
    crop: tuple[int, int] = (512, 1024),
) -> DataSet:
    """Cityscapes with its fine annotations; those of its own test part are not public, so that ``val`` is what is
    scored.

    Args:
        folder: holds ``leftImg8bit/`` and ``gtFine/``, or a folder ``cityscapes`` that does.
        train_was_seen: the start weights were trained on ``train``: then validation and test are two fixed halves of
            ``val``. Otherwise a tenth of ``train`` is held out for validation.
        size: height and width of the images, which are scored whole.
        crop: height and width of the parts that are trained on.

    Raises:
        FileNotFoundError: the data or an image's annotation is missing; the expected layout is given.
        ValueError: a file is damaged or of another size.
    """
    root = CITYSCAPES.root(folder)
    (train, left), (test, left_too) = (_part(root, name, size, crop) for name in ("train", "val"))
    if train_was_seen:
        validation, test = _cut(test, 0.5)
    else:
        validation, train = _cut(train, HELD_OUT)
    return DataSet(
        name="cityscapes",
        train=train.some(_order(train)),
        validation=validation,
        test=test,
        mean=MEAN,
        std=STD,
        class_weights=CLASS_WEIGHTS,
        calibration_images=8,
        evaluation_batch=4,
        notes=skipped_words([*left, *left_too], root),
    )


def _order(split: DiskSplit) -> Tensor:
    return torch.randperm(len(split), generator=torch.Generator().manual_seed(SPLIT_SEED))


def _cut(split: DiskSplit, share: float) -> tuple[DiskSplit, DiskSplit]:
    first = max(1, round(share * len(split)))
    if first == len(split):
        raise ValueError(f"{str(split.root)!r} holds too few images to hold some out")
    return split.some(_order(split)[:first]), split.some(_order(split)[first:])


def _part(root: Path, name: str, size: tuple[int, int], crop: tuple[int, int]) -> tuple[DiskSplit, list[Path]]:
    """One part of the data, and the files beside its images that are no images of streets."""
    folder = root / "leftImg8bit" / name
    inside = sorted(path for path in folder.glob("*/*") if not path.is_dir())
    images = [path for path in inside if path.name.endswith(IMAGE) and not (is_hidden(path) or is_hidden(path.parent))]
    targets = [root / "gtFine" / name / path.parent.name / path.name.replace(IMAGE, LABELS) for path in images]
    if lost := next((target for target in targets if not target.is_file()), None):
        raise FileNotFoundError(
            f"{str(lost)!r} is missing: each image needs its annotation; expected are {CITYSCAPES.words}"
        )
    part = DiskSplit(
        files=tuple(images),
        targets=tuple(targets),
        root=root,
        view=WholeStreet(),
        augmentation=StreetCrop(crop, size),
        shape=(3, *size),
        classes=CLASSES,
    )
    return part, [path for path in inside if path not in set(images)]


def _classes(ids: Tensor) -> Tensor:
    """Label ids of the files as numbers of classes; void and unknown ones count nowhere."""
    from torchvision.datasets import Cityscapes

    table = torch.full((256,), IGNORED)
    for kind in Cityscapes.classes:
        if kind.id >= 0 and 0 <= kind.train_id < CLASSES:
            table[kind.id] = kind.train_id
    return table[ids.long()]
