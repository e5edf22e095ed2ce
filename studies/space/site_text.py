"""Sites and skipped layers in few lines, whatever their number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

WIDTH = 120


def site_lines(options: Mapping[str, int], skipped: Mapping[str, str]) -> Iterator[str]:
    """Names of all sites with their numbers of options, then of all skipped layers with the reason that they share.

    Args:
        options: site -> number of its options.
        skipped: layer with weights that is no site -> why.
    """
    yield from _folded(
        "sites, each with its number of options: ", (f"{name} ({count})" for name, count in options.items())
    )
    together: dict[str, list[str]] = {}
    for name, reason in skipped.items():
        together.setdefault(reason, []).append(name)
    for reason, names in together.items():
        *lines, last = _folded("skipped ", names)
        yield from (*lines, f"{last}: {reason}")


def _folded(beginning: str, names: Iterable[str]) -> list[str]:
    """Names in lines of at most ``WIDTH`` columns, where none is longer; a name is never cut."""
    lines = [beginning]
    for index, name in enumerate(names):
        lines[-1] += ", " if index else ""
        if index and len(lines[-1] + name) >= WIDTH:
            lines[-1] = lines[-1].rstrip()
            lines.append("  ")
        lines[-1] += name
    return lines
