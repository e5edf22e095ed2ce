"""Which images each step of a training sees, and the seeds of its dropout: the same in every process and after a stop."""

from __future__ import annotations

import torch
from torch import Tensor

from sconv_search.share import Share


def batch_parts(count: int, size: int, accumulation: int, steps: int, generator: torch.Generator, share: Share) -> list[Tensor]:
    """Positions of the images of each part of each step's batch.

    Every pass is a new permutation, of which the last incomplete batch is left out.

    Raises:
        ValueError: a batch is larger than the data, or its parts do not fall into equal shares.
    """
    if count < size:
        raise ValueError(f"batch_size {size} is larger than the {count} training images")
    part = size // accumulation
    if part % share.count:
        among = f"does not fall into equal shares for {share.count} processes"
        raise ValueError(f"batch_size {size}, in {accumulation} parts of {part} images, {among}")
    found: list[Tensor] = []
    while len(found) < steps:
        found += [batch for batch in torch.randperm(count, generator=generator).split(size) if len(batch) == size]
    return [piece for batch in found[:steps] for piece in batch.split(part)]


def dropout_seed(step: int, seed: int, share: Share) -> int:
    """By the step's number, so that a resumed training draws what it would have drawn; another one in each process."""
    return (((seed << 32) + step) * share.count + share.place) % 2**63
