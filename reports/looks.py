"""Colors and markers, the same in every figure of a report and in both drawers."""

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


def looks(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Color and marker by name: known methods first and always in the same dress."""
    wanted = set(names)
    others = sorted(wanted - set(STYLES))
    dressed = {name: OTHERS[place % len(OTHERS)] for place, name in enumerate(others)}
    return {name: look for name, look in (STYLES | dressed).items() if name in wanted}
