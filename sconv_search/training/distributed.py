"""Several processes, a device each, that train one network together: Lightning Fabric launches them.

Every process computes its share of each batch; gradients are averaged once a step. So the weights are those of one
process, but for the order of the sums.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn

from sconv_search.data.shard import Shard
from sconv_search.training.process_group import OutOfStep, ProcessGroup, Value
from sconv_search.training.synchronized_batch_norm import SynchronizedBatchNorm

PATIENCE = timedelta(minutes=2)
"""Between the ends of one work in two processes; a longer time means that one failed alone."""
REST = timedelta(days=7)
"""Between two works: the leading process measures and decides in the meantime."""


def launched() -> int:
    """Number of processes of which this is one, started by Fabric, ``fabric run`` or ``torchrun``; else 1."""
    return int(os.environ.get("WORLD_SIZE", 1))


def is_main_process() -> bool:
    """Whether this process is the first of those that were started, or alone."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", 0))) == 0


def launch(devices: int, device: torch.device) -> DistributedProcessGroup:
    """Starts this program in as many processes as there are devices, or joins those that a launcher started.

    Args:
        devices: number of processes, on this machine; what a launcher says holds before it.
        device: of what kind the devices are.

    Raises:
        ValueError: Lightning Fabric is not installed, or there are not as many devices.
    """
    try:
        from lightning_fabric import Fabric  # here: it takes a second, and the package may be absent
    except ImportError as error:
        needed = "training on several devices needs the package lightning-fabric, which is not installed"
        raise ValueError(f"{needed}; pip install 'sconv-search[distributed]'") from error
    for name in ("lightning_fabric", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        if "LT_CLI_USED" in os.environ:
            fabric = Fabric()
        else:
            count = int(os.environ.get("LOCAL_WORLD_SIZE", devices))
            fabric = Fabric(accelerator=device.type, devices=count, num_nodes=_machines(count), strategy="ddp")
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{devices} devices of kind {device.type!r} cannot be used: {error}") from error
    fabric.launch()
    return DistributedProcessGroup(Shard(index=fabric.global_rank, count=fabric.world_size), fabric.device)


def _machines(processes: int) -> int:
    """Machines of a launcher other than Fabric's own."""
    return max(1, launched() // processes)


class DistributedProcessGroup(ProcessGroup):
    """One of several processes of torch's default group; decisions, and the ends of works, go through groups over the
    CPU.
    """

    def __init__(self, shard: Shard, device: torch.device) -> None:
        super().__init__(shard, device)
        self._decisions: Any = distributed.new_group(backend="gloo", timeout=REST)
        # All processes but the first wait in a monitored barrier for as long as its group may, whatever time it is
        # given.
        self._ends: Any = distributed.new_group(backend="gloo", timeout=PATIENCE)

    def broadcast(self, value: Value) -> Value:
        """The leading process's value, in all of them."""
        values: list[Any] = [value]
        try:
            distributed.broadcast_object_list(values, src=0, group=self._decisions)
        except RuntimeError as error:
            raise OutOfStep(f"process {self.shard.index} of {self.shard.count} has lost the others: {error}") from error
        received: Value = values[0]
        return received

    @contextmanager
    def in_step(self, order: Any) -> Iterator[None]:
        """The time of a work that all do together, after the leading process has given the order to those that
        follow.
        """
        if self.is_main:
            self.broadcast(order)
        try:
            yield
        except OutOfStep:
            raise
        except Exception as error:
            self._meet(error)
            raise
        self._meet(None)

    def _meet(self, problem: Exception | None) -> None:
        """Waits for the end of the others' work."""
        try:
            distributed.monitored_barrier(self._ends, PATIENCE)
        except RuntimeError as lost:
            reason = f"it failed: {problem}" if problem is not None else f"the others are gone or have failed: {lost}"
            raise OutOfStep(f"process {self.shard.index} of {self.shard.count} is alone; {reason}") from (
                problem or lost
            )

    def all_reduce(self, values: Tensor) -> Tensor:
        """The sum over all processes, without a gradient."""
        result = values.detach().clone()
        distributed.all_reduce(result)
        return result

    @torch.no_grad()
    def copy_first_(self, network: nn.Module) -> None:
        """Gives the network in all processes the leading one's weights and buffers."""
        # the others wait here while it scores what was before; in the default group they may not for long
        self.broadcast(None)
        for tensor in (*network.parameters(), *network.buffers()):
            whole = tensor.detach().contiguous()  # a collective takes no other layout
            distributed.broadcast(whole, src=0)
            tensor.copy_(whole)

    @torch.no_grad()
    def average_gradients_(self, network: nn.Module) -> None:
        """Replaces the gradients by their means over all processes: one message for all of a kind, however many there
        are.
        """
        gradients = [weight.grad for weight in network.parameters() if weight.grad is not None]
        for kind in {grad.dtype for grad in gradients}:
            alike = [grad for grad in gradients if grad.dtype == kind]
            message = torch.cat([grad.reshape(-1) for grad in alike]) / self.shard.count
            distributed.all_reduce(message)
            for grad, mean in zip(alike, message.split([grad.numel() for grad in alike]), strict=True):
                grad.copy_(mean.view(grad.shape))

    @contextmanager
    def synchronized(self) -> Iterator[None]:
        """A time in which batch norms take their statistics from the whole batch."""
        with SynchronizedBatchNorm():
            yield
