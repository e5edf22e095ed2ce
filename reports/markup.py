"""Headings, paragraphs, pictures and tables as Markdown and as one HTML page; every text is escaped."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reports.words import one_line

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #ffffff; --line: #d5dae0; --quiet: #5b6570; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ec; --paper: #14171a; --line: #3a424a; --quiet: #9aa5b0; } }
body { margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color: var(--ink); background: var(--paper);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
img { max-width: 100%; height: auto; background: #ffffff; border-radius: 6px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: 0.5rem 0 1rem; font-size: 0.875rem; font-variant-numeric: tabular-nums;
  overflow-wrap: normal; }
th, td { padding: 0.3rem 0.6rem; border-bottom: 1px solid var(--line); vertical-align: top; text-align: left; }
th { color: var(--quiet); font-weight: 600; vertical-align: bottom; }
.number { text-align: right; }
td.number { white-space: nowrap; }
td { max-width: 34rem; }
"""
# The page needs nothing from outside and runs nothing: a browser is told so, in case an escape was missed.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@dataclass(frozen=True, kw_only=True)
class Heading:
    """A heading; level 1 is the title."""

    text: str
    level: int


@dataclass(frozen=True, kw_only=True)
class Paragraph:
    """A paragraph."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A PNG: Markdown links to the file, HTML holds it."""

    file: str
    alternative: str
    png: bytes


@dataclass(frozen=True, kw_only=True)
class Table:
    """Cells as text; the first ``texts`` columns are words, the others numbers and set right, but for ``last_is_text``."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: int = 1
    last_is_text: bool = False

    def is_number(self, column: int) -> bool:
        """Whether the column is set right."""
        return column >= self.texts and not (self.last_is_text and column == len(self.header) - 1)


Block = Heading | Paragraph | Picture | Table


def to_markdown(blocks: Iterable[Block]) -> str:
    """The document as GitHub Markdown."""
    return "\n\n".join(_markdown(block) for block in blocks) + "\n"


def to_html(title: str, blocks: Iterable[Block]) -> str:
    """The document as one page that needs no other file, light or dark as the reader's system is."""
    body = "\n".join(_html(block) for block in blocks)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def markdown_text(text: str) -> str:
    """The text on one line, with nothing in it that Markdown or the HTML inside it would act on."""
    quiet = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\|`*\[\]])", r"\\\1", quiet)


def _markdown(block: Block) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {markdown_text(block.text)}"
    if isinstance(block, Paragraph):
        return markdown_text(block.text)
    if isinstance(block, Picture):
        return f"![{markdown_text(block.alternative)}]({block.file})"
    rule = ["---:" if block.is_number(column) else "---" for column in range(len(block.header))]
    lines = [[markdown_text(cell) for cell in row] for row in (block.header, *block.rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))


def _html(block: Block) -> str:
    if isinstance(block, Heading):
        return f"<h{block.level}>{html.escape(block.text)}</h{block.level}>"
    if isinstance(block, Paragraph):
        return f"<p>{html.escape(block.text)}</p>"
    if isinstance(block, Picture):
        data = base64.b64encode(block.png).decode("ascii")
        return f'<p><img alt="{html.escape(block.alternative)}" src="data:image/png;base64,{data}"></p>'
    head = _html_row(block, block.header, "th")
    body = "\n".join(_html_row(block, row, "td") for row in block.rows)
    return f'<div class="scroll"><table>\n<thead>{head}</thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'


def _html_row(table: Table, cells: Sequence[str], tag: str) -> str:
    opened = [f'<{tag} class="number">' if table.is_number(column) else f"<{tag}>" for column in range(len(cells))]
    return f"<tr>{''.join(f'{start}{html.escape(cell)}</{tag}>' for start, cell in zip(opened, cells, strict=True))}</tr>"
