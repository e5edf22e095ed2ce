"""Drawings for the page, as plotly.js takes them; the only user of plotly."""

from __future__ import annotations

import html
import math
import textwrap
from typing import Any

from sconv_search.reports.drawing.chart import Axis, Chart, HeatMap, Rule, Trace
from sconv_search.reports.drawing.styles import QUIET, styles
from sconv_search.reports.wording import one_line

_MARKERS = {
    "o": "circle",
    "s": "square",
    "^": "triangle-up",
    "D": "diamond",
    "v": "triangle-down",
    "P": "cross",
    "X": "x",
    "<": "triangle-left",
    ">": "triangle-right",
    "h": "hexagon",
    "p": "pentagon",
    "*": "star",
}
_GLYPHS = {
    "o": "●",
    "s": "■",
    "^": "▲",
    "D": "◆",
    "v": "▼",
    "P": "✚",
    "X": "✖",
    "<": "◀",
    ">": "▶",
    "h": "⬢",
    "p": "⬟",
    "*": "★",
}
# Cividis and PuOr, sampled: readable by the color-blind, and like those of the files.
_CIVIDIS = ["#00224e", "#2a3f6d", "#575d6d", "#7d7c78", "#a59c74", "#d3c064", "#fee838"]
_PURPLE_ORANGE = ["#7f3b08", "#e08214", "#fee0b6", "#f7f7f7", "#d8daeb", "#8073ac", "#2d004b"]
_LABEL_LETTERS = 20
_FEW_WHOLE = 12
"""Up to so many, each whole number is a tick; for more, plotly by itself steps by whole numbers."""
DIRECT, RULE, TOLERANCE = "direct", "rule", "tolerance"
"""Names of annotations, by which the page finds them on narrow screens; and of the line that it moves."""


def library() -> str:
    """plotly.js, whole.

    Raises:
        ModuleNotFoundError: plotly is not installed; the extra that brings it is named.
    """
    try:
        from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"a report's page needs {error.name}; pip install 'sconv-search[report]'") from error
    return str(get_plotlyjs())


def figure_json(drawing: Chart | HeatMap) -> dict[str, Any]:
    """The drawing as plotly's ``data`` and ``layout``, without colors of text and ground: the page sets those.

    Plain values, not ``plotly.graph_objects``, which are slow; a test lets them check every figure.
    """
    return _chart(drawing) if isinstance(drawing, Chart) else _map(drawing)


def safe(text: str) -> str:
    """The text as plotly shows it literally: it reads a little HTML."""
    return html.escape(text, quote=False).replace("\n", "<br>")


def _wrapped(text: str, width: int) -> str:
    return "<br>".join(safe(line) for line in textwrap.wrap(one_line(text), width))


def _chart(chart: Chart) -> dict[str, Any]:
    given = styles({trace.style for trace in chart.traces} | {label.style for label in chart.labels})
    named = _named(chart)
    data = [
        _trace(trace, *given[trace.style], legend=index in named, dotted=chart.dotted(trace))
        for index, trace in enumerate(chart.traces)
    ]
    data += [_legend_of(rule) for rule in chart.rules]
    layout = {
        "xaxis": _axis(chart.x, [value for trace in chart.traces for value in trace.x])
        | {"title": {"text": _wrapped(chart.x.label, 60), "standoff": 12}},
        "yaxis": _axis(chart.y, [value for trace in chart.traces for value in trace.y])
        | {"title": {"text": _wrapped(chart.y.label, 36), "standoff": 8}},
        "shapes": [shape for rule in chart.rules for shape in _shapes(rule)] + _diagonal(chart),
        "annotations": _direct_labels(chart, given)
        + [_rule_label(rule, chart) for rule in chart.rules if chart.labels],
        "showlegend": not chart.labels,
        "hovermode": "closest",
        "margin": {"l": 64, "r": _label_width(chart) if chart.labels else 16, "t": 24, "b": 56},
        "legend": {"orientation": "h", "x": 0, "y": -0.2, "yanchor": "top"},
        "meta": {"height": 460},
    }
    return {"data": data, "layout": layout}


def _label_width(chart: Chart) -> int:
    """Pixels for the longest line of a direct label, its marker included."""
    lines = [line for label in chart.labels for line in textwrap.wrap(one_line(label.text), _LABEL_LETTERS)]
    return 40 + 8 * max(map(len, lines), default=0)


