"""Options that several commands share, and what they stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from studies.monitor import RichMonitor
from studies.run_folder import RunFolder
from studies.spec import StudySpec
from studies.start import Start, start_from
from studies.tasks import TASKS, task_named

DataOption = Annotated[Path | None, typer.Option(help="Folder of the data set; else SCONV_SEARCH_DATA, else ./data.")]
WeightsOption = Annotated[
    Path | None,
    typer.Option(help="Trained dense network (safetensors) that saw all training images. Without it one is trained."),
]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda where there is one.")]
TaskOption = Annotated[
    str, typer.Option(help=f"One of: {', '.join(TASKS)}; or package.module:function, which returns your own Task.")
]
IncludeOption = Annotated[
    list[str] | None, typer.Option(help="Compress sites that match this pattern only, such as 'layer3.*'; repeat it for more.")
]
ExcludeOption = Annotated[list[str] | None, typer.Option(help="Leave sites that match this pattern dense; repeat it for more.")]
MultipleOption = Annotated[int, typer.Option(help="Offer ranks and channel counts in multiples of this, such as 4, 8 or 16.")]


def start_of(task: str, data: Path | None, weights: Path | None, device: str, runs: Path, monitor: RichMonitor) -> Start:
    """The start of the task's studies on the device that the user named."""
    found = torch.device("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else torch.device(device)
    return start_from(task_named(task), data=data, weights=weights, cache=runs / "dense", device=found, monitor=monitor)


def spec_of(folder: RunFolder) -> StudySpec:
    """The study of a run's folder.

    Raises:
        FileNotFoundError: the folder holds none.
    """
    spec = folder.read_spec()
    if spec is None:
        raise FileNotFoundError(f"{str(folder.path)!r} holds no study (no spec.json); run `sconv-search search` first")
    return spec
