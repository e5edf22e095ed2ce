"""The figure of the speed benchmark: speed-up against MAC ratio."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from benchmarks.speed.best import Best, best
from benchmarks.speed.measuring import Row

COLUMNS_OF_PANELS = 4


def draw(rows: Sequence[Row], path: Path, *, batch: int = 16, dtype: str = "fp32") -> None:
    """Speed-up against MAC ratio in the best mode, a panel a network and run; on the diagonal time falls as MACs do."""
    lines = [line for line in best(rows) if line.dtype == dtype and line.batch == batch]
    panels_of = list(dict.fromkeys(line.place for line in lines))
    if not panels_of:
        print(f"no figure: no rows of batch {batch} in {dtype}", file=sys.stderr)
        return
    methods = list(dict.fromkeys(map(_method, lines)))
    lines_of_panels = -(-len(panels_of) // COLUMNS_OF_PANELS)
    wide = min(len(panels_of), COLUMNS_OF_PANELS)
    size = (4 * wide, 3.8 * lines_of_panels)
    figure, panels = plt.subplots(lines_of_panels, wide, figsize=size, squeeze=False, layout="constrained")
    for axes in panels.flat[len(panels_of) :]:
        axes.set_axis_off()
    for axes, panel in zip(panels.flat, panels_of, strict=False):
        _draw_panel(axes, [line for line in lines if line.place == panel], methods)
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=len(methods), fontsize=9)
    figure.savefig(path)
    plt.close(figure)


def _method(line: Best) -> str:
    return line.candidate.partition(" ")[0]


def _draw_panel(axes: Axes, lines: Sequence[Best], methods: Sequence[str]) -> None:
    """One network and run; of each method, its points."""
    for index, method in enumerate(methods):
        points = [(line.mac_ratio, line.speed_up) for line in lines if _method(line) == method]
        ratios, speeds = zip(*points, strict=True) if points else ((), ())  # without points too, for the legend
        axes.plot(ratios, speeds, "osDv^P"[index % 6], color=f"C{index}", label=method)
    axes.axline((1, 1), slope=1, color="gray", linewidth=0.8)
    axes.axhline(1, color="black", linewidth=0.8)
    network, _, threads, _, began = lines[0].place
    modes = ", ".join(sorted({line.mode for line in lines}))
    axes.set_title(f"{network}, {modes}\n{threads} thread{'s' if threads != 1 else ''}, {began}", fontsize=10)
    axes.set(xlabel="MAC ratio", ylabel="speed-up")
    axes.grid(alpha=0.3)
