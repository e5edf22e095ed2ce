"""``sconv-search search``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from sconv_search.budget import QUANTITIES
from sconv_search.records import Quantity
from sconv_search.structured.paper_plans import PAPER_PLANS
from sconv_search.studies.commands.arguments import (
    BudgetOption,
    CheckpointOption,
    DataOption,
    DeviceOption,
    ExcludeOption,
    IncludeOption,
    MultipleOption,
    QuantityOption,
    TaskOption,
    TensorBoardOption,
    WeightsOption,
    device_named,
    known_methods,
    start_of,
)
from sconv_search.studies.commands.config_file import ConfigOption
from sconv_search.studies.commands.dry_run_listing import say_dry_run
from sconv_search.studies.commands.failures import DebugOption
from sconv_search.studies.commands.processes import DevicesOption, together
from sconv_search.studies.commands.results import JsonOption, print_json, search_result, telling
from sconv_search.studies.context import require_data
from sconv_search.studies.granularity import Granularity
from sconv_search.studies.methods import METHODS
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.runs.folder import RunFolder
from sconv_search.studies.runs.tensorboard import logged
from sconv_search.studies.search.dry_run import dry_run
from sconv_search.studies.search.loop import StoppingCriterion
from sconv_search.studies.search.runner import checked_budget
from sconv_search.studies.search.runner import search as run_search
from sconv_search.studies.space.given_plans import given_plan
from sconv_search.studies.spec import SamplerName, StudySpec
from sconv_search.studies.tasks import task_named, with_network
from sconv_search.studies.trials.trial import join_trials
from sconv_search.training.checkpoint import EVERY_S
from sconv_search.training.distributed import is_main_process
from sconv_search.training.schedule import Schedule

DEFAULT_METHOD, DEFAULT_BUDGET = "structured_conv", "50%"


def search(
    out: Annotated[
        Path | None,
        typer.Option(help="The run's folder; an interrupted run in it continues. Needed but for a dry run."),
    ] = None,
    task: TaskOption = "demo",
    network: Annotated[
        str | None,
        typer.Option(
            help="Your own network in place of the task's: package.module:function, which returns it.", metavar="NAME"
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help=f"One of: {', '.join(METHODS)}; or package.module:Class for your own. Repeat it to mix methods site by"
            f" site. Default: {DEFAULT_METHOD}.",
            autocompletion=known_methods,
            metavar="NAME",
        ),
    ] = None,
    budget: BudgetOption = None,
    quantity: QuantityOption = "flops",
    include: IncludeOption = None,
    exclude: ExcludeOption = None,
    multiple: MultipleOption = 1,
    start_plan: Annotated[
        list[str] | None,
        typer.Option(
            help=(
                "Plan to try before all others: a JSON file, or one of the paper's by name, such as resnet18/A;"
                " repeat it "
                "for more. Else none."
            ),
            autocompletion=lambda: list(PAPER_PLANS),
            metavar="PLAN",
        ),
    ] = None,
    trials: Annotated[int, typer.Option(help="Number of trainings.")] = 20,
    sampler: Annotated[
        SamplerName, typer.Option(help="How plans are suggested; random is what others have to beat.")
    ] = "surrogate",
    granularity: Annotated[Granularity, typer.Option(help="Sites that are compressed alike.")] = "layer",
    screening: Annotated[
        int,
        typer.Option(help="Train the best one in so many plans, judged compressed and untrained; 1 trains all.", min=1),
    ] = 1,
    objective: Annotated[
        list[str] | None,
        typer.Option(
            help=f"What a front study sets against accuracy: {', '.join(QUANTITIES)}; repeat it for a second. Else the "
            "ranged quantity.",
            autocompletion=lambda: list(QUANTITIES),
            metavar="NAME",
        ),
    ] = None,
    latency_batch: Annotated[
        int, typer.Option(help="Inputs of a forward whose time a latency budget limits.", min=1)
    ] = 16,
    workers: Annotated[
        int, typer.Option(help="Processes that evaluate trials at the same time; they share the threads.", min=1)
    ] = 1,
    minutes: Annotated[float | None, typer.Option(help="Start no trial later than this. Else no limit.")] = None,
    patience: Annotated[
        int | None, typer.Option(help="Stop after so many trainings that improve nothing. Else never.")
    ] = None,
    epochs: Annotated[float | None, typer.Option(help="Epochs of a trial; else the task's short schedule.")] = None,
    confirm_epochs: Annotated[
        float | None, typer.Option(help="Epochs of a confirmation; else the task's full schedule.")
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(help="Peak of a trial's learning rate, where short trials want less; else the task's."),
    ] = None,
    confirm_learning_rate: Annotated[
        float | None, typer.Option(help="Peak of a confirmation's learning rate; else the task's.")
    ] = None,
    regularized_share: Annotated[
        str,
        typer.Option(
            help=(
                "Share of the epochs, 0 to 1, before compression, where a trial is regularized; '0.2..0.8' searches it."
            ),
            metavar="SHARE",
        ),
    ] = "0.5",
    distillation: Annotated[
        float, typer.Option(help="Share of the loss, 0 to 1, that imitates the dense network.")
    ] = 0.0,
    label_smoothing: Annotated[float, typer.Option(help="Share of each label, 0 to 1, spread over all classes.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of the sampler and of the trials' training.")] = 0,
    data: DataOption = None,
    weights: WeightsOption = None,
    device: DeviceOption = "auto",
    devices: DevicesOption = 1,
    checkpoint_seconds: CheckpointOption = EVERY_S,
    tensorboard: TensorBoardOption = None,
    dry: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Say what would be done: sites, costs, reachable budgets, a plan, schedules, missing data.",
        ),
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Search the best plan under a budget, or a front under a range; the same command continues an interrupted search.

    Example: sconv-search search --task demo --method structured_conv --budget 30% --trials 12 --out runs/structured
    """
    known = task_named(with_network(task, network))
    loss: dict[str, Any] = {"distillation": distillation, "label_smoothing": label_smoothing}
    methods = tuple(map(METHODS.add, method or [DEFAULT_METHOD]))
    plans = [given_plan(text, known.network(), methods).to_json() for text in start_plan or ()]
    spec = StudySpec(
        task=known.name,
        methods=methods,
        plans=tuple(plans),
        budget=",".join(budget or [DEFAULT_BUDGET]),
        quantity=quantity,
        trials=trials,
        seed=seed,
        include=tuple(include or ()),
        exclude=tuple(exclude or ()),
        multiple=multiple,
        sampler=sampler,
        granularity=granularity,
        screening=screening,
        **_share(regularized_share),
        objectives=cast(tuple[Quantity, ...], tuple(objective or ())),
        latency_batch=latency_batch,
        search_schedule=replace(_changed(known.search_schedule, epochs, learning_rate), **loss),
        confirm_schedule=replace(_changed(known.confirm_schedule, confirm_epochs, confirm_learning_rate), **loss),
    )
    if dry:
        with telling(as_json) as terminal:
            found = dry_run(known, spec, data, terminal)
        print_json(found) if as_json else say_dry_run(found, terminal)
        return
    if out is None:
        raise ValueError("a search needs a folder for its run; name one with --out, such as --out runs/first")
    folder, stops = (
        RunFolder(out),
        StoppingCriterion(seconds=None if minutes is None else 60 * minutes, patience=patience),
    )
    kind = device_named(device)
    require_data(known, data, weights)
    checked_budget(spec, known.network(), known.input_shape)  # before a dense network is trained for it
    if is_main_process():
        with folder.locked():
            pass
    schedules = (spec.search_schedule, *(() if weights else (known.dense_schedule,)))
    with together(devices, kind, schedules, workers=workers) as processes:
        beginning = (known.name, data, weights, device, out.parent)
        if not processes.is_main:
            join_trials(start_of(*beginning, Monitor(), processes))
            return
        with telling(as_json) as terminal, logged(terminal, tensorboard) as monitor:
            start = start_of(*beginning, monitor, processes, checkpoint_seconds)
            run_search(start, spec, folder, monitor, workers=workers, stops=stops, checkpoint_s=checkpoint_seconds)
            monitor.say(f"records: {out / 'trials.jsonl'}; next: sconv-search confirm {out}")
    if as_json:
        print_json(search_result(folder))


def _changed(schedule: Schedule, epochs: float | None, learning_rate: float | None) -> Schedule:
    """The task's schedule with what the command line says otherwise."""
    changed = schedule if epochs is None else replace(schedule, epochs=epochs)
    return changed if learning_rate is None else replace(changed, learning_rate=learning_rate)


def _share(text: str) -> dict[str, Any]:
    """The spec's fields of a share, such as 0.5, or of a range of shares, such as 0.2..0.8."""
    try:
        bounds = [float(part) for part in text.split("..")]
        low, high = bounds if len(bounds) == 2 else (*bounds, *bounds)
    except ValueError:
        raise ValueError(
            f"--regularized-share takes a share such as 0.5, or a range such as 0.2..0.8; got {text!r}"
        ) from None
    return {"regularized_share": low} if low == high else {"regularized_share_range": (low, high)}
