"""``sconv-search search``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from torch import nn

from sconv_search.cost.counting import require_forward, required_operators
from sconv_search.records import Quantity
from sconv_search.studies.commands.arguments import context_of, device_named
from sconv_search.studies.commands.dry_run_listing import say_dry_run
from sconv_search.studies.commands.output import print_json, telling
from sconv_search.studies.commands.processes import placement_of, require_processes, together
from sconv_search.studies.commands.results import search_result
from sconv_search.studies.commands.run_task import confirm_command
from sconv_search.studies.context import require_data
from sconv_search.studies.methods import METHODS
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.options.search import (
    DEFAULT_BUDGET,
    DEFAULT_METHOD,
    SHARES,
    BudgetAndLayers,
    NetworkAndData,
    Run,
    Sampling,
    Training,
)
from sconv_search.studies.options.shared import Execution, ManyMachines
from sconv_search.studies.runs.folder import RunFolder
from sconv_search.studies.runs.tensorboard import logged, require_tensorboard
from sconv_search.studies.samplers.database import StudyDatabase
from sconv_search.studies.search.dry_run import dry_run, require_reachable
from sconv_search.studies.search.loop import StoppingCriterion
from sconv_search.studies.search.runner import checked_budget, require_own
from sconv_search.studies.search.runner import search as run_search
from sconv_search.studies.space.given_plans import given_plan
from sconv_search.studies.spec import StudySpec
from sconv_search.studies.task import Task
from sconv_search.studies.tasks import DEFAULT_TASK, task_named, with_network
from sconv_search.studies.trials.trial import join_trials
from sconv_search.system.weights import load_weights_
from sconv_search.training.distributed import is_main_process
from sconv_search.training.schedule import Schedule


def search(
    run: Run,
    source: NetworkAndData,
    limits: BudgetAndLayers,
    sampling: Sampling,
    training: Training,
    execution: Execution,
    machines: ManyMachines,
    *,
    as_json: bool,
) -> None:
    """Searches plans within a budget, or continues the search in the run's folder; a dry run only says what it would
    do.
    """
    known = task_named(with_network(source.task, source.network, source.data))
    if not run.dry:
        require_data(known, source.data, source.weights)
    built = known.network()
    if source.network and source.task == DEFAULT_TASK and source.data is None:
        _require_digits(built, known, source.network)
    spec = _spec(known, built, limits, sampling, training, weights=source.weights is not None)
    for flag, value in (("--minutes", sampling.minutes), ("--patience", sampling.patience)):
        if value is not None and not value > 0:  # NaN is not
            raise ValueError(f"{flag} must be above 0, got {value}")
    kind = device_named(execution.device)
    if source.weights is not None:
        load_weights_(built, source.weights)  # whether they fit
    if execution.tensorboard is not None:
        require_tensorboard()
    folder = None if run.out is None else RunFolder(run.out)
    if folder is not None and not run.overwrite:
        require_own(spec, folder, begun=False)
    schedules = (spec.search_schedule, *(() if source.weights else (known.dense_schedule,)))
    require_processes(execution.devices, kind, schedules, workers=run.workers)
    placement = placement_of(machines, kind, execution.devices, run.workers)
    if run.storage is not None:
        StudyDatabase(run.storage)  # whether it is one
    if run.dry:
        with telling(as_json) as terminal:
            preview = dry_run(known, spec, source.data, terminal, weights=source.weights is not None)
        print_json(preview) if as_json else say_dry_run(preview, terminal)
        return
    if folder is None or run.out is None:
        raise ValueError("a search needs a folder for its run; name one with --out, such as --out runs/first")
    seconds = None if sampling.minutes is None else 60 * sampling.minutes
    stops = StoppingCriterion(seconds=seconds, patience=sampling.patience)
    checked_budget(spec, built, known.input_shape)  # before a dense network is trained for it
    if is_main_process():
        if source.weights is None and folder.read_space() is None:
            with telling(as_json) as terminal:
                require_reachable(known, spec, terminal)
        with folder.locked():
            pass
    with together(execution.devices, kind, schedules, workers=run.workers) as processes:
        beginning = (known.name, source.data, source.weights, execution.device, run.out.parent)
        if not processes.is_main:
            join_trials(context_of(*beginning, Monitor(), processes))
            return
        with telling(as_json) as terminal, logged(terminal, execution.tensorboard) as monitor:
            every_s = execution.checkpoint_seconds
            context = context_of(*beginning, monitor, processes, every_s)
            run_search(
                context,
                spec,
                folder,
                monitor,
                placement=placement,
                checkpoints=machines.checkpoints,
                storage=run.storage,
                stops=stops,
                checkpoint_s=every_s,
                overwrite=run.overwrite,
            )
            command = confirm_command(run.out, spec, source.data, source.weights, limits.method or ())
            monitor.say(f"records: {folder.trials}; next: {command}")
    if as_json:
        print_json(search_result(folder))


def _require_digits(network: nn.Module, task: Task, name: str) -> None:
    """Refuses a network that was named alone, and does not take the images of the task that is then meant."""
    try:
        require_forward(network.eval(), task.input_shape)
    except ValueError as error:
        raise ValueError(
            f"without --data and --task, {name} is searched on the demo's digits, which it does not take; give --data"
            f" FOLDER with photos, or --task: {error}"
        ) from error


def _spec(
    task: Task, network: nn.Module, limits: BudgetAndLayers, sampling: Sampling, training: Training, *, weights: bool
) -> StudySpec:
    """The study that the options describe.

    Args:
        weights: whether the dense network's are given.
    """
    methods = tuple(map(METHODS.add, limits.method or [DEFAULT_METHOD]))
    plans = [given_plan(text, network, methods).to_json() for text in sampling.start_plan or ()]
    loss = {**_taught(training, weights=weights), "label_smoothing": training.label_smoothing}
    short = _changed(task.search_schedule, training.epochs, training.learning_rate)
    full = _changed(task.confirm_schedule, training.confirm_epochs, training.confirm_learning_rate)
    return StudySpec(
        task=task.name,
        methods=methods,
        plans=tuple(plans),
        budget=",".join(limits.budget or [DEFAULT_BUDGET]),
        quantity=limits.quantity,
        objectives=cast(tuple[Quantity, ...], tuple(limits.objective or ())),
        latency_batch=limits.latency_batch,
        include=tuple(limits.include or ()),
        exclude=tuple(limits.exclude or ()),
        multiple=limits.multiple,
        count_free=required_operators(limits.count_free or ()),
        trials=sampling.trials,
        seed=sampling.seed,
        sampler=sampling.sampler,
        granularity=sampling.granularity,
        screening=sampling.screening,
        reconstruction=training.reconstruct,
        **_share(training.regularized_share),
        search_schedule=replace(short, **loss),
        confirm_schedule=replace(full, **loss),
    )


def _taught(training: Training, *, weights: bool) -> dict[str, Any]:
    """The fields of a schedule that say what is learned of the dense network."""
    automatic = "logits" if weights or training.distillation else "labels"
    chosen = automatic if training.distill == "auto" else training.distill
    share = SHARES[chosen] if training.distillation is None else training.distillation
    if chosen == "labels" and share > 0:
        raise ValueError(f"--distill labels reads nothing of the dense network: leave out --distillation {share:g}")
    return {"distillation": share, "teacher_loss": "logits" if chosen == "logits" else "soft_targets"}


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
