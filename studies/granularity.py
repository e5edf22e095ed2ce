"""Which sites are compressed alike: they share one preference of the sampler."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, get_args

from sconv_search.calibration.blocks import block_of

Granularity = Literal["layer", "block", "stage"]


def require_granularity(name: str) -> None:
    """Refuses an unknown granularity.

    Raises:
        ValueError: the name and those that there are.
    """
    if name not in get_args(Granularity):
        raise ValueError(f"there is no granularity {name!r}; it is one of {', '.join(get_args(Granularity))}")


def grouped(
    sites: Iterable[str], granularity: Granularity, shapes: Mapping[str, Sequence[tuple[int, ...]]]
) -> dict[str, str]:
    """Site -> the group that it belongs to.

    Blocks are those of ``sconv_search.calibration.blocks.block_of``. A stage is all layers that read one resolution.

    Args:
        shapes: shapes, without the batch, of the inputs of each site's calls.
    """
    if granularity == "layer":
        return {name: name for name in sites}
    if granularity == "block":
        names = list(sites)
        return {name: block_of(name, names) for name in names}
    return {name: _stage(name, shapes) for name in sites}


def _stage(name: str, shapes: Mapping[str, Sequence[tuple[int, ...]]]) -> str:
    read = next(iter(shapes.get(name, ())), ())
    return "×".join(map(str, read[1:])) or "vectors"
