"""The report as one HTML page that needs no network: text, tables, plotly.js once, and every figure's data once."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sconv_search.reports.charts import Drawing, Nothing
from sconv_search.reports.interactive import figure_json, library
from sconv_search.reports.markup import Block, Fold, Heading, Paragraph, Plot, Table, table_html

_ASSETS = Path(__file__).parent / "assets"


def to_html(title: str, blocks: Sequence[Block]) -> str:
    """The page, light or dark as the reader's system is.

    A browser is told to load nothing and to run the page's own two scripts alone, in case an escape was missed.
    """
    style, script, plotly = _asset("page.css"), _asset("page.js"), library()
    policy = (
        f"default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src {_hash(plotly)}"
        f" {_hash(script)}"
    )
    figures = _Figures()
    body = "\n".join(_html(block, figures) for block in blocks)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
        f"<title>{html.escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n{_navigation(blocks, body)}\n"
        '<noscript><p class="banner">The figures need JavaScript; they lie beside this page as files,'
        " too.</p></noscript>\n"
        f'<script type="application/json" id="figures">{figures.to_json()}</script>\n'
        f"<script>{plotly}</script>\n<script>{script}</script>\n</body>\n</html>\n"
    )


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


class _Figures:
    """The data of all drawings, and each hover text once: the drawings of one switch share most of theirs."""

    def __init__(self) -> None:
        self._drawings: dict[str, dict[str, Any]] = {}
        self._texts: dict[str, int] = {}

    def add(self, drawing: Drawing) -> str:
        """Keeps the drawing; returns the name by which the page finds it."""
        key = f"f{len(self._drawings)}"
        if isinstance(drawing, Nothing):
            self._drawings[key] = {"missing": drawing.reason}
        else:
            made = figure_json(drawing)
            for trace in made["data"]:
                for field in ("hovertext", "text"):
                    if isinstance(trace.get(field), list | tuple):
                        trace[field] = [self._place(item) for item in trace[field]]
            self._drawings[key] = {"data": made["data"], "layout": made["layout"], "notes": list(drawing.notes)}
        return key

    def _place(self, item: Any) -> Any:
        if isinstance(item, list | tuple):
            return [self._place(one) for one in item]
        return self._texts.setdefault(str(item), len(self._texts))

    def to_json(self) -> str:
        """Everything as JSON that no text can break out of: ``<`` is written as an escape."""
        whole = {"figures": self._drawings, "texts": list(self._texts)}
        text = json.dumps(whole, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _navigation(blocks: Sequence[Block], body: str) -> str:
    """The body with links to its parts put below the title."""
    parts = [block for block in blocks if isinstance(block, Heading) and block.anchor]
    items = "".join(f'<li><a href="#{html.escape(part.anchor)}">{html.escape(part.text)}</a></li>' for part in parts)
    head, mark, rest = body.partition("</h1>")
    return f"{head}{mark}\n<nav><ul>{items}</ul></nav>\n{rest}"


def _html(block: Block, figures: _Figures) -> str:
    if isinstance(block, Heading):
        anchor = f' id="{html.escape(block.anchor)}"' if block.anchor else ""
        return f"<h{block.level}{anchor}>{html.escape(block.text)}</h{block.level}>"
    if isinstance(block, Paragraph):
        look = f' class="{block.look}"' if block.look else ""
        return f"<p{look}>{html.escape(block.text)}</p>"
    if isinstance(block, Plot):
        return _html_plot(block, figures)
    if isinstance(block, Fold):
        title = html.escape(block.title)
        return (
            f'<details id="{html.escape(block.anchor)}"><summary>{title}</summary>{table_html(block.inside)}</details>'
        )
    assert isinstance(block, Table)
    return table_html(block)


def _html_plot(block: Plot, figures: _Figures) -> str:
    keys = {name: figures.add(drawing) for name, drawing in block.figure.drawings.items()}
    # What opens first is a drawing that shows something, where there is one.
    first = next(
        (name for name, drawing in block.figure.drawings.items() if not isinstance(drawing, Nothing)), next(iter(keys))
    )
    buttons = "".join(
        f'<button type="button" data-figure="{key}"'
        f' aria-pressed="{str(name == first).lower()}">{html.escape(name)}</button>'
        for name, key in keys.items()
    )
    switch = (
        f'<div class="switch" role="group" aria-label="What the figure shows">{buttons}</div>' if len(keys) > 1 else ""
    )
    label = html.escape(block.figure.title)
    drawn = any(not isinstance(drawing, Nothing) for drawing in block.figure.drawings.values())
    caption = f'<p class="caption">{html.escape(block.figure.caption)}</p>' if drawn else ""
    return (
        f'<div class="figure" data-key="{html.escape(block.figure.key)}"><h4>{label}</h4>{switch}'
        f'<div class="holder"><div class="plot" role="img" aria-label="{label}" data-figure="{keys[first]}"></div>'
        f'<p class="missing" hidden></p><div class="chosen"></div><p class="note"></p></div>'
        f"{caption}</div>"
    )
