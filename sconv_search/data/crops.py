"""How photos are cropped to a network's input size and normalized, as values."""

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


@dataclass(frozen=True, kw_only=True)
class Photos:
    """How photos become inputs of a network.

    Args:
        size: height and width of an input.
        resize: the shorter side before the central crop of that size.
        mean: of pixels scaled to 0..1, per channel; subtracted.
        std: likewise; divided by.
    """

    size: tuple[int, int]
    resize: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (C, H, W) of an input."""
        return (len(self.mean), *self.size)
