"""Colors and markers, the same in every figure of a report and whichever library draws."""

from __future__ import annotations

from collections.abc import Iterable

# Okabe and Ito's palette, told apart by the color-blind; a marker each besides, for print in gray, as matplotlib names
# it.
STYLES = {
    "structured_conv": ("#0072B2", "o"),
    "spatial_svd": ("#D55E00", "s"),
    "weight_svd": ("#009E73", "^"),
    "tucker": ("#CC79A7", "D"),
    "cp": ("#E69F00", "v"),
    "channel_pruning": ("#56B4E9", "P"),
    "random": ("#8A8F98", "X"),
}
# Greys and darker and lighter tones for what has no place in the palette: mixed plans, the user's own methods.
OTHERS = (("#7F6A00", "X"), ("#8C6BB1", "<"), ("#A0522D", ">"), ("#6B7A8F", "h"), ("#2F8F8F", "p"), ("#B03060", "*"))
QUIET = "#7A828C"
"""Readable on white and on black."""


def styles(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Color and marker by name: known methods first, always the same ones."""
    wanted = set(names)
    unknown = sorted(wanted - set(STYLES))
    given = {name: OTHERS[index % len(OTHERS)] for index, name in enumerate(unknown)}
    return {name: style for name, style in (STYLES | given).items() if name in wanted}
