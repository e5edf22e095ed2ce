"""What a training asks of the processes that share it; one alone has nobody to ask. Several:
``sconv_search.training.distributed``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from sconv_search.data.shard import WHOLE, Shard

Value = TypeVar("Value")


class OutOfStep(RuntimeError):
    """The processes of a training no longer do the same: the command has to end, and to be given again."""


class ProcessGroup:
    """This process alone. It stands for all that share a training, so each of its methods is called by all of them in
    turn.

    Args:
        shard: which part of every batch is this process's.
        device: where it computes; None leaves that to others.
    """

    def __init__(self, shard: Shard = WHOLE, device: torch.device | None = None) -> None:
        self.shard, self.device = shard, device

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that decides, writes files and speaks."""
        return self.shard.index == 0

    def broadcast(self, value: Value) -> Value:
        """The leading process's value, in all of them; it must be picklable."""
        return value

    @contextmanager
    def in_step(self, order: Any) -> Iterator[None]:
        """The time of a work that all do together: the leading process gives the order, and all have ended at its end.

        Raises:
            OutOfStep: a process failed alone, or is gone.
        """
        yield

    def all_reduce(self, values: Tensor) -> Tensor:
        """The sum over all processes, without a gradient."""
        return values

    def copy_first_(self, network: nn.Module) -> None:
        """Gives the network in all processes the leading one's weights and buffers."""

    def average_gradients_(self, network: nn.Module) -> None:
        """Replaces the gradients by their means over all processes."""

    @contextmanager
    def synchronized(self) -> Iterator[None]:
        """A time in which batch norms take their statistics from the whole batch, not from this process's share."""
        yield


SINGLE_PROCESS = ProcessGroup()