def _named(chart: Chart) -> set[int]:
    """Positions of the traces that stand in the legend: one a name, the strongest that there is."""
    strength = {"strong": 0, "hollow": 1, "line": 2, "steps": 2, "faint": 3, "below": 4, "above": 4}
    order = sorted(range(len(chart.traces)), key=lambda index: (strength[chart.traces[index].kind], index))
    first: dict[str, int] = {}
    for index in order:
        first.setdefault(chart.traces[index].name, index)
    return set(first.values())


def _legend_of(rule: Rule) -> dict[str, Any]:
    """A trace without points, for the legend alone."""
    line = {"color": QUIET, "width": 1.5, "dash": rule.dash}
    return {
        "type": "scatter",
        "x": [None],
        "y": [None],
        "mode": "lines",
        "line": line,
        "name": safe(one_line(rule.name)),
        "hoverinfo": "skip",
    }


def _trace(trace: Trace, color: str, marker: str, *, legend: bool, dotted: bool) -> dict[str, Any]:
    lines = trace.kind in ("steps", "line")
    hollow = trace.kind == "hollow"
    size = {"faint": 5, "line": 5, "steps": 5, **dict.fromkeys(("below", "above"), 11 if trace.keys else 8)}.get(
        trace.kind, 11
    )
    beyond = {"below": "triangle-down", "above": "triangle-up"}.get(trace.kind, "")
    symbol = beyond or _MARKERS[marker] + ("-open" if hollow else "")
    style: dict[str, Any] = {
        "color": color,
        "symbol": symbol,
        "size": size,
        "line": {"width": 2 if hollow else 0, "color": color},
    }
    mode = "lines+markers" if dotted else "lines"
    made = {
        "type": "scatter",
        "name": safe(one_line(trace.name)),
        "legendgroup": safe(one_line(trace.name)),
        "showlegend": legend,
        "x": [_number(value) for value in trace.x],
        "y": [_number(value) for value in trace.y],
        "mode": mode if lines else "markers",
        "marker": style,
        "cliponaxis": not beyond,
        "opacity": 0.45 if trace.kind == "faint" else 0.75 if beyond and not trace.keys else 1.0,
        "hoverinfo": "text" if trace.texts else "skip",
        "meta": {"kind": trace.kind},
    }
    if lines:
        made["line"] = {
            "color": color,
            "width": 2,
            "dash": trace.dash,
            "shape": "hv" if trace.kind == "steps" else "linear",
        }
    if any(trace.errors):
        made["error_y"] = _bars(trace, color)
    if trace.texts:
        made["hovertext"] = [safe(text) for text in trace.texts]
    if trace.keys:
        made["customdata"] = list(trace.keys)
    return made


def _bars(trace: Trace, color: str) -> dict[str, Any]:
    return {
        "type": "data",
        "array": [error or 0 for error in trace.errors],
        "color": color,
        "thickness": 1.5,
        "width": 4,
    }


def _number(value: float) -> float | None:
    return float(f"{value:.7g}") if math.isfinite(value) else None


