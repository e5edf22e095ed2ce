"""The report as one HTML page that needs no network: text, tables, plotly.js once, and every figure's data once."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sconv_search.reports.analysis.choice import answer_at, answers, question, unanswered
from sconv_search.reports.document.blocks import Block, Fold, Heading, Paragraph, Plot, Question, Table
from sconv_search.reports.drawing.chart import Drawing, Nothing
from sconv_search.reports.drawing.plotly_figures import figure_json, library

_TEMPLATES = Path(__file__).parent / "templates"
_LONG, _SHORT = 60, 24
"""Letters of a cell that may be broken anywhere, and of one that never is."""


def to_html(title: str, blocks: Sequence[Block]) -> str:
    """The page, light or dark as the reader's system is.

    A browser is told to load nothing and to run the page's own two scripts alone, in case an escape was missed.
    """
    style, script, plotly = _source("page.css"), _source("page.js"), library()
    figures, questions = _Figures(), [block.choice for block in blocks if isinstance(block, Question)]
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    views = [_view(block, figures, questions) for block in blocks]
    data = figures.data() | {"answers": [_answers_data(choice) for choice in questions]}
    return environment.get_template("page.html.jinja").render(
        title=title,
        blocks=views,
        style=style,
        script=script,
        plotly=plotly,
        policy=_policy(plotly, script),
        data=_json(data),
        sections=[block for block in blocks if isinstance(block, Heading) and block.anchor],
    )


def _source(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _policy(*scripts: str) -> str:
    digests = [base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii") for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src {allowed}"


def _json(data: Any) -> str:
    """The data as JSON that no text can break out of: ``<`` is written as an escape."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


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
                        trace[field] = [self._index(item) for item in trace[field]]
            self._drawings[key] = {"data": made["data"], "layout": made["layout"], "notes": list(drawing.notes)}
        return key

    def _index(self, item: Any) -> Any:
        if isinstance(item, list | tuple):
            return [self._index(entry) for entry in item]
        return self._texts.setdefault(str(item), len(self._texts))

    def data(self) -> dict[str, Any]:
        """Everything that the page draws from."""
        return {"figures": self._drawings, "texts": list(self._texts)}


def _view(block: Block, figures: _Figures, questions: Sequence[Any]) -> dict[str, Any]:
    """What the template needs of a block."""
    if isinstance(block, Heading):
        return {"kind": "heading", "block": block}
    if isinstance(block, Paragraph):
        return {"kind": "paragraph", "block": block}
    if isinstance(block, Question):
        given = answers(block.choice)
        if not given:
            return {"kind": "paragraph", "block": Paragraph(text=unanswered(block.choice), role="verdict")}
        before, after = question(block.choice)
        number = next(index for index, choice in enumerate(questions) if choice is block.choice)
        answer = answer_at(given, block.choice.tolerance)
        return {
            "kind": "question",
            "choice": block.choice,
            "answer": answer,
            "number": number,
            "before": before,
            "after": after,
        }
    if isinstance(block, Plot):
        return {"kind": "plot", **_plot(block, figures)}
    if isinstance(block, Fold):
        return {"kind": "fold", "block": block, "table": _table(block.inside)}
    return {"kind": "table", "table": _table(block)}


def _answers_data(choice: Any) -> list[dict[str, Any]]:
    return [
        {
            "least": answer.least,
            "smallest": answer.smallest,
            "fastest": answer.fastest,
            "path": answer.option.path,
            "command": answer.option.command,
            "key": answer.option.key,
        }
        for answer in answers(choice)
    ]


def _plot(block: Plot, figures: _Figures) -> dict[str, Any]:
    keys = {name: figures.add(drawing) for name, drawing in block.figure.drawings.items()}
    drawn = [name for name, drawing in block.figure.drawings.items() if not isinstance(drawing, Nothing)]
    # What opens first is a drawing that shows something, where there is one.
    return {
        "figure": block.figure,
        "task": block.task,
        "keys": keys,
        "first": [*drawn, *keys][0],
        "caption": block.figure.caption if drawn else "",
    }


def _table(table: Table) -> dict[str, Any]:
    """The cells, each with the class that decides how it may be broken, and with what its button copies."""
    return {
        "header": [(cell, _class(table, column, cell)) for column, cell in enumerate(table.header)],
        "rows": [_cells(table, number, row) for number, row in enumerate(table.rows)],
    }


def _cells(table: Table, number: int, row: Sequence[str]) -> list[tuple[str, str, str]]:
    made = []
    for column, (heading, cell) in enumerate(zip(table.header, row, strict=True)):
        shown = "command" if heading in table.commands and cell else _class(table, column, cell)
        made.append((cell, shown, table.copied[heading][number] if heading in table.copied else ""))
    return made


def _class(table: Table, column: int, cell: str) -> str:
    if table.is_number(column):
        return "number"
    return "long" if len(cell) > _LONG else "short" if len(cell) <= _SHORT else ""
