"""``sconv-search search``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from sconv_search.training import Schedule
from studies.commands.arguments import (
    DataOption,
    DeviceOption,
    ExcludeOption,
    IncludeOption,
    MultipleOption,
    TaskOption,
    WeightsOption,
    start_of,
)
from studies.monitor import RichMonitor
from studies.run_folder import RunFolder
from studies.runner import checked_budget
from studies.runner import search as run_search
from studies.spec import StudySpec
from studies.tasks import task_named, with_network


def search(
    out: Annotated[Path, typer.Option(help="The run's folder; an interrupted run in it continues.")],
    task: TaskOption = "demo",
    network: Annotated[
        str | None, typer.Option(help="Your own network in place of the task's: package.module:function, which returns it.")
    ] = None,
    method: Annotated[list[str] | None, typer.Option(help="Method to search; repeat it to mix methods site by site.")] = None,
    budget: Annotated[
        str, typer.Option(help="Most that a plan may cost: a share of dense ('50%') or an amount ('41M').")
    ] = "50%",
    quantity: Annotated[Literal["flops", "macs", "params"], typer.Option(help="What the budget limits.")] = "flops",
    include: IncludeOption = None,
    exclude: ExcludeOption = None,
    multiple: MultipleOption = 1,
    trials: Annotated[int, typer.Option(help="Number of trainings.")] = 20,
    epochs: Annotated[float | None, typer.Option(help="Epochs of a trial; else the task's short schedule.")] = None,
    confirm_epochs: Annotated[
        float | None, typer.Option(help="Epochs of a confirmation; else the task's full schedule.")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Peak of a trial's learning rate; short trials want less.")
    ] = None,
    confirm_learning_rate: Annotated[float | None, typer.Option(help="Peak of a confirmation's learning rate.")] = None,
    distillation: Annotated[float, typer.Option(help="Share of the loss, 0 to 1, that imitates the dense network.")] = 0.0,
    label_smoothing: Annotated[float, typer.Option(help="Share of each label, 0 to 1, spread over all classes.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of the sampler and of the trials' training.")] = 0,
    data: DataOption = None,
    weights: WeightsOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Search the best plan under a budget.

    Example: sconv-search search --task demo --method structured_conv --budget 30% --trials 12 --out runs/structured
    """
    known = task_named(with_network(task, network))
    loss: dict[str, Any] = {"distillation": distillation, "label_smoothing": label_smoothing}
    spec = StudySpec(
        task=known.name, methods=tuple(method or ["structured_conv"]), budget=budget, quantity=quantity, trials=trials,
        seed=seed, include=tuple(include or ()), exclude=tuple(exclude or ()), multiple=multiple,
        search_schedule=replace(_changed(known.search_schedule, epochs, learning_rate), **loss),
        confirm_schedule=replace(_changed(known.confirm_schedule, confirm_epochs, confirm_learning_rate), **loss),
    )  # fmt: skip
    monitor, folder = RichMonitor(Console()), RunFolder(out)
    checked_budget(spec, known.network(), known.input_shape)  # before a dense network is trained for it
    with folder.locked():
        pass
    run_search(start_of(known.name, data, weights, device, out.parent, monitor), spec, folder, monitor)
    monitor.say(f"records: {out / 'trials.jsonl'}; next: sconv-search confirm {out}")


def _changed(schedule: Schedule, epochs: float | None, learning_rate: float | None) -> Schedule:
    """The task's schedule with what the command line says otherwise."""
    changed = schedule if epochs is None else replace(schedule, epochs=epochs)
    return changed if learning_rate is None else replace(changed, learning_rate=learning_rate)
