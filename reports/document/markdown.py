"""The report as GitHub Markdown; every text is escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from sconv_search.reports.analysis.choice import Choice, answer_at, answers, question, unanswered
from sconv_search.reports.document.blocks import Block, Fold, Heading, Paragraph, Plot, Question, Table
from sconv_search.reports.drawing.chart import Nothing
from sconv_search.reports.wording import one_line


def to_markdown(blocks: Iterable[Block], kinds: Sequence[str]) -> str:
    """The document as GitHub Markdown.

    Args:
        kinds: of figures' files that there are; PNG is shown before SVG, and PDF, which cannot be shown, linked.
    """
    shown = next((kind for kind in ("png", "svg", "pdf") if kind in kinds), None)
    return "\n\n".join(_markdown(block, shown) for block in blocks) + "\n"


def markdown_text(text: str) -> str:
    """The text on one line, with nothing in it that Markdown or the HTML inside it would act on."""
    quiet = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\|`*\[\]])", r"\\\1", quiet)


def _markdown(block: Block, shown: str | None) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {markdown_text(block.text)}"
    if isinstance(block, Paragraph):
        return (
            f"**{markdown_text(block.text)}**"
            if block.role in ("verdict", "banner alarm")
            else markdown_text(block.text)
        )
    if isinstance(block, Question):
        return _markdown_question(block.choice)
    if isinstance(block, Plot):
        return _markdown_plot(block, shown)
    if isinstance(block, Fold):
        return f"**{markdown_text(block.title)}**\n\n{table_markdown(block.inside)}"
    return table_markdown(block)


def _markdown_plot(block: Plot, shown: str | None) -> str:
    drawn = any(not isinstance(drawing, Nothing) for drawing in block.figure.drawings.values())
    lines = [
        f"**{markdown_text(block.figure.title)}.** {markdown_text(block.figure.caption) if drawn else ''}".rstrip()
    ]
    for name, drawing in block.figure.drawings.items():
        if isinstance(drawing, Nothing):
            lines.append(markdown_text(f"{drawing.title}: {drawing.reason}"))
        else:
            title = markdown_text(drawing.title)
            link = f"[{title}](figures/{block.stems[name]}.{shown})"
            lines.append(title if shown is None else link if shown == "pdf" else f"!{link}")
            lines += [markdown_text(note) for note in drawing.notes]
    return "\n\n".join(lines)


def table_markdown(table: Table) -> str:
    """The table as GitHub Markdown."""
    rule = ["---:" if table.is_number(column) else "---" for column in range(len(table.header))]
    lines = [[markdown_text(cell) for cell in row] for row in (table.header, *table.rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))


def _markdown_question(choice: Choice) -> str:
    given = answers(choice)
    if not given:
        return f"**{markdown_text(unanswered(choice))}**"
    answer, (before, after) = answer_at(given, choice.tolerance), question(choice)
    lines = [
        f"**{markdown_text(f'{before} {choice.tolerance_text} {after} {answer.smallest}')}**",
        markdown_text(answer.fastest),
    ]
    lines += [
        f"- {name}: {_code(text)}"
        for name, text in (("files", answer.option.path), ("export", answer.option.command))
        if text
    ]
    return "\n\n".join(line for line in lines if line)


def _code(text: str) -> str:
    """The text as code, in which Markdown acts on nothing but the fence."""
    quiet = one_line(text)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", quiet)), default=0))
    return f"{fence} {quiet} {fence}" if "`" in quiet else f"{fence}{quiet}{fence}"
