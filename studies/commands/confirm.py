"""``sconv-search confirm``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sconv_search.studies.commands.arguments import (
    CheckpointOption,
    DataOption,
    DeviceOption,
    OwnMethodOption,
    TensorBoardOption,
    WeightsOption,
    device_named,
    spec_of,
    start_of,
)
from sconv_search.studies.commands.config_file import ConfigOption
from sconv_search.studies.commands.failures import DebugOption
from sconv_search.studies.commands.processes import DevicesOption, together
from sconv_search.studies.commands.results import JsonOption, confirm_result, print_json, telling
from sconv_search.studies.confirmation import confirm as confirm_runs
from sconv_search.studies.method_registry import METHODS
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.runs.folder import RunFolder
from sconv_search.studies.runs.tensorboard import logged
from sconv_search.studies.trials.trial import join_trials
from sconv_search.training.checkpoint import EVERY_S


def confirm(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders of searches of one task; compared methods belong together.")
    ],
    seeds: Annotated[int, typer.Option(help="Trainings of each plan.", min=1)] = 3,
    plans: Annotated[int, typer.Option(help="Most plans of each run's front.", min=1)] = 3,
    method: OwnMethodOption = None,
    data: DataOption = None,
    weights: WeightsOption = None,
    device: DeviceOption = "auto",
    devices: DevicesOption = 1,
    checkpoint_seconds: CheckpointOption = EVERY_S,
    tensorboard: TensorBoardOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Train the best plans on the full schedule over several seeds, and read the test set once each.

    Task and network are those of the runs.

    Example: sconv-search confirm runs/structured runs/spatial --seeds 3
    """
    for name in method or ():
        METHODS.add(name)
    folders = [RunFolder(run) for run in runs]
    task = spec_of(folders[0]).task
    schedules = [spec_of(folder).confirm_schedule for folder in folders]
    with together(devices, device_named(device), schedules) as processes:
        beginning = (task, data, weights, device, runs[0].parent)
        if not processes.is_main:
            join_trials(start_of(*beginning, Monitor(), processes))
            return
        with telling(as_json) as terminal, logged(terminal, tensorboard) as monitor:
            start = start_of(*beginning, monitor, processes, checkpoint_seconds)
            new = confirm_runs(
                start, folders, seeds=seeds, most=plans, monitor=monitor, checkpoint_s=checkpoint_seconds
            )
            monitor.say(f"next: sconv-search report {' '.join(map(str, runs))} --out report")
    if as_json:
        print_json(confirm_result(folders, new))
