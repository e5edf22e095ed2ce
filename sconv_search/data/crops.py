"""How photos are cropped to a network's input size, as a value."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Crops:
    """How images become inputs.

    Args:
        size: pixels a side, in training and scoring.
        resize: the shorter side before the central crop; None takes 256 / 224 of the size.
        distorted: also TrivialAugment and random erasing, as EfficientNet's recipe has it.
    """

    size: int = 224
    resize: int | None = None
    distorted: bool = False
