"""Batches of a user's own loader, drawn with random numbers that are the same each time."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

Result = TypeVar("Result")


class _Randomness:
    """The default generators of torch (of the CPU), NumPy and Python, and the loader's own, as a state of their own
    that is put in place while the loader works.
    """

    def __init__(self, seed: int, generators: list[torch.Generator]) -> None:
        self._generators = [torch.default_generator, *generators]
        own = self._states()
        for generator in self._generators:
            generator.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        self._drawn = self._states()
        self._put(own)

    def within(self, work: Callable[[], Result]) -> Result:
        """What the work gives; all generators are left as they were before."""
        own = self._states()
        self._put(self._drawn)
        try:
            return work()
        finally:
            self._drawn = self._states()
            self._put(own)

    def _states(self) -> tuple[Any, ...]:
        return [generator.get_state() for generator in self._generators], random.getstate(), np.random.get_state()

    def _put(self, states: tuple[Any, ...]) -> None:
        for generator, state in zip(self._generators, states[0], strict=True):
            generator.set_state(state)
        random.setstate(states[1])
        np.random.set_state(states[2])


def replayed(loader: Iterable[Any], seed: int) -> Iterator[Any]:
    """The loader's batches, the same for the same seed if its random numbers are torch's, NumPy's or Python's own."""
    randomness = _Randomness(seed, _generators(loader))
    batches = randomness.within(lambda: iter(loader))
    while True:
        try:
            batch = randomness.within(lambda: next(batches))
        except StopIteration:
            return
        yield batch


def epoch_seed(seed: int, epoch: int) -> int:
    """Of an epoch's random numbers."""
    return int(np.random.SeedSequence([seed % 2**63, epoch]).generate_state(1)[0])


def same_batch(batch: Any, other: Any) -> bool:
    """Whether two batches are equal in structure and all values."""
    (own, spec), (others, other_spec) = pytree.tree_flatten(batch), pytree.tree_flatten(other)
    return bool(spec == other_spec and all(map(_same, own, others)))


def _same(value: Any, other: Any) -> bool:
    if isinstance(value, Tensor) or isinstance(other, Tensor):
        both = isinstance(value, Tensor) and isinstance(other, Tensor)
        return bool(both and value.dtype == other.dtype and value.shape == other.shape and torch.equal(value, other))
    return bool(np.all(value == other))


def _generators(loader: Any) -> list[torch.Generator]:
    """Those that a ``DataLoader`` was given; they are seeded while it is read, and left as they were."""
    sampler = getattr(loader, "sampler", None)
    batch_sampler = getattr(loader, "batch_sampler", None)
    owners = (loader, sampler, batch_sampler, getattr(batch_sampler, "sampler", None))
    generators = [getattr(owner, "generator", None) for owner in owners]
    return list(
        {id(generator): generator for generator in generators if isinstance(generator, torch.Generator)}.values()
    )
