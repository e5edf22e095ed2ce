"""What a figure shows, as plain numbers and words: two drawers read it, and tests need no pixel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median_high
from typing import Any, Literal

Kind = Literal["faint", "strong", "hollow", "steps", "line", "below"]
MOST_DOTS = 60
"""Points of a line that are drawn one by one; more would run together."""
Dash = Literal["solid", "dash", "dot", "dashdot"]


@dataclass(frozen=True, kw_only=True)
class Trace:
    """Points or a line.

    Args:
        look: what decides color and marker, such as a method's name.
        kind: ``faint`` and ``strong`` points, ``hollow`` ones, ``steps`` and ``line``, or ``below``: an arrow at the
            axis' edge for a point that lies outside of it.
        errors: standard deviations, None where there is none; empty for no error bars.
        texts: what hovering shows, a text a point.
        keys: what a click opens, a key a point; empty strings open nothing.
    """

    name: str
    look: str
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
    """A straight line across the figure at a value of one axis, with a band of ``deviation`` about it."""

    name: str
    at: float
    axis: Literal["x", "y"]
    dash: Dash = "dash"
    deviation: float | None = None


@dataclass(frozen=True, kw_only=True)
class Label:
    """A method's name beside its points, at the right edge at height ``y``."""

    text: str
    look: str
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
    scores: Sequence[float], *, typical: float = 4.0, least: float = 3.0, room: float = 0.06
) -> tuple[float, float]:
    """Ends of an axis of scores that no collapse squashes.

    It reaches below the best by ``typical`` times the upper median of the distances to the best, at least by ``least``
    points, and no further than the lowest score inside.
    """
    best = max(scores)
    floor = best - max(typical * median_high([best - score for score in scores]), least)
    low = min(score for score in scores if score >= floor)
    height = max(best - low, 0.5)
    return low - room * height, best + room * height


def split_below(trace: Trace, limit: float) -> list[Trace]:
    """The trace's points inside the axis, and those below its lower end as arrows at the edge; without error bars
    below.
    """
    inside = [place for place, value in enumerate(trace.y) if value >= limit]
    outside = [place for place, value in enumerate(trace.y) if value < limit]
    return [part for part in (_part(trace, inside), _part(trace, outside, limit)) if part.x]


def _part(trace: Trace, places: Sequence[int], limit: float | None = None) -> Trace:
    chosen: dict[str, Any] = {
        name: [values[place] for place in places] if len(values) else ()
        for name in ("x", "y", "errors", "texts", "keys")
        for values in (getattr(trace, name),)
    }
    if limit is not None:
        chosen |= {"y": [limit] * len(places), "errors": (), "kind": "below"}
    return replace(trace, **chosen)


def below_note(traces: Sequence[Trace], limit: float) -> list[str]:
    """How many points are drawn at the lower edge, in words; no note where there are none."""
    count = sum(len(trace.x) for trace in traces if trace.kind == "below")
    return [f"▼ {count} point{'s' * (count > 1)} below {limit:.2f} %, drawn at the edge"] if count else []


def spread_apart(heights: Sequence[float], gap: float, limits: tuple[float, float]) -> list[float]:
    """The heights moved as little as needed to lie ``gap`` apart, in the same order, within the limits where they
    fit.
    """
    order = sorted(range(len(heights)), key=lambda place: heights[place])
    low, high = limits
    moved = {}
    floor = low
    for place in order:
        floor = max(floor, min(heights[place], high))
        moved[place] = floor
        floor += gap
    ceiling = high
    for place in reversed(order):
        moved[place] = min(moved[place], ceiling)
        ceiling = moved[place] - gap
    return [moved[place] for place in range(len(heights))]


def thinned(count: int, most: int) -> list[int]:
    """Positions of at most ``most`` of ``count`` points, evenly spread, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return sorted({round(step * (count - 1) / (most - 1)) for step in range(most)})
