"""What options of several commands stand for: studies, devices, and where studies start."""

from __future__ import annotations

from pathlib import Path

import torch

from sconv_search.studies.context import StudyContext, context_from_task
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.options.shared import known_devices
from sconv_search.studies.runs.folder import RunFolder, require_not_of_a_run
from sconv_search.studies.spec import StudySpec
from sconv_search.studies.task import Task
from sconv_search.studies.tasks import task_named
from sconv_search.training.process_group import SINGLE_PROCESS, ProcessGroup
from sconv_search.training.schedule import EVERY_S


def require_new(path: Path, overwrite: bool) -> None:
    """Refuses to replace a file unasked, and what a run keeps at all.

    Raises:
        FileExistsError: it is there.
        ValueError: it is a file of a run's own.
    """
    require_not_of_a_run(path)
    if path.is_file() and not overwrite:
        raise FileExistsError(f"the file {str(path)!r} is there already; name another, or replace it with --overwrite")


def context_of(
    task: str | Task,
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
    placed_on = device_named(device) if processes.device is None else processes.device
    return context_from_task(
        task if isinstance(task, Task) else task_named(task),
        data=data,
        weights=weights,
        cache=runs / "dense",
        device=placed_on,
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
        reason = str(error).strip().partition("\n")[0]
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
