"""Which part of every batch a process computes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One of ``count`` equally long parts of every batch, that at ``index``.

    Raises:
        ValueError: there is no such index.
    """

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ValueError(f"Shard.index must be in 0..{self.count - 1}, got {self.index}")

    def of(self, batch: Tensor) -> Tensor:
        """The rows of the batch that are this shard.

        Raises:
            ValueError: the batch does not fall into equal parts.
        """
        if len(batch) % self.count:
            raise ValueError(f"a batch of {len(batch)} does not fall into {self.count} equal parts")
        size = len(batch) // self.count
        return batch[self.index * size : (self.index + 1) * size]


WHOLE = Shard()
