"""How many GPUs a job takes: a whole one until the peak of a job's memory is known, then a part with room for it."""

from __future__ import annotations

import torch

SPARE = 1.25
"""Room for the peak of a larger network, over the peaks that were seen."""
CONTEXT_BYTES = 600 * 2**20
"""Of CUDA itself in each process, beside what torch takes."""


def peak_share() -> float:
    """The share of its GPU's memory that this process took at most so far; 0 of one that uses no GPU."""
    if not (torch.cuda.is_available() and torch.cuda.is_initialized()):
        return 0.0
    return (torch.cuda.max_memory_reserved() + CONTEXT_BYTES) / torch.cuda.get_device_properties(0).total_memory


def gpus_for(share: float) -> float:
    """GPUs of a job whose process takes that share of one's memory: one of as many equal parts as leave it room.

    Args:
        share: above 0.
    """
    return 1.0 / max(1, int(1.0 / (SPARE * share)))


class MeasuredGpus:
    """GPUs of the next job, by the greatest peak of all so far.

    Args:
        given: what the user wants in place of that.
    """

    def __init__(self, given: float | None) -> None:
        self._given, self._peak = given, 0.0

    @property
    def each(self) -> float:
        """GPUs of a job."""
        if self._given is not None:
            return self._given
        return gpus_for(self._peak) if self._peak else 1.0

    def learn_(self, share: float) -> str | None:
        """Takes a job's peak in; where another number of jobs share a GPU from now on, what to say of it."""
        before, self._peak = self.each, max(self._peak, share)
        if self.each == before:
            return None
        return f"trainings took up to {self._peak:.0%} of a GPU's memory; from now on {round(1 / self.each)} share one"
