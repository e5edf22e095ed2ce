"""``sconv-search tasks``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from sconv_search.records import Cost
from sconv_search.studies import tasks as known
from sconv_search.studies.commands.output import amount, print_json, telling, wide_enough
from sconv_search.studies.monitor import RichMonitor
from sconv_search.studies.task import Task

COSTS = Path(__file__).with_name("task_costs.json")
"""Costs of the built-in tasks' networks. Building and counting all of them takes ten seconds; a test counts them anew.
``python -m sconv_search.studies.commands.tasks`` writes the file.
"""


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
    input_shape: tuple[int, ...] | str
    metric: str
    cost: Cost
    short_epochs: float
    full_epochs: float
    data: str | None
    expected: str | None
    missing: str | None


def tasks(names: list[str] | None, *, data: Path | None, as_json: bool) -> None:
    """Lists tasks, named ones or all: networks, costs, metrics, schedules and data."""
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


def cost_of(task: Task) -> Cost:
    """The cost of the task's dense network: recorded for the networks of built-in tasks, measured for others."""
    recorded = json.loads(COSTS.read_text(encoding="utf-8")).get(_recipe(task))
    return measured(task) if recorded is None else Cost(**recorded)


def measured(task: Task) -> Cost:
    """The cost of the task's dense network, built and counted now."""
    from sconv_search.cost.counting import measure_cost  # here: with torch, which no recorded cost needs

    return measure_cost(task.network().eval(), task.input_shape)


def record_costs() -> str:
    """JSON of the costs of all built-in tasks' networks, measured now."""
    return json.dumps({_recipe(task): asdict(measured(task)) for task in known.TASKS.values()}, indent=1) + "\n"


def _recipe(task: Task) -> str:
    """What builds the network and on which input it is counted, as text; empty unless it is one of ours."""
    build = task.network
    if not isinstance(build, partial) or build.func.__module__ != known.__name__:
        return ""
    return f"{build.func.__name__}{build.args}{build.keywords or ''} on {task.shape}"


def _entry(task: Task, folder: Path | None) -> Entry:
    layout = task.layout
    return Entry(
        task=task.name,
        input_shape=task.shape,
        metric=task.metric.name,
        cost=cost_of(task),
        short_epochs=task.search_schedule.epochs,
        full_epochs=task.confirm_schedule.epochs,
        data=layout.title if layout else None,
        expected=layout.words if layout else None,
        missing=layout.missing(folder) if layout else None,
    )


def _say(entries: list[Entry], console: Console) -> None:
    console = wide_enough(console)
    table = Table("task", "input", "MACs", "additions", "parameters", "metric", "epochs", "data", box=SIMPLE_HEAD)
    for entry in entries:
        epochs = f"{entry.short_epochs:g}, {entry.full_epochs:g}"
        costs = (amount(entry.cost.macs), amount(entry.cost.adds), amount(entry.cost.params))
        table.add_row(entry.task, input_text(entry.input_shape), *costs, entry.metric, epochs, _state(entry))
    console.print(table)
    for title, expected in {entry.data: entry.expected for entry in entries if entry.data}.items():
        console.print(f"{title}: {expected}", markup=False, highlight=False, soft_wrap=True)
    console.print("epochs: of a trial, of a confirmation", highlight=False)


def input_text(shape: tuple[int, ...] | str) -> str:
    """A task's input, to read."""
    return shape if isinstance(shape, str) else "×".join(map(str, shape))


def _state(entry: Entry) -> str:
    if entry.data is None:
        return "comes along" if entry.task == "demo" else "the task's own"
    if entry.missing is None:
        return f"{entry.data}: found"
    return (
        f"{entry.data}: to be downloaded" if entry.missing.endswith("is downloaded there") else f"{entry.data}: missing"
    )


if __name__ == "__main__":
    COSTS.write_text(record_costs(), encoding="utf-8")
