"""The drawing of one task's Pareto figure. The one doorway to matplotlib."""

from __future__ import annotations

import io
import math
import textwrap
from itertools import cycle
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports.series import ParetoData
from reports.words import heading, one_line, spread
from sconv_search.records import COLUMNS

# Okabe and Ito's palette, told apart by the colour-blind; a marker each besides, for print in grey.
STYLES = {
    "structured_conv": ("#0072B2", "o"),
    "spatial_svd": ("#D55E00", "s"),
    "weight_svd": ("#009E73", "^"),
    "tucker": ("#CC79A7", "D"),
    "cp": ("#E69F00", "v"),
    "channel_pruning": ("#56B4E9", "P"),
}
_OTHER_STYLES = (("#000000", "X"), ("#666666", "<"), ("#000000", ">"), ("#666666", "h"))
_REFERENCE_DASHES = {"dense": "--", "dense_finetuned": "-."}
_QUIET = "#444444"
_FAINT: dict[str, Any] = {"linestyle": "", "markersize": 4, "markeredgewidth": 0, "alpha": 0.35}
# Fixed ids, whole texts as paths, and no "$" read as mathematics: task names are the user's.
_SETTINGS: Any = {"svg.hashsalt": "sconv-search", "svg.fonttype": "path", "text.parse_math": False}


def draw(data: ParetoData) -> Figure:
    """The figure; its legend and notes stand beside the axes, so that they cover no point."""
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(9, 5), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        handles = _draw_references(axes, data)
        _draw_points(axes, data)
        handles += [*_legend_of_points(data), *_draw_budgets(axes, data)]
        _frame(axes, data)
        if handles:
            figure.legend(handles=handles, loc="outside right upper", frameon=False, fontsize=8.5, labelspacing=0.9)
        return figure


def rendered(figure: Figure, kind: str) -> bytes:
    """The figure as ``png`` or ``svg``: the same figure gives the same bytes."""
    file = io.BytesIO()
    with matplotlib.rc_context(_SETTINGS):
        figure.savefig(file, format=kind, dpi=160, metadata={"Date": None} if kind == "svg" else {"Software": None})
    return file.getvalue()


def _styles(data: ParetoData) -> dict[str, tuple[str, str]]:
    """Colour and marker of every method in the figure, known methods first and always in the same dress."""
    names = {series.methods for series in (*data.trials, *data.confirmed)}
    others = dict(zip(sorted(names - set(STYLES)), cycle(_OTHER_STYLES), strict=False))
    return {name: style for name, style in (STYLES | others).items() if name in names}


def _wrapped(words: str) -> str:
    return textwrap.fill(one_line(words), 34, max_lines=3, placeholder=" …")


def _draw_references(axes: Axes, data: ParetoData) -> list[Line2D]:
    for reference in data.references:
        if reference.deviation:
            low, high = reference.score - reference.deviation, reference.score + reference.deviation
            axes.axhspan(low, high, color="#000000", alpha=0.06, linewidth=0)
    return [
        axes.axhline(
            reference.score,
            color=_QUIET,
            linestyle=_REFERENCE_DASHES[reference.variant],
            linewidth=1.2,
            label=_wrapped(f"{reference.name}: {spread(reference.score, reference.deviation)}"),
        )
        for reference in data.references
    ]


def _draw_points(axes: Axes, data: ParetoData) -> None:
    styles = _styles(data)
    for series in data.trials:
        color, marker = styles[series.methods]
        axes.plot(series.shares, series.scores, color=color, marker=marker, zorder=2, **_FAINT)
    for front in data.fronts:
        axes.plot(front.shares, front.scores, drawstyle="steps-post", color=styles[front.methods][0], linewidth=1.4, zorder=3)
    for series in data.confirmed:
        color, marker = styles[series.methods]
        bars = [math.nan if deviation is None else deviation for deviation in series.deviations]
        axes.errorbar(series.shares, series.scores, yerr=bars, fmt="none", ecolor=color, capsize=3, capthick=1.3, zorder=4)
        look = _look(color, uniform=series.uniform)
        axes.plot(series.shares, series.scores, linestyle="", marker=marker, zorder=5, **look)


def _look(color: str, *, uniform: bool) -> dict[str, Any]:
    face, edge, width = ("#FFFFFF", color, 1.6) if uniform else (color, "#FFFFFF", 0.6)
    return {"markerfacecolor": face, "markeredgecolor": edge, "markeredgewidth": width, "markersize": 8}


def _legend_of_points(data: ParetoData) -> list[Line2D]:
    """An entry a method, strong where it is confirmed; one for all uniform plans and one for all search trials."""
    confirmed = {series.methods for series in data.confirmed}
    names = {series.methods: _wrapped(series.name) for series in (*data.trials, *data.confirmed)}
    entries = []
    for methods, (color, marker) in _styles(data).items():
        look = _look(color, uniform=False) if methods in confirmed else _FAINT | {"color": color}
        entries.append(Line2D([], [], marker=marker, label=names[methods], **{"linestyle": "", **look}))
    if any(series.uniform for series in data.confirmed):
        entries.append(Line2D([], [], linestyle="", marker="o", label="hollow: uniform plan", **_look(_QUIET, uniform=True)))
    if data.trials:
        label = _wrapped(f"small, faint: search trials ({COLUMNS['val_top1']['label']})")
        entries.append(Line2D([], [], marker="o", color=_QUIET, label=label, **_FAINT))
    return entries


def _draw_budgets(axes: Axes, data: ParetoData) -> list[Line2D]:
    return [
        axes.axvline(share, color=_QUIET, linestyle=":", linewidth=1.2, label=f"budget: {share:g} % of dense")
        for share in data.budget_shares
    ]


def _frame(axes: Axes, data: ParetoData) -> None:
    axes.set_title(textwrap.fill(one_line(data.task), 70, max_lines=2, placeholder=" …"), loc="left", fontsize=11)
    axes.set_xlabel(f"{heading('flops')}, % of the dense network")
    axes.set_ylabel(heading("test_top1" if data.confirmed else "val_top1"))
    axes.grid(color="#000000", alpha=0.08)
    axes.spines[["top", "right"]].set_visible(False)
    if data.limits:
        axes.set_ylim(*data.limits)
    else:
        axes.text(0.5, 0.5, "no trial with a score yet", transform=axes.transAxes, ha="center", color=_QUIET)
    if data.below:
        note = f"▼ not shown: {data.below} search trial{'s' * (data.below > 1)} below {axes.get_ylim()[0]:.1f} %"
        axes.text(1, -0.14, note, transform=axes.transAxes, ha="right", va="top", fontsize=8.5, color=_QUIET)
