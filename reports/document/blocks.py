"""A report as blocks: headings, paragraphs, answers, figures and tables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pandas as pd

from sconv_search.reports.analysis.choice import Choice
from sconv_search.reports.drawing.chart import Figure

Role = Literal["", "verdict", "banner", "banner alarm", "caption"]
"""What a paragraph is for; the page gives each role its looks."""


@dataclass(frozen=True, kw_only=True)
class Heading:
    """A heading; level 1 is the title. One with an anchor stands in the page's navigation."""

    text: str
    level: int
    anchor: str = ""


@dataclass(frozen=True, kw_only=True)
class Paragraph:
    """A paragraph of text."""

    text: str
    role: Role = ""


@dataclass(frozen=True, kw_only=True)
class Question:
    """Which network to take; in the page the reader changes what it may lose."""

    choice: Choice


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A figure of the page: interactive there, a file in Markdown.

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
        commands: headings of the columns that hold commands or paths, which the page offers to copy.
        copied: heading -> what a button beside each of the column's cells copies; empty texts have no button.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: int = 1
    last_is_text: bool = False
    key: str = ""
    raw: pd.DataFrame | None = None
    commands: Sequence[str] = ()
    copied: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def is_number(self, column: int) -> bool:
        """Whether the column is set right."""
        return column >= self.texts and not (self.last_is_text and column == len(self.header) - 1)


@dataclass(frozen=True, kw_only=True)
class Fold:
    """A block that is closed until it is asked for."""

    anchor: str
    title: str
    inside: Table


Block = Heading | Paragraph | Question | Plot | Table | Fold


def placed(figure: Figure, stem: str, task: str) -> Plot:
    """The figure with names for the files of its drawings.

    Args:
        stem: with which the task's files begin.
    """
    stems: dict[str, str] = {}
    for name in figure.drawings:
        own = re.sub(r"\W+", "-", name.replace("λ", "lambda"))[:60].strip("-").lower()
        wanted = "-".join(part for part in (stem, figure.key, own if len(figure.drawings) > 1 else "") if part)
        number = sum(other == wanted or other.startswith(f"{wanted}~") for other in stems.values())
        stems[name] = f"{wanted}~{number + 1}" if number else wanted
    return Plot(figure=figure, stems=stems, task=task)
