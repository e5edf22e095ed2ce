"""The report folder: figures, tables and one page, from run folders."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from reports import words
from reports.figures import draw, rendered
from reports.markup import Block, Heading, Paragraph, Picture, Table, to_html, to_markdown
from reports.series import pareto_data
from reports.summary import counts, failures, summarize
from reports.table import Reading, read_runs

TITLE = "sconv-search report"
_Form = Callable[[Any], str]
_NETWORK_CELLS: dict[str, _Form] = {
    "label": words.text,
    "regularization": words.general,
    "seeds": words.amount,
    "test_top1": words.text,  # filled with mean ± deviation
    "difference": words.signed,
    "flops_share": words.tenths,
    "flops": words.amount,
    "macs": words.amount,
    "adds": words.amount,
    "params": words.amount,
    "latency_ms": words.thousandths,
    "speed_up": words.hundredths,
    "best_val_top1": words.hundredths,
}
_TRAINING_CELLS: dict[str, _Form] = {
    "label": words.text,
    "regularization": words.general,
    "epochs": words.general,
    "flops_share": words.tenths,
    "residual": words.general,
    "val_top1_before": words.hundredths,
    "val_top1_after": words.hundredths,
    "wall_s": words.duration,
}
_COUNT_CELLS: dict[str, _Form] = {
    "study": words.text,
    "stage": words.text,
    "label": words.text,
    "complete": words.text,
    "over_budget": words.text,
    "failed": words.text,
    "wall_s": words.duration,
}
_FAILURE_CELLS: dict[str, _Form] = {name: words.text for name in ("study", "stage", "label", "trials", "reason")}
_PROVENANCE = ("study", "seed", "budget", "machine", "versions", "commit")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_READING_AID = (
    "Test scores are mean ± sample standard deviation over seeds, from confirmation runs alone. "
    f"Rows marked '{words.VALIDATION_MARK.strip()}' are not confirmed yet: their score steered the search and flatters them. "
    f"'{words.MISSING}' means not measured."
)


@dataclass(frozen=True, kw_only=True)
class _Figure:
    stem: str
    png: bytes
    svg: bytes


def write_report(paths: Iterable[Path | str], out: Path | str) -> list[Path]:
    """The files written into ``out``: figures, ``summary.csv``, ``trials.csv``, ``summary.md`` and ``index.html``.

    Raises:
        FileNotFoundError: a run folder is missing or holds no ``trials.jsonl``.
        ValueError: no run folder is given, or no line of any is readable.
        NotADirectoryError: ``out``, or a folder above it, is a file.
        PermissionError: ``out`` may not be written to.
    """
    contents = report_files(read_runs(paths))
    folder = Path(out)
    _make_folder(folder)
    return [_write(folder / name, content) for name, content in contents.items()]


def report_files(reading: Reading) -> dict[str, bytes]:
    """File name -> content of the report; equal readings give equal bytes."""
    summary = summarize(reading.table)
    figures = _figures(reading.table, summary)
    blocks = _blocks(reading, summary, figures)
    files = {f"{figure.stem}.{kind}": getattr(figure, kind) for figure in figures.values() for kind in ("png", "svg")}
    texts = {
        "summary.csv": to_csv(summary),
        "trials.csv": to_csv(reading.table),
        "summary.md": to_markdown(blocks),
        "index.html": to_html(TITLE, blocks),
    }
    return files | {name: text.encode("utf-8") for name, text in texts.items()}


def to_csv(table: pd.DataFrame) -> str:
    """The table as CSV; a text that a spreadsheet would run as a formula gets a quote in front."""
    safe = table.copy()
    for name in safe.columns[safe.dtypes == "string"]:
        formula = safe[name].str.startswith(_FORMULA).fillna(False).astype(bool)
        safe[name] = safe[name].mask(formula, "'" + safe[name])
    return safe.to_csv(index=False, lineterminator="\n")


def _figures(table: pd.DataFrame, summary: pd.DataFrame) -> dict[str, _Figure]:
    made: dict[str, _Figure] = {}
    for task in sorted(table["task"].unique()):
        stem = _stem(task, {figure.stem.casefold() for figure in made.values()})
        figure = draw(pareto_data(table, summary, task))
        made[task] = _Figure(stem=stem, png=rendered(figure, "png"), svg=rendered(figure, "svg"))
    return made


def _stem(task: str, taken: set[str]) -> str:
    """A file name for the task's figure that every file system and link can hold, different from those taken."""
    stem = "pareto-" + re.sub(r"[^\w.]+", "-", task)[:60]
    names = [stem, *(f"{stem}-{number}" for number in range(2, len(taken) + 2))]
    return next(name for name in names if name.casefold() not in taken)


