"""``sconv-search report`` and ``sconv-search compare``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sconv_search.reports import Change, report_changes, write_report
from sconv_search.studies.commands.output import print_json, telling, wide_enough
from sconv_search.studies.monitor import RichMonitor
from sconv_search.studies.runs.folder import require_not_of_a_run, told

NO_FIGURES = "none"
COLUMNS = ("change", "of", "before", "after", "difference")


def report(runs: list[Path], *, out: Path, figures: list[str] | None, overwrite: bool, as_json: bool) -> None:
    """Draws the comparison of runs, with its tables."""
    require_not_of_a_run(out)
    with telling(as_json) as monitor:
        result = reported(runs, out, monitor, figures=figures, overwrite=overwrite)
    if as_json:
        print_json(result)


def reported(
    runs: list[Path], out: Path, monitor: RichMonitor, *, figures: list[str] | None = None, overwrite: bool = False
) -> dict[str, Any]:
    """The report's files, which are written now.

    Args:
        figures: kinds of files; ``none`` stands for none at all.

    Raises:
        ValueError: ``none`` stands beside a kind.
    """
    if figures is not None and NO_FIGURES in figures:
        if set(figures) != {NO_FIGURES}:
            raise ValueError(f"--figures {NO_FIGURES} stands alone, got {', '.join(figures)}")
        figures = []
    with monitor.bar("drawing") as step:
        written = write_report(runs, out, step, figures=figures, overwrite=overwrite, tell=_tell)
    monitor.say(f"report: open {out / 'index.html'} ({len(written)} files)")
    return {"folder": out, "page": out / "index.html", "runs": runs, "files": written}


def _tell(messages: Sequence[str]) -> None:
    """Says on standard error what could not be read; the page lists all of it."""
    for message in told(messages):
        RichMonitor(Console(stderr=True)).say(message)


def compare(before: Path, after: Path, *, as_json: bool) -> None:
    """Prints what changed between two reports."""
    changes = report_changes(before, after)
    if as_json:
        print_json({"before": before, "after": after, "changed": bool(changes), "changes": changes})
    elif changes:
        _say_changes(changes, Console())
    else:
        print("nothing changed: verdicts, plans, scores, costs and effort are the same")


def _say_changes(changes: Sequence[Change], console: Console) -> None:
    console = wide_enough(console)  # in a pipe a line a change, for grep
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    for column in COLUMNS:
        table.add_column(column, overflow="fold")
    for change in changes:
        table.add_row(*map(Text, _cells(change)))
    console.print(table)


def _cells(change: Change) -> tuple[str, ...]:
    of = f"{change.subject}: {change.quantity}" if change.quantity else change.subject
    return change.kind, of, *change.words, change.difference
