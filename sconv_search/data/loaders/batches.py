"""A user's own loader as the data of a study: any batches, drawn the same way each time where that can be."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from sconv_search.data.loaders.replay import epoch_seed, replayed, same_batch
from sconv_search.data.shard import WHOLE, Shard
from sconv_search.system.code import written_by_class

CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class LoaderData:
    """Training batches, of whatever kind, and what a network reads of them. Scores are the user's own functions.

    Args:
        name: in messages.
        loader: an iterable of batches that can be iterated again and again, such as a ``DataLoader``.
        loss: of the network's outputs and the targets; None where the user trains.
        inputs: what of a batch the network is called with; by default the batch, or its first entry where it is a list
            or a tuple.
        targets: what of a batch the loss is given; by default the second entry of a pair, where ``inputs`` is not
            given, else the whole batch.
        samples: inputs that every method may fit itself to.
        facts: what else the study is of, for its checksum.

    Raises:
        TypeError: the loader cannot be iterated, or only once.
        ValueError: the number of samples is not positive.
    """

    name: str
    loader: Iterable[Any]
    loss: Callable[[Any, Any], Tensor] | None = None
    inputs: Callable[[Any], Any] | None = None
    targets: Callable[[Any], Any] | None = None
    samples: int = 256
    device: torch.device = CPU
    facts: Mapping[str, str] | None = None
    validation: str = "validation"
    test: str = "test"

    def __post_init__(self) -> None:
        if not isinstance(self.loader, Iterable):
            raise TypeError(f"data must be an iterable of batches, such as a DataLoader, got {_kind(self.loader)}")
        if isinstance(self.loader, Iterator):
            raise TypeError(
                f"data is {_kind(self.loader)}, which can be read only once; give what is iterated anew for every"
                " epoch, such as a DataLoader or a list of batches"
            )
        if self.samples < 1:
            raise ValueError(f"samples must be at least 1, got {self.samples}")

    @cached_property
    def length(self) -> int:
        """Batches of an epoch; counted by one pass where the loader does not say.

        Raises:
            ValueError: there is none.
        """
        try:
            count = len(self.loader)  # type: ignore[arg-type]  # where it has a length
        except TypeError:
            count = sum(1 for _ in replayed(self.loader, 0))
        if not count:
            raise ValueError(f"the data of {self.name!r} holds no batch; give an iterable of batches")
        return count

    @cached_property
    def can_be_replayed(self) -> bool:
        """Whether its first batches are equal each time for one seed."""
        once, again = (list(islice(replayed(self.loader, 1), 2)) for _ in range(2))
        return same_batch(once, again)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be said before long work."""
        if self.can_be_replayed:
            return ()
        return (
            f"{self.name}: the data gives other batches each time it is read from one seed; an interrupted training"
            " continues at its last whole epoch, not at the step",
        )

    def read(self, batch: Any) -> Any:
        """What the network is called with."""
        if self.inputs is not None:
            return self.inputs(batch)
        return batch[0] if isinstance(batch, (list, tuple)) else batch

    def wanted(self, batch: Any) -> Any:
        """What the loss is given beside the outputs."""
        if self.targets is not None:
            return self.targets(batch)
        is_pair = self.inputs is None and isinstance(batch, (list, tuple)) and len(batch) == 2
        return batch[1] if is_pair else batch

    @cached_property
    def calibration(self) -> Any:
        """The first inputs, joined: what every method may fit itself to.

        Raises:
            ValueError: there is no batch, all are empty, or batches differ in their structure.
        """
        return first_inputs(replayed(self.loader, 0), self.samples, self.inputs, self.device)

    @property
    def positions(self) -> int:
        """Positions of one input, the most of all its tensors: of an image, its pixels."""
        leaves = [leaf for leaf in pytree.tree_leaves(self.calibration) if isinstance(leaf, Tensor)]
        return max(leaf[0, 0].numel() if leaf.dim() > 1 else 1 for leaf in leaves)

    def first_inputs(self, count: int) -> Any:
        """The first inputs, joined, so many at most."""
        return first_inputs(replayed(self.loader, 0), count, self.inputs, self.device)

    def calibration_inputs(self, count: int | None = None) -> Any:
        """The same, or the first so many."""
        return pytree.tree_map(lambda leaf: leaf[:count] if isinstance(leaf, Tensor) else leaf, self.calibration)

    def training_inputs(self, count: int, seed: int) -> Iterator[Any]:
        """Inputs as in training, batch by batch, about so many in all."""
        seen = 0
        for batch in replayed(self.loader, epoch_seed(seed, 0)):
            inputs = self.read(self._placed(batch))
            yield inputs
            seen += batch_size(inputs)
            if seen >= count:
                return

    def first_batch(self) -> Any:
        """The first batch, on the device."""
        return self._placed(next(replayed(self.loader, 0)))

    def training_steps(self, epochs: float, batch_size: int) -> int:
        """Steps of so many epochs; the size of batches is the loader's own."""
        return max(1, round(epochs * self.length))

    def resumes_at(self, step: int) -> bool:
        """Whether a training can be continued after this step."""
        return self.can_be_replayed or step % self.length == 0

    def training_batches(
        self,
        steps: int,
        batch_size: int,
        accumulation: int,
        seed: int,
        generator: torch.Generator,
        shard: Shard = WHOLE,
    ) -> Callable[[int], Iterator[Any]]:
        """From the steps that are done to the batches of those that follow.

        Raises:
            ValueError: batches are to be accumulated, or shared by processes.
        """
        if accumulation > 1 or shard.count > 1:
            raise ValueError(
                f"the batches of {self.name!r} are a user's own and cannot be divided; leave out accumulation and"
                " --devices"
            )
        return lambda done: self._from(done, seed)

    def _from(self, done: int, seed: int) -> Iterator[Any]:
        epoch, skip = divmod(done, self.length)
        while True:
            index = -1
            for index, batch in enumerate(replayed(self.loader, epoch_seed(seed, epoch))):
                if index >= skip:
                    yield self._placed(batch)
            if index < 0:
                raise ValueError(f"the data of {self.name!r} holds no batch in epoch {epoch + 1}")
            epoch, skip = epoch + 1, 0

    def _placed(self, batch: Any) -> Any:
        return pytree.tree_map(lambda leaf: leaf.to(self.device) if isinstance(leaf, Tensor) else leaf, batch)

    def to(self, device: torch.device) -> LoaderData:
        """The same data for a network on the device."""
        return replace(self, device=device)

    def checksum(self) -> str:
        """SHA-256 of the first inputs where they are the same each time, else of their shapes, with the facts and the
        length.
        """
        digest = hashlib.sha256(repr((self.length, sorted((self.facts or {}).items()))).encode())
        for leaf in pytree.tree_leaves(self.calibration):
            if isinstance(leaf, Tensor):
                digest.update(repr((tuple(leaf.shape[1:]), leaf.dtype)).encode())
                if self.can_be_replayed:
                    digest.update(leaf.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def parts(self) -> dict[str, object]:
        """What else the data shows of itself, by name: the labels of the first inputs, and what is kept in memory.

        Of batches that differ each time, no labels; of data on disk, or made as it is read, nothing that is kept.
        """
        found: dict[str, object] = {}
        if self.can_be_replayed:
            found["labels"] = [_tensors(self.wanted(batch)) for batch in self._first_batches()]
        if stored := stored_tensors(self.loader):
            found["training data"] = stored
        return found

    def _first_batches(self) -> Iterator[Any]:
        seen = 0
        for batch in replayed(self.loader, 0):
            yield batch
            seen += batch_size(self.read(batch))
            if seen >= self.samples:
                return


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)]


