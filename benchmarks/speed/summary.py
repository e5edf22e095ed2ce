"""The speed benchmark in short: a line a network, a column a thread count, type and batch."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.speed.best import Best, best, place_of
from benchmarks.speed.measuring import Row
from benchmarks.timing import markdown_table

STRENGTHS = ("2x", "4x")
STRUCTURED, RIVAL = ("structured", "merged"), ("spatial_svd",)
Setting = tuple[int, str, int]
"""Threads, dtype, batch."""


def summary(rows: Sequence[Row]) -> str:
    """At about half, then a quarter of the MACs: the faster structured form's speed-up and, in brackets, spatial SVD's.

    Of several runs of one setting, that in most modes is shown, and of these the last.
    """
    modes = {place_of(row): len({other["mode"] for other in rows if place_of(other) == place_of(row)}) for row in rows}
    runs = dict[tuple[str, Setting], list[Best]]()
    for line in sorted(best(rows), key=lambda one: (modes[one.place], one.run), reverse=True):
        shown = runs.setdefault((line.network, _setting(line)), [])
        if not shown or shown[0].run == line.run:
            shown.append(line)
    settings = sorted({setting for _, setting in runs}, key=lambda one: (one[0], one[1] != "fp32", -one[2]))
    networks = dict.fromkeys(row["network"] for row in rows)
    lines = [(network, *(_cell(runs.get((network, setting), [])) for setting in settings)) for network in networks]
    return markdown_table(("network", *map(_heading, settings)), lines)


def _setting(line: Best) -> Setting:
    return line.threads, line.dtype, line.batch


def _heading(setting: Setting) -> str:
    threads, dtype, batch = setting
    return f"{threads} thread{'s' if threads > 1 else ''}, {dtype}, batch {batch}"


def _cell(lines: Sequence[Best]) -> str:
    ours, others = _speeds(lines, STRUCTURED), _speeds(lines, RIVAL)
    return f"{ours} ({others})" if ours and others else ours


def _speeds(lines: Sequence[Best], methods: Sequence[str]) -> str:
    """The fastest of the methods' forms at each strength."""
    wanted = [{f"{method} {strength}" for method in methods} for strength in STRENGTHS]
    speed_ups = [[line.speed_up for line in lines if line.candidate in names] for names in wanted]
    return ", ".join(f"{max(speeds):.2f}" for speeds in speed_ups if speeds)
