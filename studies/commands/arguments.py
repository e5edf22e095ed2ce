"""Options that several commands share, and what they stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from sconv_search.records import Quantity
from sconv_search.studies.context import StudyContext, context_from_task
from sconv_search.studies.methods import METHODS
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.runs.folder import RunFolder
from sconv_search.studies.spec import StudySpec
from sconv_search.studies.tasks import TASKS, task_named
from sconv_search.training.checkpoint import EVERY_S
from sconv_search.training.process_group import SINGLE_PROCESS, ProcessGroup


def known_tasks() -> list[str]:
    """Completions of a task."""
    return list(TASKS)


def known_methods() -> list[str]:
    """Completions of a method."""
    return list(METHODS)


def known_devices() -> list[str]:
    """Completions of a device."""
    return ["auto", "cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]


DataOption = Annotated[Path | None, typer.Option(help="Folder of the data set; else SCONV_SEARCH_DATA, else ./data.")]
WeightsOption = Annotated[
    Path | None,
    typer.Option(help="Trained dense network (safetensors) that saw all training images. Without it one is trained."),
]
DeviceOption = Annotated[
    str, typer.Option(help="cpu, cuda, or auto: cuda where there is one.", autocompletion=known_devices, metavar="NAME")
]
TaskOption = Annotated[
    str,
    typer.Option(
        help=f"One of: {', '.join(TASKS)}; or package.module:function, which returns your own Task.",
        autocompletion=known_tasks,
        metavar="NAME",
    ),
]
OwnMethodOption = Annotated[
    list[str] | None,
    typer.Option(
        "--method",
        help="Class of a method that the runs use and no installed package offers, as package.module:Class; repeat it"
        " for more.",
        metavar="NAME",
    ),
]
IncludeOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Compress sites that match this pattern only, such as 'layer3.*'; repeat it for more. Else all.",
        metavar="PATTERN",
    ),
]
ExcludeOption = Annotated[
    list[str] | None,
    typer.Option(help="Leave sites that match this pattern dense; repeat it for more. Else none.", metavar="PATTERN"),
]
BudgetOption = Annotated[
    list[str] | None,
    typer.Option(
        help=(
            "Most that a plan may cost: a share of dense ('50%') or an amount ('41M', '8.5ms'), of a named quantity"
            " where there are several ('params=60%'; repeat it); '30%..90%' searches the whole front. Else 50%."
        ),
        metavar="AMOUNT",
    ),
]
QuantityOption = Annotated[Quantity, typer.Option(help="What a budget limits that names no quantity.")]
MultipleOption = Annotated[
    int, typer.Option(help="Offer ranks and channel counts in multiples of this, such as 4, 8 or 16.")
]
TensorBoardOption = Annotated[
    Path | None,
    typer.Option(
        "--tensorboard",
        help="Folder for TensorBoard logs of each trial's numbers (needs the package tensorboard). Else none.",
    ),
]
CheckpointOption = Annotated[
    float,
    typer.Option(
        "--checkpoint-seconds",
        help="Time between checkpoints of a training, from which a killed command continues.",
        min=0,
    ),
]


def start_of(
    task: str,
    data: Path | None,
    weights: Path | None,
    device: str,
    runs: Path,
    monitor: Monitor,
    processes: ProcessGroup = SINGLE_PROCESS,
    checkpoint_s: float = EVERY_S,
) -> StudyContext:
    """The start of the task's studies on the device that the user named, or on that of this one of several
    processes.
    """
    found = device_named(device) if processes.device is None else processes.device
    return context_from_task(
        task_named(task),
        data=data,
        weights=weights,
        cache=runs / "dense",
        device=found,
        monitor=monitor,
        processes=processes,
        checkpoint_s=checkpoint_s,
    )


def device_named(name: str) -> torch.device:
    """The device, after a look whether this machine has it.

    Raises:
        ValueError: torch does not know it, or it is not here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:  # torch's answer to a missing CUDA is an assertion
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"device {name!r} cannot be used here; name one of {', '.join(known_devices())}: {reason}"
        ) from error
    return device


def spec_of(folder: RunFolder) -> StudySpec:
    """The study of a run's folder.

    Raises:
        FileNotFoundError: the folder holds none.
    """
    spec = folder.read_spec()
    if spec is None:
        raise FileNotFoundError(f"{str(folder.path)!r} holds no study (no spec.json); run `sconv-search search` first")
    return spec
