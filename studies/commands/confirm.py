"""``sconv-search confirm``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from studies.commands.arguments import DataOption, DeviceOption, WeightsOption, spec_of, start_of
from studies.confirmation import confirm as confirm_runs
from studies.monitor import RichMonitor
from studies.run_folder import RunFolder


def confirm(
    runs: Annotated[list[Path], typer.Argument(help="Folders of searches of one task; compared methods belong together.")],
    seeds: Annotated[int, typer.Option(help="Trainings of each plan.")] = 3,
    plans: Annotated[int, typer.Option(help="Most plans of each run's front.")] = 3,
    data: DataOption = None,
    weights: WeightsOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Train the best plans on the full schedule over several seeds, and read the test set once each.

    Task and network are those of the runs.

    Example: sconv-search confirm runs/structured runs/spatial --seeds 3
    """
    folders, monitor = [RunFolder(run) for run in runs], RichMonitor(Console())
    start = start_of(spec_of(folders[0]).task, data, weights, device, runs[0].parent, monitor)
    confirm_runs(start, folders, seeds=seeds, most=plans, monitor=monitor)
    monitor.say(f"next: sconv-search report {' '.join(map(str, runs))} --out report")
