"""The blocks of a network by the names of its layers: what a numbered module holds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_NUMBER = re.compile(r"(?:\w*-)?\d+")


def block_of(name: str, layers: Sequence[str]) -> str:
    """The name of the block that a layer belongs to.

    It is what a numbered module holds: the last of a list whose name is a plural (``blocks.0.0``,
    ``stages.1.blocks.3``, ``branches.0.2``), or else the first (``layer3.2``, ``features.4``). Without numbers it is
    the nearest module that holds another layer as well; a layer of a plain sequence is a block of its own.

    Args:
        layers: the names of all layers in question.
    """
    *above, own = name.split(".")
    runs = list(_numbered(above))
    if runs:
        lists = [run for run in runs if run[0] and above[run[0] - 1].endswith("s")]
        return ".".join(above[: (lists[-1] if lists else runs[0])[1]])
    if own.isdecimal():
        return name
    for length in range(len(above), 0, -1):
        module = ".".join(above[:length])
        if sum(other.startswith(f"{module}.") for other in layers) > 1:
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
