"""Commands that train on several devices: the program runs once for each; one leads, the others take part in its
trainings.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout

import torch

from sconv_search.data.batch_order import require_shares
from sconv_search.studies.commands.failures import WORK_FAILED
from sconv_search.studies.executors.placement import Placement
from sconv_search.studies.executors.ray_cluster import Cluster
from sconv_search.studies.options.shared import ManyMachines
from sconv_search.system.parent_watch import end_with_parent
from sconv_search.training.distributed import is_main_process, launch, launched
from sconv_search.training.process_group import SINGLE_PROCESS, OutOfStep, ProcessGroup
from sconv_search.training.schedule import Schedule

GRACE_S = 1.0


@contextmanager
def together(
    devices: int, device: torch.device, schedules: Iterable[Schedule], *, workers: int = 1
) -> Iterator[ProcessGroup]:
    """All processes of the command, which are started here; what a leading one does within has an end for the others,
    too.

    Args:
        schedules: of the trainings to come, whose batches are to be shared.

    Raises:
        ValueError: batches cannot be shared, several workers are asked for besides, or devices are not there.
    """
    require_processes(devices, device, schedules, workers=workers)
    if max(devices, launched()) == 1:
        yield SINGLE_PROCESS
        return
    if not is_main_process():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the leading process's to handle
        end_with_parent()
    processes = launch(devices, device)
    with _leading(processes) if processes.is_main else _following():
        yield processes


def require_processes(devices: int, device: torch.device, schedules: Iterable[Schedule], *, workers: int = 1) -> None:
    """Refuses what several processes cannot do together; one can do everything.

    Raises:
        ValueError: batches cannot be shared, several workers are asked for besides, or one of several devices is named.
    """
    count = max(devices, launched())
    if count == 1:
        return
    if workers > 1:
        raise ValueError(
            f"{count} devices train one network together, {workers} workers one each; give --devices or --workers"
        )
    if device.index is not None:
        raise ValueError(f"--device {device} is one device; with --devices give its kind, {device.type}")
    for schedule in schedules:
        require_shares(schedule.batch_size, schedule.accumulation, count)


def placement_of(machines: ManyMachines, device: torch.device, devices: int, workers: int = 1) -> Placement:
    """Where trainings run: here, in workers, or on a cluster.

    Raises:
        ValueError: options exclude each other, or the cluster's address or a number is wrong.
    """
    if machines.cluster is None:
        for flag, value in (("--trial-cpus", machines.trial_cpus != 1.0), ("--trial-gpus", machines.trial_gpus)):
            if value:
                raise ValueError(f"{flag} is what a training takes of a cluster; name one with --cluster")
        return Placement(workers=workers)
    if devices > 1:
        raise ValueError("--devices trains one network on this machine, --cluster one in each slot; give one of both")
    gpus = 0.0 if machines.trial_gpus is None and device.type != "cuda" else machines.trial_gpus
    return Placement(workers=workers, cluster=Cluster(address=machines.cluster, cpus=machines.trial_cpus, gpus=gpus))


@contextmanager
def _leading(processes: ProcessGroup) -> Iterator[None]:
    """Sends the others home at the end, unless they are lost."""
    try:
        yield
    except OutOfStep:
        raise
    except Exception:
        processes.broadcast(None)
        raise
    processes.broadcast(None)


@contextmanager
def _following() -> Iterator[None]:
    """Says nothing of its own, unless it fails while the leading process goes on."""
    parent = os.getppid()
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        try:
            yield
        except OutOfStep:
            time.sleep(GRACE_S)
            if os.getppid() != parent:
                # the one that started this has said why it ended, or was killed
                raise SystemExit(WORK_FAILED) from None
            raise
