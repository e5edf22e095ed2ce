"""Which images each step of a training sees, and the seeds of its dropout: the same in every process and after a
stop.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sconv_search.data.shard import Shard


def batch_parts(
    count: int, size: int, accumulation: int, steps: int, generator: torch.Generator, shard: Shard
) -> list[Tensor]:
    """Positions of the images of each part of each step's batch.

    Every pass is a new permutation, of which the last incomplete batch is left out.

    Raises:
        ValueError: a batch is larger than the data, or its parts do not fall into equal shares.
    """
    if count < size:
        raise ValueError(f"batch_size {size} is larger than the {count} training images")
    require_shares(size, accumulation, shard.count)
    parts: list[Tensor] = []
    while len(parts) < steps:
        parts += [batch for batch in torch.randperm(count, generator=generator).split(size) if len(batch) == size]
    return [piece for batch in parts[:steps] for piece in batch.split(size // accumulation)]


def require_shares(size: int, accumulation: int, processes: int) -> None:
    """Refuses batches that several processes cannot share equally.

    Raises:
        ValueError: so many images, in so many parts, do not divide.
    """
    if size % (accumulation * processes):
        parts = f"in {accumulation} parts " if accumulation > 1 else ""
        raise ValueError(f"a batch of {size} images {parts}does not fall into equal shares for {processes} processes")


def dropout_seed(step: int, seed: int, shard: Shard) -> int:
    """By the step's number, so that a resumed training draws what it would have drawn; another one in each process."""
    return (((seed << 32) + step) * shard.count + shard.index) % 2**63
