"""Drawings as SVG, PNG and PDF files, by matplotlib, in several processes: they take half of a large report's time."""

from __future__ import annotations

import gc
import io
import math
import multiprocessing
import os
import signal
import textwrap
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from sconv_search.reports.drawing.chart import Axis, Chart, HeatMap, Label, Trace
from sconv_search.reports.drawing.styles import QUIET, styles
from sconv_search.reports.wording import one_line
from sconv_search.system.parent_watch import end_with_parent
from sconv_search.system.signals import held_back

KINDS = ("svg", "png", "pdf")
USUAL_KINDS = ("svg", "png")
"""What is written unasked: drawing takes half of a large report's time, a third of that for each kind."""
DPI = 150
MOST_WORKERS = 4
_MOMENT = datetime(2000, 1, 1, tzinfo=UTC)
_OPTIONS: dict[str, dict[str, Any]] = {
    "svg": {"metadata": {"Date": None}},
    "png": {"metadata": {"Software": None}, "pil_kwargs": {"compress_level": 3}},
    "pdf": {"metadata": {"CreationDate": _MOMENT}},
}
"""So that the same figure gives the same bytes; a PNG that is compressed less is a fiftieth larger, in a third of the
time.
"""
# Fixed ids, whole texts as paths, and no "$" read as mathematics: task names are the user's. PDFs embed Type 3 fonts:
# TrueType (42) takes as long again as drawing, as each file's font is cut out of the whole one. Hinting letters for the
# pixels of a PNG takes a fifth of its time, and does little at 150 dots an inch.
_SETTINGS: Any = {
    "svg.hashsalt": "sconv-search",
    "svg.fonttype": "path",
    "text.parse_math": False,
    "pdf.fonttype": 3,
    "text.hinting": "none",
}
_DASHES: Any = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}
_FAINT: dict[str, Any] = {"linestyle": "", "markersize": 4, "markeredgewidth": 0, "alpha": 0.35}
_MOST_LEGEND = 24
_LABEL_LETTERS = 22
_LEGEND_COLUMNS = 3


def draw(drawing: Chart | HeatMap, heading: str = "") -> Figure:
    """The figure, on white, for print; ``heading`` stands above it."""
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(9, 5) if isinstance(drawing, Chart) else _size(drawing))
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        title = _wrapped(f"{heading}: {drawing.title}" if heading else drawing.title, 90)
        axes.set_title(
            title, loc="left", fontsize=11, y=1.0
        )  # without y its place is sought among all ticks, at every drawing
        if isinstance(drawing, Chart):
            _draw_chart(figure, axes, drawing)
        else:
            _draw_map(figure, axes, drawing)
        if drawing.notes:
            figure.text(0.01, 0.012, _notes(drawing), fontsize=8, color=QUIET, va="bottom")
        return figure


def _notes(drawing: Chart | HeatMap) -> str:
    return "\n".join(_wrapped(note, 130) for note in drawing.notes)


def _margins(
    figure: Figure, drawing: Chart | HeatMap, *, left: float, right: float, legend_rows: int = 0, bottom: float = 0.55
) -> float:
    """Sets the axes by the text around it, in inches, and returns the legend's height; a layout engine takes far
    longer.
    """
    width, height = figure.get_size_inches()
    notes = 0.16 * (_notes(drawing).count("\n") + 1) if drawing.notes else 0.0
    low = bottom + notes + 0.2 * legend_rows + 0.05
    top = 0.3 + 0.18 * max(0, figure.axes[0].get_title(loc="left").count("\n"))
    figure.subplots_adjust(left=left / width, right=1 - right / width, bottom=low / height, top=1 - top / height)
    return float((notes + 0.04) / height)


def require_kinds(kinds: Sequence[str]) -> None:
    """Raises ValueError for a kind of file that figures cannot be written as."""
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(f"figures are written as {', '.join(KINDS)}, or as none of these, got {kind!r}")


def rendered(figure: Figure, kind: str) -> bytes:
    """The figure as ``svg``, ``png`` or ``pdf``: the same figure gives the same bytes."""
    file = io.BytesIO()
    with matplotlib.rc_context(_SETTINGS):
        figure.savefig(file, format=kind, dpi=DPI, **_OPTIONS[kind])
    return file.getvalue()


