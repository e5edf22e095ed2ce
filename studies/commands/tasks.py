"""``sconv-search tasks``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from sconv_search.cost.counting import measure_cost
from sconv_search.records import Cost
from sconv_search.studies import tasks as known
from sconv_search.studies.commands.arguments import DataOption, known_tasks
from sconv_search.studies.commands.config_file import ConfigOption
from sconv_search.studies.commands.failures import DebugOption
from sconv_search.studies.commands.results import JsonOption, print_json, telling
from sconv_search.studies.commands.site_listing import PIPE_WIDTH, amount, in_a_pipe
from sconv_search.studies.monitor import RichMonitor
from sconv_search.studies.task import Task


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A task in the list.

    Args:
        cost: of the dense network, for one input.
        short_epochs: of a trial.
        full_epochs: of a confirmation.
        data: the data set's name; None where it comes with the package.
        expected: its files, in words.
        missing: which of them are missing; None where none is.
    """

    task: str
    input_shape: tuple[int, ...]
    metric: str
    cost: Cost
    short_epochs: float
    full_epochs: float
    data: str | None
    expected: str | None
    missing: str | None


def tasks(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Tasks to list, yours too. Else all named ones.", autocompletion=known_tasks),
    ] = None,
    data: DataOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """List the tasks: their networks' costs, how they are scored and trained, what data they want and where it is
    expected.

    Example: sconv-search tasks imagenet/resnet18 --data DIR
    """
    with telling(as_json):
        chosen = [known.task_named(name) for name in names or known.TASKS]
        entries = []
        with RichMonitor(Console(stderr=True)).bar("measuring networks") as step:
            for done, task in enumerate(chosen, start=1):
                entries.append(_entry(task, data))
                step(done, len(chosen))
    if as_json:
        print_json(entries)
    else:
        _say(entries, Console())


def _entry(task: Task, folder: Path | None) -> Entry:
    layout = task.layout
    return Entry(
        task=task.name,
        input_shape=tuple(task.input_shape),
        metric=task.metric.name,
        cost=measure_cost(task.network().eval(), task.input_shape),
        short_epochs=task.search_schedule.epochs,
        full_epochs=task.confirm_schedule.epochs,
        data=layout.title if layout else None,
        expected=layout.words if layout else None,
        missing=layout.missing(folder) if layout else None,
    )


def _say(entries: list[Entry], console: Console) -> None:
    if in_a_pipe(console):
        console = Console(file=console.file, width=PIPE_WIDTH)
    table = Table("task", "input", "MACs", "additions", "parameters", "metric", "epochs", "data", box=SIMPLE_HEAD)
    for one in entries:
        epochs = f"{one.short_epochs:g}, {one.full_epochs:g}"
        costs = (amount(one.cost.macs), amount(one.cost.adds), amount(one.cost.params))
        table.add_row(one.task, "×".join(map(str, one.input_shape)), *costs, one.metric, epochs, _state(one))
    console.print(table)
    for title, expected in {one.data: one.expected for one in entries if one.data}.items():
        console.print(f"{title}: {expected}", markup=False, highlight=False, soft_wrap=True)
    console.print("epochs: of a trial, of a confirmation", highlight=False)


def _state(one: Entry) -> str:
    if one.data is None:
        return "comes along" if one.task == "demo" else "the task's own"
    if one.missing is None:
        return f"{one.data}: found"
    return f"{one.data}: to be downloaded" if one.missing.endswith("is downloaded there") else f"{one.data}: missing"
