"""A report as blocks: headings, paragraphs, figures and tables, to Markdown, LaTeX and HTML; every text is escaped."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from sconv_search.reports.charts import Figure, Nothing
from sconv_search.reports.words import one_line

Look = Literal["", "verdict", "banner", "banner alarm", "caption"]
_LONG, _SHORT = 60, 24
"""Letters of a cell that may be broken anywhere, and of one that never is."""


@dataclass(frozen=True, kw_only=True)
class Heading:
    """A heading; level 1 is the title. One with an anchor stands in the page's navigation."""

    text: str
    level: int
    anchor: str = ""


@dataclass(frozen=True, kw_only=True)
class Paragraph:
    """A paragraph, in one of the page's looks."""

    text: str
    look: Look = ""


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A figure of the page: interactive there, PNG files in Markdown.

    Args:
        stems: name on the switch -> file name without its ending.
        task: stands above the figure in the files.
    """

    figure: Figure
    stems: dict[str, str]
    task: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Cells as text; the first ``texts`` columns are words, the others numbers and set right, but for ``last_is_text``.

    Args:
        key: name of the table's files; empty for one that has none.
        raw: the values behind the cells, for CSV.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: int = 1
    last_is_text: bool = False
    key: str = ""
    raw: pd.DataFrame | None = None

    def is_number(self, column: int) -> bool:
        """Whether the column is set right."""
        return column >= self.texts and not (self.last_is_text and column == len(self.header) - 1)


@dataclass(frozen=True, kw_only=True)
class Fold:
    """A block that is closed until it is asked for."""

    anchor: str
    title: str
    inside: Table


Block = Heading | Paragraph | Plot | Table | Fold


def to_markdown(blocks: Iterable[Block]) -> str:
    """The document as GitHub Markdown."""
    return "\n\n".join(_markdown(block) for block in blocks) + "\n"


def markdown_text(text: str) -> str:
    """The text on one line, with nothing in it that Markdown or the HTML inside it would act on."""
    quiet = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\|`*\[\]])", r"\\\1", quiet)


def _markdown(block: Block) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {markdown_text(block.text)}"
    if isinstance(block, Paragraph):
        return (
            f"**{markdown_text(block.text)}**"
            if block.look in ("verdict", "banner alarm")
            else markdown_text(block.text)
        )
    if isinstance(block, Plot):
        return _markdown_plot(block)
    if isinstance(block, Fold):
        return f"**{markdown_text(block.title)}**\n\n{table_markdown(block.inside)}"
    return table_markdown(block)


def _markdown_plot(block: Plot) -> str:
    drawn = any(not isinstance(drawing, Nothing) for drawing in block.figure.drawings.values())
    lines = [
        f"**{markdown_text(block.figure.title)}.** {markdown_text(block.figure.caption) if drawn else ''}".rstrip()
    ]
    for name, drawing in block.figure.drawings.items():
        if isinstance(drawing, Nothing):
            lines.append(markdown_text(f"{drawing.title}: {drawing.reason}"))
        else:
            lines.append(f"![{markdown_text(drawing.title)}](figures/{block.stems[name]}.png)")
            lines += [markdown_text(note) for note in drawing.notes]
    return "\n\n".join(lines)


def table_markdown(table: Table) -> str:
    """The table as GitHub Markdown."""
    rule = ["---:" if table.is_number(column) else "---" for column in range(len(table.header))]
    lines = [[markdown_text(cell) for cell in row] for row in (table.header, *table.rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))


_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "−": r"$-$",
    "–": "--",
    "λ": r"$\lambda$",
    "ρ": r"$\rho$",
    "→": r"$\rightarrow$",
    "×": r"$\times$",
    '"': r"\textquotedbl{}",
}


def latex_text(text: str) -> str:
    """The text on one line, with nothing in it that LaTeX would act on."""
    return "".join(_LATEX.get(letter, letter) for letter in one_line(text))


def table_latex(table: Table) -> str:
    """The table as a ``tabular`` with the rules of booktabs."""
    columns = "".join("r" if table.is_number(column) else "l" for column in range(len(table.header)))
    lines = [" & ".join(latex_text(cell) for cell in row) + r" \\" for row in (table.header, *table.rows)]
    body = "\n".join([r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"])
    return f"% needs \\usepackage{{booktabs}}\n\\begin{{tabular}}{{{columns}}}\n{body}\n\\end{{tabular}}\n"


def table_html(table: Table) -> str:
    """The table as HTML that scrolls by itself where it is wider than the page."""
    head = _html_row(table, table.header, "th")
    body = "\n".join(_html_row(table, row, "td") for row in table.rows)
    return f'<div class="scroll"><table>\n<thead>{head}</thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'


def _html_row(table: Table, cells: Sequence[str], tag: str) -> str:
    made = []
    for column, cell in enumerate(cells):
        look = (
            "number"
            if table.is_number(column)
            else "long"
            if len(cell) > _LONG
            else "short"
            if len(cell) <= _SHORT
            else ""
        )
        made.append(f"<{tag}{f' class={chr(34)}{look}{chr(34)}' if look else ''}>{html.escape(cell)}</{tag}>")
    return f"<tr>{''.join(made)}</tr>"
