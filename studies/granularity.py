"""Which sites are compressed alike: they share one preference of the sampler."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, get_args

Granularity = Literal["layer", "block", "stage"]
_NUMBER = re.compile(r"(?:\w*-)?\d+")


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

    A block is what a numbered module holds: the last of a list whose name is a plural (``blocks.0.0``,
    ``stages.1.blocks.3``, ``branches.0.2``), or else the first (``layer3.2``, ``features.4``). Without numbers it is
    the nearest module that holds another site as well. A stage is all layers that read one resolution.

    Args:
        shapes: shapes, without the batch, of the inputs of each site's calls.
    """
    if granularity == "layer":
        return {name: name for name in sites}
    if granularity == "block":
        names = list(sites)
        return {name: _block(name, names) for name in names}
    return {name: _stage(name, shapes) for name in sites}


def _block(name: str, sites: Sequence[str]) -> str:
    *above, own = name.split(".")
    runs = list(_numbered(above))
    if runs:
        lists = [run for run in runs if run[0] and above[run[0] - 1].endswith("s")]
        return ".".join(above[: (lists[-1] if lists else runs[0])[1]])
    if own.isdecimal():  # a layer of a plain sequence
        return name
    for length in range(len(above), 0, -1):
        module = ".".join(above[:length])
        if sum(site.startswith(f"{module}.") for site in sites) > 1:
            return module
    return ".".join(above) or name


def _numbered(parts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Start and end of each run of numbers, such as the two of ``features.1.0.block``; ``block1-0`` counts as one."""
    start = 0
    while start < len(parts):
        end = start
        while end < len(parts) and _NUMBER.fullmatch(parts[end]):
            end += 1
        if end > start:
            yield start, end
        start = end + 1


def _stage(name: str, shapes: Mapping[str, Sequence[tuple[int, ...]]]) -> str:
    read = next(iter(shapes.get(name, ())), ())
    return "×".join(map(str, read[1:])) or "vectors"
