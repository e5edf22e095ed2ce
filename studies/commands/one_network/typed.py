"""Shapes and numbers as they are typed: ``3,224,224``, ``0.5,0.5,0.5``."""

from __future__ import annotations

import math


def shape_of(text: str) -> tuple[int, ...]:
    """The shape of one input, without the batch.

    Raises:
        ValueError: it is not made of positive whole numbers.
    """
    parts = text.replace("x", ",").split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise ValueError(f"--input must be positive whole numbers, such as 3,224,224 (without the batch), got {text!r}")
    return tuple(map(int, parts))


def numbers(flag: str, text: str, count: int) -> tuple[float, ...]:
    """So many numbers, one for each channel; one number stands for all.

    Raises:
        ValueError: the text is something else; the flag is named.
    """
    try:
        sizes = tuple(float(part) for part in text.split(","))
    except ValueError:
        sizes = ()
    if len(sizes) not in (1, count) or not all(map(math.isfinite, sizes)):
        raise ValueError(f"{flag} must be {count} numbers, one for each channel, such as 0.5,0.5,0.5; got {text!r}")
    return sizes * count if len(sizes) == 1 else sizes