def stored_tensors(source: Any) -> list[Any]:
    """Tensors, arrays and lists of numbers that batches in memory, or a loader's data set, are made of.

    What data sets write to as they are read, such as caches, is left out.
    """
    if isinstance(source, (list, tuple)):
        return _tensors(source)
    return _kept(getattr(source, "dataset", None), set())


def _kept(data: Any, seen: set[int]) -> list[Any]:
    if data is None or id(data) in seen:
        return []
    seen.add(id(data))
    if isinstance(data, (list, tuple)):
        return _tensors(data)
    found: list[Any] = []
    for name, value in getattr(data, "__dict__", {}).items():
        parts = value if isinstance(value, (list, tuple)) and value else [value]
        if name in written_by_class(type(data)):
            continue
        if isinstance(parts[0], (Tensor, np.ndarray)):
            found += parts
        elif parts is value and isinstance(parts[0], (bool, int, float)):
            found.append(np.asarray([part for part in parts if isinstance(part, (bool, int, float))]))
        elif isinstance(parts[0], torch.utils.data.Dataset):
            found += [leaf for part in parts for leaf in _kept(part, seen)]
    return found


def _kind(value: object) -> str:
    return f"a value of type {type(value).__name__}"


def batch_size(inputs: Any) -> int:
    """How many inputs a batch of them holds."""
    return next((len(leaf) for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, Tensor) and leaf.dim()), 1)


def first_inputs(data: Iterable[Any], count: int, inputs: Callable[[Any], Any] | None, device: torch.device) -> Any:
    """The first inputs of a loader's batches, joined, ``count`` of them at most.

    Args:
        data: batches; of each, ``inputs`` says what the network is called with, by default the batch itself, or its
            first entry where it is a list or a tuple.

    Raises:
        ValueError: there is no batch, or batches differ in their structure.
    """
    parts: list[Any] = []
    seen = 0
    for batch in islice(data, count):
        part = inputs(batch) if inputs is not None else batch[0] if isinstance(batch, (list, tuple)) else batch
        parts.append(part)
        seen += batch_size(part)
        if seen >= count:
            break
    if not parts:
        raise ValueError("the data given to fit to holds no batch; give an iterable of batches, such as a DataLoader")
    leaves, specs = zip(*(pytree.tree_flatten(part) for part in parts), strict=True)
    if any(spec != specs[0] for spec in specs) or not any(isinstance(leaf, Tensor) for leaf in leaves[0]):
        kinds = ", ".join(dict.fromkeys(type(part).__name__ for part in parts))
        raise ValueError(
            f"batches must hold tensors in one structure, got {kinds}; name the network's inputs by inputs="
        )
    if not seen:
        shapes = ", ".join(str(tuple(leaf.shape)) for leaf in leaves[0] if isinstance(leaf, Tensor))
        raise ValueError(f"the data given to fit to holds empty batches alone, of {shapes}; give batches of inputs")
    joined = [_joined(same, count, device) for same in zip(*leaves, strict=True)]
    return pytree.tree_unflatten(joined, specs[0])


def _joined(same: Sequence[Any], count: int, device: torch.device) -> Any:
    if not isinstance(same[0], Tensor):
        return same[0]
    if len({tuple(part.shape[1:]) for part in same}) > 1:
        shapes = ", ".join(str(tuple(part.shape)) for part in same[:4])
        raise ValueError(
            f"inputs must have one shape to fit layers to, got {shapes}; give inputs= a function of a batch that brings"
            " them to one, by cropping or padding"
        )
    return torch.cat(tuple(same))[:count].to(device)
