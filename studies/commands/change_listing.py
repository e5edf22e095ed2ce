"""The table of what changed between two reports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sconv_search.studies.commands.site_listing import PIPE_WIDTH, in_a_pipe

COLUMNS = ("change", "of", "before", "after", "difference")


def say_changes(changes: Iterable[Sequence[str]], console: Console) -> None:
    """Prints a row a change, with an entry for each of ``COLUMNS``."""
    if in_a_pipe(console):
        console = Console(file=console.file, width=PIPE_WIDTH)  # a line a change, for grep
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    for column in COLUMNS:
        table.add_column(column, overflow="fold")
    for change in changes:
        table.add_row(*map(Text, change))
    console.print(table)