def _axis(axis: Axis, values: list[float]) -> dict[str, Any]:
    made: dict[str, Any] = {"type": "log" if axis.logarithmic else "linear", "zeroline": False, "automargin": True}
    if axis.logarithmic:
        ticks = _logarithmic_ticks(values)
        made |= {"tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}
    if axis.whole and max(values, default=0.0) <= _FEW_WHOLE:
        made |= {"dtick": 1}
    if axis.limits:  # rounded as the points are: one that lies on the edge must not fall out of it
        made |= {"range": [math.log10(value) if axis.logarithmic else _number(value) for value in axis.limits]}
    if axis.ticks:
        made |= {"tickvals": [at for at, _ in axis.ticks], "ticktext": [safe(words) for _, words in axis.ticks]}
    return made


def _logarithmic_ticks(values: list[float]) -> list[float]:
    """1, 2 and 5 of each decade in sight, in full: plotly by itself writes the 5 of 0.05 as 5."""
    known = [value for value in values if value > 0]
    if not known:
        return []
    decades = range(math.floor(math.log10(min(known))) - 1, math.ceil(math.log10(max(known))) + 1)
    steps = (1, 2, 5) if len(decades) < 6 else (1,)
    return [float(f"{step}e{decade}") for decade in decades for step in steps]


def _shapes(rule: Rule) -> list[dict[str, Any]]:
    across = {"x0": 0, "x1": 1, "xref": "paper"} if rule.axis == "y" else {"y0": 0, "y1": 1, "yref": "paper"}
    low, high = ("y0", "y1") if rule.axis == "y" else ("x0", "x1")
    line = {"type": "line", **across, low: rule.at, high: rule.at, "layer": "below"}
    named = {"name": TOLERANCE} if rule.moves else {}
    made = [line | named | {"line": {"color": QUIET, "width": 1.5, "dash": rule.dash}}]
    if rule.deviation:
        band = {
            "type": "rect",
            **across,
            low: rule.at - rule.deviation,
            high: rule.at + rule.deviation,
            "layer": "below",
        }
        made.append(band | {"fillcolor": QUIET, "opacity": 0.15, "line": {"width": 0}})
    return made


def _diagonal(chart: Chart) -> list[dict[str, Any]]:
    if not chart.diagonal:
        return []
    return [
        {"type": "line", "x0": 0, "y0": 0, "x1": 100, "y1": 100, "layer": "below", "line": {"color": QUIET, "width": 1}}
    ]


def _direct_labels(chart: Chart, given: dict[str, tuple[str, str]]) -> list[dict[str, Any]]:
    made = []
    for label in chart.labels:
        color, marker = given[label.style]
        text = f'<span style="color:{color}">{_GLYPHS[marker]}</span> {_wrapped(label.text, _LABEL_LETTERS)}'
        position = {"x": 1.01, "xref": "paper", "xanchor": "left", "y": label.y, "yanchor": "middle", "align": "left"}
        made.append({"name": DIRECT, "text": text, "showarrow": False, **position})
    return made


def _rule_label(rule: Rule, chart: Chart) -> dict[str, Any]:
    """The rule's name at its left or lower end: above the highest line, below the others, so that near ones do not
    meet; of two that are equally high, above the first.
    """
    at = math.log10(rule.at) if rule.axis == "x" and chart.x.logarithmic else rule.at
    highest = max((other for other in chart.rules if other.axis == "y"), key=lambda other: other.at, default=rule)
    above = "bottom" if rule is highest else "top"
    position: dict[str, Any] = {"y": at, "x": 0.004, "xref": "paper", "xanchor": "left", "yanchor": above}
    if rule.axis == "x":
        position = {"x": at, "y": 0.004, "yref": "paper", "xanchor": "left", "yanchor": "bottom"}
    return {
        "name": TOLERANCE if rule.moves else RULE,
        "text": safe(one_line(rule.name)),
        "showarrow": False,
        "font": {"size": 11},
        **position,
    }


def _map(drawing: HeatMap) -> dict[str, Any]:
    colors = _PURPLE_ORANGE if drawing.diverging else _CIVIDIS
    positions = [index / (len(colors) - 1) for index in range(len(colors))]
    low, high = drawing.limits
    letters = max(12, 110 // len(drawing.columns))
    heat = {
        "type": "heatmap",
        "z": [[None if value is None else _number(value) for value in row] for row in drawing.values],
        "x": list(range(len(drawing.columns))),
        "y": list(range(len(drawing.rows))),
        "xgap": 2,
        "ygap": 1,
        "text": [[safe(text) for text in row] for row in drawing.texts],
        "texttemplate": "%{text}",
        "hoverinfo": "text",
        "hovertext": [[safe(text) for text in row] for row in drawing.hovers],
        "zmin": low,
        "zmax": high,
        "colorscale": [list(pair) for pair in zip(positions, colors, strict=True)],
        "colorbar": {"title": {"text": _wrapped(drawing.label, 26), "side": "right"}, "thickness": 12, "len": 1.0},
    }
    layout = {
        "xaxis": {
            "tickvals": heat["x"],
            "ticktext": [_wrapped(name, letters) for name in drawing.columns],
            "showgrid": False,
            "zeroline": False,
            "side": "top",
            "fixedrange": True,
            "automargin": True,
            "ticklabeloverflow": "allow",
        },
        "yaxis": {
            "tickvals": list(range(len(drawing.rows))),
            "ticktext": [safe(one_line(name)[:40]) for name in drawing.rows],
            "autorange": "reversed",
            "showgrid": False,
            "zeroline": False,
            "automargin": True,
            "fixedrange": True,
        },
        "margin": {"l": 40, "r": 10, "t": 40, "b": 16},
        "meta": {"height": 110 + 24 * max(len(drawing.rows), 6)},
    }
    return {"data": [heat], "layout": layout}
