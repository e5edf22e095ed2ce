"""Options and groups of options that several commands share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from sconv_search.records import Quantity
from sconv_search.studies.method_registry import METHODS
from sconv_search.studies.options.config_file import ConfigOption
from sconv_search.studies.options.debug import DebugOption
from sconv_search.studies.tasks import TASKS
from sconv_search.training.schedule import EVERY_S


def known_tasks() -> list[str]:
    """Completions of a task."""
    return list(TASKS)


def known_methods() -> list[str]:
    """Completions of a method."""
    return list(METHODS)


def known_devices() -> list[str]:
    """Completions of a device; torch is asked for the GPUs."""
    import torch

    return ["auto", "cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]


DataOption = Annotated[
    Path | None,
    typer.Option(help="Folder of the data set (default: the folder in SCONV_SEARCH_DATA if it is set, or ./data)."),
]
WeightsOption = Annotated[
    Path | None,
    typer.Option(
        help="Weights of the trained dense network: a safetensors file, or a state dict of torch.save (.pth, .pt). They"
        " count as trained on all training images (default: the network's own where its name says trained weights, else"
        " the dense network is trained first)."
    ),
]
DeviceOption = Annotated[
    str,
    typer.Option(
        help="Device to run on: cpu, cuda, cuda:N, or auto, which takes cuda if it is available.",
        autocompletion=known_devices,
        metavar="NAME",
    ),
]
TaskOption = Annotated[
    str,
    typer.Option(
        help=f"Task to run: {', '.join(TASKS)}; images or masks, any network on a folder of photos; or"
        " package.module:function, a function that returns your own Task.",
        autocompletion=known_tasks,
        metavar="NAME",
    ),
]
OwnMethodOption = Annotated[
    list[str] | None,
    typer.Option(
        "--method",
        help="Class of a method that the runs use and that no installed package provides, as package.module:Class;"
        " repeatable.",
        metavar="NAME",
    ),
]
IncludeOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Compress only layers whose name matches this pattern, such as 'layer3.*'; repeatable (default: all"
        " layers).",
        metavar="PATTERN",
    ),
]
ExcludeOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Do not compress layers whose name matches this pattern; repeatable (default: none is excluded).",
        metavar="PATTERN",
    ),
]
MultipleOption = Annotated[
    int,
    typer.Option(help="Only offer ranks and channel counts that are multiples of N, such as 4, 8 or 16.", metavar="N"),
]
CountFreeOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Count this operator, whose cost is unknown, as nothing, such as aten::fft_fft; repeatable (default: an"
        " operator without a known cost is an error).",
        metavar="OPERATOR",
    ),
]
QuantityOption = Annotated[Quantity, typer.Option(help="Quantity that the budget limits, unless the budget names one.")]
TensorBoardOption = Annotated[
    Path | None,
    typer.Option(
        "--tensorboard",
        help="Folder for TensorBoard logs of every trial; requires the package tensorboard (default: no logs).",
    ),
]
CheckpointOption = Annotated[
    float,
    typer.Option(
        "--checkpoint-seconds",
        help="Seconds between checkpoints of a training. An interrupted command resumes from the last checkpoint.",
        min=0,
    ),
]
DevicesOption = Annotated[
    int,
    typer.Option(
        help="Number of devices that train each network together, one process per device; requires the extra"
        " 'distributed'.",
        min=1,
    ),
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace files that already exist (default: existing files are refused).")
]
JsonOption = Annotated[
    bool,
    typer.Option(
        "--json", help="Print the result as one JSON document on standard output, and messages on standard error."
    ),
]


@dataclass(frozen=True, kw_only=True)
class General:
    """General."""

    config: ConfigOption = None
    as_json: JsonOption = False
    debug: DebugOption = False


@dataclass(frozen=True, kw_only=True)
class Layers:
    """Layers."""

    include: IncludeOption = None
    exclude: ExcludeOption = None
    multiple: MultipleOption = 1
    count_free: CountFreeOption = None


@dataclass(frozen=True, kw_only=True)
class RunTask:
    """Your own code."""

    task: Annotated[
        str | None,
        typer.Option(
            help="Task of the runs, needed if it is your own (package.module:function): code that a run folder names is"
            " not run unasked (default: the runs' built-in task).",
            metavar="NAME",
        ),
    ] = None
    network: Annotated[
        str | None,
        typer.Option(
            help="Network of the runs, needed if it is your own (package.module:function), as for --task.",
            metavar="NAME",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class ManyMachines:
    """Many machines."""

    cluster: Annotated[
        str | None,
        typer.Option(
            help="Ray cluster to run trainings on: ray (the cluster of this machine), HOST:PORT, or ray://HOST:PORT for"
            " its client server; requires the extra 'cluster' (default: trainings run on this machine).",
            metavar="ADDRESS",
        ),
    ] = None
    trial_cpus: Annotated[
        float, typer.Option(help="CPUs that each training takes of the cluster; they are its threads.")
    ] = 1.0
    trial_gpus: Annotated[
        float | None,
        typer.Option(
            help="GPUs that each training takes of the cluster; a share such as 0.5 divides time, not memory (default:"
            " with --device cuda one first, then a part by the peak of the trainings' memory; else none)."
        ),
    ] = None
    checkpoints: Annotated[
        str | None,
        typer.Option(
            help="Folder for checkpoints that all nodes see, a path or an address such as s3://BUCKET/FOLDER: one"
            " that loses its node continues at its step elsewhere (default: it begins anew).",
            metavar="FOLDER",
        ),
    ] = None


StorageOption = Annotated[
    str | None,
    typer.Option(
        help="PostgreSQL database for the Optuna study, as postgresql+psycopg://USER@HOST:PORT/DATABASE; give the"
        " password in PGPASSWORD or a password file; requires the extra 'cluster' (default: a file in the run folder).",
        metavar="URL",
    ),
]


@dataclass(frozen=True, kw_only=True)
class Execution:
    """Devices and logs."""

    device: DeviceOption = "auto"
    devices: DevicesOption = 1
    checkpoint_seconds: CheckpointOption = EVERY_S
    tensorboard: TensorBoardOption = None
