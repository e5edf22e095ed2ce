"""Photos, and masks beside them, cropped to a network's input for scoring and for training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sconv_search.data.crops import Photos
from sconv_search.data.splits import IGNORED

MODES = {1: "L", 3: "RGB"}
"""Channels of an input -> how Pillow calls such images."""
BORDER = 255
"""The value of a mask that means no class, by the convention of Pascal VOC and others; of a binary mask, yes."""


class WholePhoto:
    """The center of the resized photo, as it is scored."""

    def __init__(self, photos: Photos) -> None:
        from torchvision.transforms import v2  # here: it takes a second

        require_channels(photos)
        self._mode = MODES[len(photos.mean)]
        self._transform: Any = v2.Compose(
            [v2.Resize(photos.resize, antialias=True), v2.CenterCrop(list(photos.size)), v2.PILToTensor()]
        )

    def __call__(self, image: Any, label: Any) -> tuple[Tensor, Any]:
        """(PIL image, class) -> uint8 (C, H, W), class."""
        return self._transform(image.convert(self._mode)), label


class RandomPart:
    """A random part of the photo, of 25 to 100 % of its area, resized; mirrored later, batch by batch."""

    def __init__(self, photos: Photos) -> None:
        from torchvision.transforms import v2

        self._mode = MODES[len(photos.mean)]
        self._transform: Any = v2.Compose(
            [v2.PILToTensor(), v2.RandomResizedCrop(list(photos.size), scale=(0.25, 1.0), antialias=True)]
        )

    def __call__(self, image: Any, label: Any) -> tuple[Tensor, Any]:
        """(PIL image, class) -> uint8 (C, H, W), class."""
        return self._transform(image.convert(self._mode)), label


class PhotoAndMask:
    """The whole photo with its mask, resized to the input; mirrored half of the time in training.

    Args:
        mirrored: whether it is for training.
        binary: whether a mask is 0 for no, and 1 or 255 for yes, as programs draw them.
    """

    def __init__(self, photos: Photos, *, mirrored: bool, binary: bool = False) -> None:
        require_channels(photos)
        self._binary = binary
        self._mode, self._size, self._mirrored = MODES[len(photos.mean)], photos.size, mirrored

    def __call__(self, image: Any, mask: Any) -> tuple[Tensor, Tensor]:
        """(PIL image, PIL image of classes) -> uint8 (C, H, W), classes (H, W).

        Raises:
            ValueError: a binary mask has other values.
        """
        from torchvision.transforms.v2 import functional as resizing

        pixels = resizing.resize(resizing.pil_to_tensor(image.convert(self._mode)), list(self._size), antialias=True)
        nearest = resizing.InterpolationMode.NEAREST
        classes = resizing.resize(resizing.pil_to_tensor(mask), list(self._size), interpolation=nearest)[0].long()
        if self._binary:
            if len(other := classes[(classes > 1) & (classes != BORDER)]):
                raise ValueError(
                    f"a mask holds {int(other[0])}; of a network with one logit it is 0, and 1 or 255 for yes"
                )
            classes = classes.clamp(max=1)
        else:
            classes = torch.where(classes == BORDER, IGNORED, classes)
        if self._mirrored and float(torch.rand(())) < 0.5:
            pixels, classes = pixels.flip(2), classes.flip(1)
        return pixels, classes


def require_channels(photos: Photos) -> None:
    """Refuses inputs that are neither gray nor color photos.

    Raises:
        ValueError: how many channels they have.
    """
    if len(photos.mean) not in MODES:
        raise ValueError(f"photos have 1 or 3 channels; the network takes inputs of {len(photos.mean)}")
