"""``sconv-search confirm``."""

from __future__ import annotations

from pathlib import Path
from shlex import join

from sconv_search.studies.commands.arguments import context_of, device_named, spec_of
from sconv_search.studies.commands.output import print_json, telling
from sconv_search.studies.commands.processes import placement_of, together
from sconv_search.studies.commands.results import confirm_result
from sconv_search.studies.commands.run_task import task_of
from sconv_search.studies.confirmation import confirm as confirm_runs
from sconv_search.studies.method_registry import METHODS
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.options.shared import Execution, ManyMachines, RunTask
from sconv_search.studies.runs.folder import RunFolder
from sconv_search.studies.runs.tensorboard import logged
from sconv_search.studies.trials.trial import join_trials


def confirm(
    runs: list[Path],
    *,
    seeds: int,
    plans: int,
    method: list[str] | None,
    named: RunTask,
    data: Path | None,
    weights: Path | None,
    execution: Execution,
    machines: ManyMachines,
    as_json: bool,
) -> None:
    """Trains the best plans of the runs on the full schedule, and scores them on the test set."""
    for name in method or ():
        METHODS.add(name)
    folders = [RunFolder(run) for run in runs]
    specs = [spec_of(folder) for folder in folders]
    task = task_of(folders[0], specs[0], named, ask=execution.devices == 1)
    schedules = [spec.confirm_schedule for spec in specs]
    placement = placement_of(machines, device_named(execution.device), execution.devices)
    with together(execution.devices, device_named(execution.device), schedules) as processes:
        beginning = (task, data, weights, execution.device, runs[0].parent)
        if not processes.is_main:
            join_trials(context_of(*beginning, Monitor(), processes))
            return
        with telling(as_json) as terminal, logged(terminal, execution.tensorboard) as monitor:
            every_s = execution.checkpoint_seconds
            context = context_of(*beginning, monitor, processes, every_s)
            new = confirm_runs(
                context,
                folders,
                seeds=seeds,
                most=plans,
                monitor=monitor,
                checkpoint_s=every_s,
                placement=placement,
                checkpoints=machines.checkpoints,
            )
            monitor.say(f"next: {join(['sconv-search', 'report', *map(str, runs), '--out', 'report'])}")
    if as_json:
        print_json(confirm_result(folders, new))
