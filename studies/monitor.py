"""What a long command tells while it runs; silent unless the command line asks for more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from sconv_search.records import TrialRecord
    from sconv_search.training.loop import Progress as Step


def counted(number: float, noun: str) -> str:
    """A count with its noun: ``1 epoch``, ``0.5 epochs``, ``20 trials``."""
    amount = f"{number:g}" if isinstance(number, float) else str(number)
    return f"{amount} {noun}" if number == 1 else f"{amount} {noun}s"


class Monitor:
    """Says nothing."""

    def say(self, text: str) -> None:
        """One line of news."""

    @contextmanager
    def bar(self, label: str) -> Iterator[Step]:
        """A function of (steps done, steps in all) for the time of the context."""
        yield lambda done, total: None

    def recorded(self, record: TrialRecord) -> None:
        """A record was added to a run's folder."""


class RichMonitor(Monitor):
    """Lines and progress bars on the terminal; where the output is no terminal, lines alone. Bars may nest."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def say(self, text: str) -> None:
        """One line of news, without interpreting brackets as markup."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def bar(self, label: str) -> Iterator[Step]:
        """A bar that disappears when its work is done."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        hidden = not _is_watched(self.console)
        with Progress(*columns, console=self.console, transient=True, disable=hidden) as progress:
            bar = progress.add_task(label, total=None)

            def step(done: int, total: int) -> None:
                progress.update(bar, completed=done, total=total)

            yield step


def monitor_of(progress: bool | Monitor | None = None) -> Monitor:
    """Lines and bars on standard error, or in the notebook.

    Args:
        progress: whether there are any; by default, in a terminal and in a notebook. A monitor stays.
    """
    if isinstance(progress, Monitor):
        return progress
    console = Console(stderr=True)
    wanted = _is_watched(console) if progress is None else progress
    return RichMonitor(console) if wanted else Monitor()


def _is_watched(console: Console) -> bool:
    return console.is_terminal or console.is_jupyter
