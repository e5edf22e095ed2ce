"""What a figure shows, as plain numbers and texts: matplotlib and plotly both draw it, and tests need no pixel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median_high
from typing import Any, Literal

from sconv_search.records import Metric

Kind = Literal["faint", "strong", "hollow", "steps", "line", "below", "above"]
MOST_DOTS = 60
"""Points of a line that are drawn one by one; more would run together."""
Dash = Literal["solid", "dash", "dot", "dashdot"]


@dataclass(frozen=True, kw_only=True)
class Trace:
    """Points or a line.

    Args:
        style: what decides color and marker, such as a method's name.
        kind: ``faint`` and ``strong`` points, ``hollow`` ones, ``steps`` and ``line``, or ``below`` and ``above``: an
            arrow at the axis' edge for a point that lies outside of it.
        errors: standard deviations, None where there is none; empty for no error bars.
        texts: what hovering shows, a text a point.
        keys: what a click opens, a key a point; empty strings open nothing.
    """

    name: str
    style: str
    kind: Kind
    x: Sequence[float]
    y: Sequence[float]
    errors: Sequence[float | None] = ()
    texts: Sequence[str] = ()
    keys: Sequence[str] = ()
    dash: Dash = "solid"


@dataclass(frozen=True, kw_only=True)
class Axis:
    """An axis; without limits they follow from the data.

    Args:
        ticks: positions and their words, where the axis holds categories.
        whole: the axis counts something, so that ticks stand at whole numbers alone.
    """

    label: str
    limits: tuple[float, float] | None = None
    logarithmic: bool = False
    ticks: Sequence[tuple[float, str]] = ()
    whole: bool = False


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A straight line across the figure at a value of one axis, with a band of ``deviation`` about it.

    Args:
        moves: whether the page moves it, to where the reader's tolerance is.
    """

    name: str
    at: float
    axis: Literal["x", "y"]
    dash: Dash = "dash"
    deviation: float | None = None
    moves: bool = False


@dataclass(frozen=True, kw_only=True)
class Label:
    """A method's name beside its points, at the right edge at height ``y``."""

    text: str
    style: str
    y: float


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A figure with two axes."""

    title: str
    x: Axis
    y: Axis
    traces: Sequence[Trace]
    rules: Sequence[Rule] = ()
    labels: Sequence[Label] = ()
    diagonal: bool = False
    notes: Sequence[str] = ()

    def dotted(self, trace: Trace) -> bool:
        """Whether a line shows its own small points: one with texts, unless larger points of its name lie upon it."""
        others = {other.name for other in self.traces if other.kind in ("strong", "hollow")}
        return bool(trace.texts) and len(trace.x) <= MOST_DOTS and trace.name not in others


@dataclass(frozen=True, kw_only=True)
class HeatMap:
    """A figure of colored cells with a text in each.

    Args:
        values: a list a row; None leaves the cell empty.
        limits: values of the scale's ends; a scale with 0 in its middle is drawn in two colors.
        label: what the colors mean.
    """

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float | None]]
    texts: Sequence[Sequence[str]]
    hovers: Sequence[Sequence[str]]
    label: str
    limits: tuple[float, float]
    notes: Sequence[str] = ()

    @property
    def diverging(self) -> bool:
        """Whether 0 lies between the ends."""
        return self.limits[0] < 0 < self.limits[1]


@dataclass(frozen=True, kw_only=True)
class Nothing:
    """A figure that cannot be drawn: the sentence stands in its place."""

    title: str
    reason: str


Drawing = Chart | HeatMap | Nothing


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One place in the report, with one drawing or several to switch between.

    Args:
        key: part of the file names, different in one section.
        drawings: name on the switch -> drawing.
        caption: how to read it.
    """

    key: str
    title: str
    drawings: Mapping[str, Drawing] = field(default_factory=dict)
    caption: str = ""


def robust_limits(
    scores: Sequence[float], metric: Metric, *, typical: float = 4.0, least: float = 3.0, room: float = 0.06
) -> tuple[float, float]:
    """Ends of an axis of scores, which no collapsed training stretches.

    It reaches beyond the best score by ``typical`` times the upper median of the distances to the best, at least by
    ``least`` points, and no further than the worst score inside.
    """
    qualities, point = [metric.quality(score) for score in scores], point_of(scores, metric)
    best = max(qualities)
    floor = best - max(typical * median_high([best - quality for quality in qualities]), least * point)
    low = min(quality for quality in qualities if quality >= floor)
    height = max(best - low, 0.5 * point)
    return ordered(metric.quality(low - room * height), metric.quality(best + room * height))


def point_of(scores: Sequence[float], metric: Metric) -> float:
    """One point where scores are in %; else a hundredth of the typical score: the smallest difference worth an axis."""
    return 1.0 if metric.unit == "%" else max(median_high([abs(score) for score in scores]) / 100, 1e-9)


def ordered(first: float, other: float) -> tuple[float, float]:
    """The two, the lower one first."""
    return min(first, other), max(first, other)


def worse_end(limits: tuple[float, float], metric: Metric) -> float:
    """The end of an axis of scores at which the worst stand."""
    return limits[0] if metric.better == "higher" else limits[1]


def split_at_edge(trace: Trace, limits: tuple[float, float], metric: Metric) -> list[Trace]:
    """The trace's points inside the axis, and those beyond its worse end as arrows there, without error bars."""
    edge = worse_end(limits, metric)
    beyond = [metric.quality(value) < metric.quality(edge) for value in trace.y]
    inside = _part(trace, [index for index, outside in enumerate(beyond) if not outside])
    arrows = _part(trace, [index for index, outside in enumerate(beyond) if outside])
    arrows = replace(
        arrows, y=[edge] * len(arrows.x), errors=(), kind="below" if metric.better == "higher" else "above"
    )
    return [part for part in (inside, arrows) if part.x]


def _part(trace: Trace, indices: Sequence[int]) -> Trace:
    columns = {name: getattr(trace, name) for name in ("x", "y", "errors", "texts", "keys")}
    chosen: dict[str, Any] = {
        name: [values[index] for index in indices] if len(values) else () for name, values in columns.items()
    }
    return replace(trace, **chosen)


def edge_notes(traces: Sequence[Trace], edge: str) -> list[str]:
    """How many points are drawn at the edge, in words; no note where there are none.

    Args:
        edge: the score there, as text.
    """
    notes = []
    for kind, arrow in (("below", "▼"), ("above", "▲")):
        count = sum(len(trace.x) for trace in traces if trace.kind == kind)
        notes += [f"{arrow} {count} point{'s' * (count > 1)} {kind} {edge}, drawn at the edge"] if count else []
    return notes


def spread_apart(heights: Sequence[float], gap: float, limits: tuple[float, float]) -> list[float]:
    """The heights moved as little as needed to lie ``gap`` apart, in the same order, within the limits where they
    fit.
    """
    order = sorted(range(len(heights)), key=lambda index: heights[index])
    low, high = limits
    moved = {}
    floor = low
    for index in order:
        floor = max(floor, min(heights[index], high))
        moved[index] = floor
        floor += gap
    ceiling = high
    for index in reversed(order):
        moved[index] = min(moved[index], ceiling)
        ceiling = moved[index] - gap
    return [moved[index] for index in range(len(heights))]


def thinned(count: int, most: int) -> list[int]:
    """Positions of at most ``most`` of ``count`` points, evenly spread, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return sorted({round(step * (count - 1) / (most - 1)) for step in range(most)})
