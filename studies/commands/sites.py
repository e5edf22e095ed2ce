"""``sconv-search sites``."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from torch import nn

from sconv_search.studies.commands.arguments import (
    ExcludeOption,
    IncludeOption,
    MultipleOption,
    known_methods,
    known_tasks,
)
from sconv_search.studies.commands.config_file import ConfigOption
from sconv_search.studies.commands.failures import DebugOption
from sconv_search.studies.commands.results import JsonOption, print_json, telling
from sconv_search.studies.commands.site_listing import say_sites
from sconv_search.studies.methods import METHODS
from sconv_search.studies.monitor import RichMonitor
from sconv_search.studies.selection import Selection
from sconv_search.studies.space.sites import site_table
from sconv_search.studies.task import Task
from sconv_search.studies.tasks import TASKS, task_named
from sconv_search.studies.user_code import made_by


def sites(
    network: Annotated[
        str,
        typer.Argument(
            help=f"A task ({', '.join(TASKS)}), or package.module:function, which returns a network or a Task; "
            "the current directory is searched too.",
            autocompletion=known_tasks,
        ),
    ],
    shape: Annotated[
        str | None,
        typer.Option(
            "--input",
            help="Shape of one input without the batch, such as 3,224,224; tasks know their own.",
            metavar="SHAPE",
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="Method to ask; repeat it for more. Else all are asked.", autocompletion=known_methods, metavar="NAME"
        ),
    ] = None,
    include: IncludeOption = None,
    exclude: ExcludeOption = None,
    multiple: MultipleOption = 1,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """List what each method can compress in a network, at what cost, and why the other layers stay as they are.

    Cost is a share of the layer's own FLOPs.

    Example: sconv-search sites torchvision.models:resnet18 --input 3,224,224
    """
    selection = Selection(include=tuple(include or ()), exclude=tuple(exclude or ()), multiple=multiple)
    with telling(as_json):  # the user's own function may print, too
        built, input_shape = _network(network, shape)
        monitor = RichMonitor(Console(stderr=True))  # the table alone goes into a pipe
        table = site_table(built, input_shape, tuple(map(METHODS.add, method or METHODS)), selection, monitor)
    if as_json:
        print_json(table)
    else:
        say_sites(table, Console())


def _network(text: str, shape: str | None) -> tuple[nn.Module, tuple[int, ...]]:
    """The network of a task or of a user's function, and the shape of its input."""
    given = None if shape is None else _shape(shape)
    task: Task | None = None
    if ":" not in text or "@" in text:
        task = task_named(text)
    else:
        made = made_by(text, nn.Module, Task)
        if isinstance(made, nn.Module):
            if given is None:
                raise ValueError(
                    f"{text!r} does not say what inputs it takes; give the shape of one, such as --input 3,224,224"
                )
            return made, given
        task = made
    return task.network(), given or tuple(task.input_shape)


def _shape(text: str) -> tuple[int, ...]:
    parts = text.replace("x", ",").split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise ValueError(f"--input must be positive whole numbers, such as 3,224,224 (without the batch), got {text!r}")
    return tuple(map(int, parts))