def _wrapped(words: str, width: int) -> str:
    return textwrap.fill(one_line(words), width, max_lines=3, placeholder=" …")


def _draw_chart(figure: Figure, axes: Axes, chart: Chart) -> None:
    given = styles({trace.style for trace in chart.traces} | {label.style for label in chart.labels})
    rules = _draw_rules(axes, chart)
    for trace in chart.traces:
        _draw_trace(axes, trace, *given[trace.style], dotted=chart.dotted(trace))
    if chart.diagonal:
        axes.axline((0, 0), slope=1, color=QUIET, linewidth=0.8, zorder=1)
    _frame(axes.xaxis, axes, chart.x, "x")
    _frame(axes.yaxis, axes, chart.y, "y")
    axes.grid(color="#000000", alpha=0.08)
    axes.spines[["top", "right"]].set_visible(False)
    named = [_direct_label(axes, label, *given[label.style]) for label in chart.labels]
    entries = rules if named else [*rules, *_legend(chart, given)]
    if chart.labels and any(trace.kind == "hollow" for trace in chart.traces):
        marker_style = _marker_style(QUIET, hollow=True)
        entries = [*entries, Line2D([], [], linestyle="", marker="o", label="hollow: uniform plan", **marker_style)]
    if chart.labels and any(trace.kind == "faint" for trace in chart.traces):
        entries = [
            *entries,
            Line2D([], [], marker="o", color=QUIET, label="faint: search trials, validation", **_FAINT),
        ]
    rows = -(-min(len(entries), _MOST_LEGEND) // _LEGEND_COLUMNS)
    ticks = 0.15 * max((words.count("\n") for _, words in chart.x.ticks), default=0)
    label = 0.16 * axes.get_xlabel().count("\n")
    low = _margins(
        figure,
        chart,
        left=0.8 + 0.18 * axes.get_ylabel().count("\n"),
        right=2.1 if named else 0.2,
        legend_rows=rows,
        bottom=0.55 + ticks + label,
    )
    if entries:
        position: dict[str, Any] = {
            "loc": "lower left",
            "bbox_to_anchor": (0.01, low),
            "borderaxespad": 0,
            "borderpad": 0,
        }
        figure.legend(handles=entries[:_MOST_LEGEND], frameon=False, fontsize=8, ncols=_LEGEND_COLUMNS, **position)


def _draw_rules(axes: Axes, chart: Chart) -> list[Line2D]:
    made = []
    for rule in chart.rules:
        line, span = (axes.axhline, axes.axhspan) if rule.axis == "y" else (axes.axvline, axes.axvspan)
        if rule.deviation:
            span(rule.at - rule.deviation, rule.at + rule.deviation, color="#000000", alpha=0.06, linewidth=0)
        name = _wrapped(rule.name, 60)
        made.append(line(rule.at, color=QUIET, linestyle=_DASHES[rule.dash], linewidth=1.2, label=name, zorder=1.5))
    return made


def _draw_trace(axes: Axes, trace: Trace, color: str, marker: str, *, dotted: bool) -> None:
    if trace.kind == "faint":
        axes.plot(trace.x, trace.y, color=color, marker=marker, zorder=2, **_FAINT)
    elif trace.kind in ("steps", "line"):
        steps: dict[str, Any] = {"drawstyle": "steps-post"} if trace.kind == "steps" else {}
        if dotted:
            steps |= {"marker": marker, "markersize": 4, "markevery": max(1, len(trace.x) // 12)}
        axes.plot(trace.x, trace.y, color=color, linestyle=_DASHES[trace.dash], linewidth=1.4, zorder=3, **steps)
    elif trace.kind in ("below", "above"):
        arrow = "v" if trace.kind == "below" else "^"
        style: dict[str, Any] = {
            "linestyle": "",
            "marker": arrow,
            "markersize": 8 if trace.keys else 6,
            "clip_on": False,
        }
        axes.plot(
            trace.x, trace.y, color=color, alpha=1.0 if trace.keys else 0.75, markeredgewidth=0, zorder=5, **style
        )
    else:
        bars = [math.nan if deviation is None else deviation for deviation in trace.errors]
        if bars:
            axes.errorbar(trace.x, trace.y, yerr=bars, fmt="none", ecolor=color, capsize=3, capthick=1.3, zorder=4)
        marker_style = _marker_style(color, hollow=trace.kind == "hollow")
        axes.plot(trace.x, trace.y, linestyle="", marker=marker, zorder=5, **marker_style)


def _marker_style(color: str, *, hollow: bool) -> dict[str, Any]:
    face, edge, width = ("#FFFFFF", color, 1.6) if hollow else (color, "#FFFFFF", 0.6)
    return {"markerfacecolor": face, "markeredgecolor": edge, "markeredgewidth": width, "markersize": 8}


def _direct_label(axes: Axes, label: Label, color: str, marker: str) -> Line2D:
    transform: Any = axes.get_yaxis_transform()
    (line,) = axes.plot([1.02], [label.y], marker=marker, color=color, markersize=7, transform=transform, clip_on=False)
    axes.text(1.04, label.y, _wrapped(label.text, _LABEL_LETTERS), transform=transform, va="center", fontsize=9)
    return line


def _legend(chart: Chart, given: dict[str, tuple[str, str]]) -> list[Line2D]:
    """An entry a name: its line, its points, or both."""
    entries: dict[str, dict[str, Any]] = {}
    for trace in chart.traces:
        color, marker = given[trace.style]
        name = _wrapped(trace.name, 50)
        entry = {"color": color, "linestyle": "", "label": name}
        if trace.kind in ("steps", "line"):
            dots = {"marker": marker, "markersize": 4} if chart.dotted(trace) else {}
            entries[name] = entry | entries.get(name, {}) | {"linestyle": _DASHES[trace.dash]} | dots
        elif trace.kind != "faint":
            marker_style = _marker_style(color, hollow=trace.kind == "hollow")
            entries[name] = entry | entries.get(name, {}) | {"marker": marker} | marker_style
    return [Line2D([], [], **entry) for entry in entries.values()]


def _frame(own: Any, axes: Axes, axis: Axis, which: str) -> None:
    if axis.logarithmic:
        (axes.set_xscale if which == "x" else axes.set_yscale)("log")
        own.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        own.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        own.set_minor_formatter(NullFormatter())
    if axis.whole:
        own.set_major_locator(MaxNLocator(integer=True))
    if axis.limits:
        (axes.set_xlim if which == "x" else axes.set_ylim)(*axis.limits)
    if axis.ticks:
        own.set_ticks([tick for tick, _ in axis.ticks], labels=[words for _, words in axis.ticks])
    own.set_label_text(_wrapped(axis.label, 80 if which == "x" else 60))


def _size(drawing: HeatMap) -> tuple[float, float]:
    letters = max((len(one_line(name)[:40]) for name in drawing.rows), default=0)
    widest = max((len(text) for row in drawing.texts for text in row), default=0)
    column = max(1.3, 0.2 + 0.066 * widest)
    return min(2.6 + 0.075 * letters + column * len(drawing.columns), 16.0), min(
        max(1.6 + 0.24 * len(drawing.rows), 3.6), 30.0
    )


def _draw_map(figure: Figure, axes: Axes, drawing: HeatMap) -> None:
    values = [[math.nan if value is None else value for value in row] for row in drawing.values]
    low, high = drawing.limits
    # White where a value is missing, not transparent: at its edges PDF readers would draw a gray line.
    colors = matplotlib.colormaps["PuOr" if drawing.diverging else "cividis"].with_extremes(bad="#FFFFFF")
    image = axes.imshow(values, aspect="auto", cmap=colors, vmin=low, vmax=high, interpolation="nearest")
    axes.set_xticks(range(len(drawing.columns)), labels=[_wrapped(name, 16) for name in drawing.columns], fontsize=9)
    axes.set_yticks(range(len(drawing.rows)), labels=[one_line(name)[:40] for name in drawing.rows], fontsize=8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for row, (words, numbers) in enumerate(zip(drawing.texts, values, strict=True)):
        for column, (text, value) in enumerate(zip(words, numbers, strict=True)):
            if text:
                axes.text(column, row, one_line(text), ha="center", va="center", fontsize=8, color=_ink(drawing, value))
    letters = max((len(one_line(name)[:40]) for name in drawing.rows), default=0)
    lines = max((_wrapped(name, 16).count("\n") for name in drawing.columns), default=0)
    _margins(figure, drawing, left=0.35 + 0.078 * letters, right=1.2, bottom=0.25 + 0.17 * lines)
    box = axes.get_position()
    width = figure.get_size_inches()[0]
    scale = figure.add_axes((box.x1 + 0.15 / width, box.y0, 0.14 / width, box.height))
    figure.colorbar(image, cax=scale, label=one_line(drawing.label))


def _ink(drawing: HeatMap, value: float) -> str:
    """Black or white, whichever is read on the cell's color."""
    low, high = drawing.limits
    position = (value - low) / (high - low)
    dark = abs(position - 0.5) > 0.32 if drawing.diverging else position < 0.5
    return "#FFFFFF" if dark else "#000000"


@dataclass(frozen=True, kw_only=True)
class Job:
    """A drawing, the name of its files without ending, and the words above it."""

    stem: str
    drawing: Chart | HeatMap
    heading: str


@dataclass(frozen=True, kw_only=True)
class FigureWriter:
    """Draws what it is given, at once where there are processes for it; else when the files are asked for.

    Args:
        kinds: endings of the files.
        progress: called with (drawings done, drawings in all) while the files are gathered.
    """

    kinds: Sequence[str]
    pool: ProcessPoolExecutor | None = None
    progress: Callable[[int, int], None] | None = None
    _waiting: list[Callable[[], dict[str, bytes]]] = field(default_factory=list)

    def submit(self, job: Job) -> None:
        """Takes a drawing on."""
        future: Future[dict[str, bytes]] | None = None
        if self.pool is not None:
            with suppress(BrokenProcessPool):  # then it is drawn here
                future = self.pool.submit(job_files, job, self.kinds)
        self._waiting.append(lambda: self._drawn(job, future))

    def _drawn(self, job: Job, future: Future[dict[str, bytes]] | None) -> dict[str, bytes]:
        """The drawing's files; drawn here where there is no process for it, or it was killed, as for lack of memory."""
        if future is not None:
            with suppress(BrokenProcessPool):
                return future.result()
        return job_files(job, self.kinds)

    def files(self) -> dict[str, bytes]:
        """All drawings' files by name, in the order in which they were taken on: the same files whoever draws them."""
        files: dict[str, bytes] = {}
        for done, finished in enumerate(self._waiting, start=1):
            files |= finished()
            if self.progress is not None:
                self.progress(done, len(self._waiting))
        return files


@contextmanager
def figure_writer(kinds: Sequence[str], progress: Callable[[int, int], None] | None = None) -> Iterator[FigureWriter]:
    """A writer, to be opened before tables are read: its processes then share, and hold, none of them."""
    workers = min(MOST_WORKERS, _processors() - 1)  # one is busy with the tables
    if workers < 1 or not kinds:
        yield FigureWriter(kinds=kinds, progress=progress)
        return
    # Forked, so that a library's caller needs no guarded main module. The workers only draw, with what they are sent;
    # no collection of garbage walks what they share with their parent, which would copy it.
    forked = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(workers, mp_context=forked, initializer=_begin, initargs=(os.getpid(),)) as pool:
        with held_back():  # the processes, which the first job starts, are not to see Ctrl-C
            pool.submit(os.getpid)
        try:
            yield FigureWriter(kinds=kinds, pool=pool, progress=progress)
        except BaseException:
            # Who stops the command does not wait for all drawings, only for the one in work. Without the wait, the
            # interpreter's end may meet the pool's thread as it closes its pipe (CPython 3.11), and prints an OSError.
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _begin(parent: int) -> None:
    """What a worker does first: one whose command was killed would wait for ever, or draw on for minutes.

    What stops the command is the command's to tell; the worker ends without a word.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    end_with_parent(parent)
    gc.freeze()


def job_files(job: Job, kinds: Sequence[str]) -> dict[str, bytes]:
    """One drawing in every kind."""
    figure = draw(job.drawing, job.heading)
    return {f"figures/{job.stem}.{kind}": rendered(figure, kind) for kind in kinds}


def _processors() -> int:
    """Processors that this process may use; 1 where processes cannot be forked."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "fork") and hasattr(os, "sched_getaffinity") else 1