def _blocks(reading: Reading, summary: pd.DataFrame, figures: dict[str, _Figure]) -> list[Block]:
    blocks: list[Block] = [Heading(text=TITLE, level=1), Paragraph(text=_READING_AID)]
    for task, figure in figures.items():
        rows = reading.table[reading.table["task"] == task]
        picture = Picture(file=f"{figure.stem}.png", alternative=f"Top-1 against FLOPs kept, {task}", png=figure.png)
        blocks += [Heading(text=task, level=2), picture, *_task_blocks(rows, summary[summary["task"] == task])]
    if reading.dropped:
        messages = Table(header=["message"], rows=[[words.one_line(message)] for message in reading.dropped])
        blocks += [Heading(text="Dropped lines", level=2), messages]
    return blocks


def _task_blocks(rows: pd.DataFrame, summary: pd.DataFrame) -> list[Block]:
    if summary.empty:
        blocks: list[Block] = [Paragraph(text="No trial has a score yet.")]
    else:
        means = [words.spread(mean, std) for mean, std in zip(summary["test_top1"], summary["test_top1_std"], strict=True)]
        blocks = [Heading(text="Networks", level=3), _table(summary.assign(test_top1=means), _NETWORK_CELLS)]
        blocks += [Heading(text="Training (mean over seeds)", level=3), _table(summary, _TRAINING_CELLS)]
    blocks += [Heading(text="All trials", level=3), _table(counts(rows), _COUNT_CELLS, texts=3)]
    if len(failed := failures(rows)):
        blocks += [Heading(text="Failures", level=3), _table(failed, _FAILURE_CELLS, texts=3, last_is_text=True)]
    return [*blocks, Heading(text="Provenance", level=3), _provenance_table(rows)]


def _table(table: pd.DataFrame, forms: dict[str, _Form], *, texts: int = 1, last_is_text: bool = False) -> Table:
    rows = [[form(row[name]) for name, form in forms.items()] for _, row in table.iterrows()]
    return Table(header=[words.heading(name) for name in forms], rows=rows, texts=texts, last_is_text=last_is_text)


def _provenance_table(rows: pd.DataFrame) -> Table:
    values = {name: [words.text(value) for value in sorted(rows[name].dropna().unique())] for name in _PROVENANCE}
    cells = [[words.heading(name), "; ".join(found) or words.MISSING] for name, found in values.items()]
    return Table(header=["", "values"], rows=cells, texts=2)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise NotADirectoryError(
            f"cannot make report folder {folder}: it, or a folder above it, is a file; choose another"
        ) from error
    except PermissionError as error:
        raise PermissionError(
            f"cannot make report folder {folder}: no permission; make it writable or choose another"
        ) from error


def _write(file: Path, content: bytes) -> Path:
    try:
        file.write_bytes(content)
    except PermissionError as error:
        raise PermissionError(f"cannot write {file}: no permission; make it writable or choose another folder") from error
    except IsADirectoryError as error:
        raise IsADirectoryError(f"cannot write {file}: a folder has that name; remove it or choose another folder") from error
    return file
