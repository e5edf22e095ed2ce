"""Which sites are compressed alike: they share one preference of the sampler."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, get_args

Granularity = Literal["layer", "block", "stage"]


def require_granularity(name: str) -> None:
    """Refuses an unknown granularity.

    Raises:
        ValueError: the name and those that there are.
    """
    if name not in get_args(Granularity):
        raise ValueError(f"there is no granularity {name!r}; it is one of {', '.join(get_args(Granularity))}")


def grouped(sites: Iterable[str], granularity: Granularity, shapes: Mapping[str, Sequence[tuple[int, ...]]]) -> dict[str, str]:
    """Site -> the group that it belongs to.

    A block is what a numbered module holds (``layer3.2``, ``features.4``), or else the parent module. A stage is all layers
    that read one resolution.

    Args:
        shapes: shapes, without the batch, of the inputs of each site's calls.
    """
    if granularity == "layer":
        return {name: name for name in sites}
    if granularity == "block":
        return {name: _block(name) for name in sites}
    return {name: _stage(name, shapes) for name in sites}


def _block(name: str) -> str:
    parts = name.split(".")
    numbered = next((place for place, part in enumerate(parts[:-1]) if part.isdecimal()), None)
    return ".".join(parts[: numbered + 1] if numbered is not None else parts[:-1]) or name


def _stage(name: str, shapes: Mapping[str, Sequence[tuple[int, ...]]]) -> str:
    read = next(iter(shapes.get(name, ())), ())
    return "×".join(map(str, read[1:])) or "vectors"
