"""Tables and figure of the search benchmark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FormatStrFormatter, NullFormatter

from benchmarks.search.objective import HELD_OUT, PHOTO_SIDE, PHOTO_STATISTICS, PHOTOS_HELD_OUT, STATISTICS
from benchmarks.timing import markdown_table
from sconv_search.records import Metric
from sconv_search.reports.analysis.fronts import hypervolume_curve

RANDOM = "random, fills the budget"


def report(rows: list[dict[str, Any]]) -> str:
    """For each network, methods and budget: best loss by way after some evaluations, and how soon random search is
    met.
    """
    parts = [
        f"\nObjective: loss without training. ResNet-20 in fp32, batch norms from {STATISTICS} images, loss on"
        f" {HELD_OUT} others; EfficientNet-Lite0 in bf16 with photos of {PHOTO_SIDE} pixels, batch norms relative to"
        f" the trained network's from {PHOTO_STATISTICS}, loss on {PHOTOS_HELD_OUT} others. Seconds are by the clock,"
        " of a study on its own, and depend on what else the machine did when a row was made. Hypervolume: the area"
        " that top-1 over FLOPs dominates, in % of that of a network without FLOPs or errors."
    ]
    for network, methods, budget in dict.fromkeys((r["network"], r["methods"], r["budget"]) for r in rows):
        own = [r for r in rows if (r["network"], r["methods"], r["budget"]) == (network, methods, budget)]
        parts.append(f"\n## {network}, {methods.replace(',', ' + ')}, {budget} % of dense FLOPs\n")
        columns = (
            "way",
            "seeds",
            "loss after 1",
            "after 10",
            "after 40",
            "at the end",
            "evaluations",
            "seconds",
            "hypervolume, %",
            "slack, %",
            "meets random search at its end",
        )
        parts.append(markdown_table(columns, [_line(way, own, budget) for way in dict.fromkeys(r["way"] for r in own)]))
    return "\n".join(parts)


def _line(way: str, rows: list[dict[str, Any]], budget: int) -> tuple[object, ...]:
    own = [r for r in rows if r["way"] == way and r["loss"]]
    best = [np.minimum.accumulate(r["loss"]) for r in own]
    random = [min(r["loss"]) for r in rows if r["way"] == RANDOM and r["loss"]]

    def after(count: int) -> str:
        values = [course[min(count, len(course)) - 1] for course in best]
        spread = f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else ""
        return f"{median(values):.3f}{spread}"

    most = max((len(course) for course in best), default=0)
    slack = median([100 * (1 - share / (budget / 100)) for r in own for share in r["flops"]])
    met = [_first_at_most(course, median(random)) for course in best] if random else []
    words = ", ".join("never" if at is None else str(at) for at in met)
    middle = (after(10) if most > 1 else "", after(40) if most > 10 else "")
    seconds = [r["seconds"][-1] for r in own if r.get("seconds")]
    taken = f"{median(seconds):.0f}" if seconds else ""
    area = f"{median(hypervolumes(r)[-1] for r in own):.2f}" if own else ""
    return way, len(own), after(1), *middle, after(most), most, taken, area, f"{slack:.1f}", words


def hypervolumes(row: dict[str, Any]) -> list[float]:
    """After each plan, the area that accuracy over FLOPs dominates, in % of that of a network without FLOPs or
    errors.
    """
    top1 = Metric("top-1", better="higher", unit="%")
    areas = hypervolume_curve([100 * flops for flops in row["flops"]], row["top1"], top1)
    assert areas is not None
    return areas


def _first_at_most(course: Iterable[float], bound: float) -> int | None:
    """The number of evaluations after which a course is at most the bound."""
    return next((at for at, loss in enumerate(course, start=1) if loss <= bound), None)


LOSS, AREA = "best loss so far, nat", "hypervolume, %"
SHOWN = 2
"""Losses up to so many times the least are drawn; beyond, plans have collapsed, and tables tell how far."""
EVALUATIONS, SECONDS = "evaluations", "seconds"
PANELS = ((LOSS, EVALUATIONS), (LOSS, SECONDS), (AREA, EVALUATIONS))


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Best loss so far against evaluations and seconds, and hypervolume; a line a search, median over seeds, seeds
    faintly.
    """
    lines = list(dict.fromkeys((r["network"], r["methods"], r["budget"]) for r in rows))
    ways = list(dict.fromkeys(r["way"] for r in rows))
    size = (5 * len(PANELS), 3.2 * len(lines))
    figure, axes = plt.subplots(len(lines), len(PANELS), figsize=size, squeeze=False, layout="constrained")
    for index, (network, methods, budget) in enumerate(lines):
        own = [r for r in rows if (r["network"], r["methods"], r["budget"]) == (network, methods, budget) and r["loss"]]
        for axis, (quantity, against) in zip(axes[index], PANELS, strict=True):
            _panel(axis, own, quantity, against, ways)
            axis.set_yscale("log" if quantity == LOSS else "linear")
            axis.set(xlabel=against, ylabel=quantity, xscale="log")
            axis.set_title(f"{network}, {methods.replace(',', ' + ')}, {budget} %", fontsize=9)
            axis.xaxis.set_minor_formatter(NullFormatter())
            if quantity == LOSS:
                axis.yaxis.set_minor_formatter(FormatStrFormatter("%.3g"))
                axis.set_ylim(top=min(axis.get_ylim()[1], SHOWN * min(min(r["loss"]) for r in own)))
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    figure.savefig(path)
    plt.close(figure)


def _panel(axis: Axes, rows: Sequence[dict[str, Any]], quantity: str, against: str, ways: Sequence[str]) -> None:
    """The courses of one search; rules, which are one evaluation, as level lines."""
    for way in dict.fromkeys(r["way"] for r in rows):
        own, color = [r for r in rows if r["way"] == way], plt.get_cmap("tab10")(ways.index(way))
        courses = [np.minimum.accumulate(r["loss"]) if quantity == LOSS else np.array(hypervolumes(r)) for r in own]
        if len(courses[0]) == 1:
            axis.axhline(courses[0][0], color=color, linestyle=":", linewidth=1, label=way)
            continue
        starts = [np.array(r["seconds"]) if against == SECONDS else np.arange(1, len(r["loss"]) + 1) for r in own]
        for start, course in zip(starts, courses, strict=True):
            axis.plot(start, course, color=color, alpha=0.25, linewidth=0.8)
        length = min(map(len, courses))
        middle, at = (
            np.median([single_course[:length] for single_course in many], axis=0) for many in (courses, starts)
        )
        axis.plot(at, middle, color=color, linewidth=2, label=way)
    axis.grid(alpha=0.3)
