"""Files from which an interrupted training continues at the step that they were written at. No pickles."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import count
from time import perf_counter
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Optimizer

from sconv_search.system.files import remove_partial_files
from sconv_search.system.weights import tensors_checksum
from sconv_search.training.process_group import ProcessGroup
from sconv_search.training.remote_files import RemoteFile, SomeFile, local_copy, write_file
from sconv_search.training.schedule import EVERY_S
from sconv_search.training.weight_average import WeightAverage

# All that a training's next step depends on, as tensors: what a checkpoint holds.

MOMENTUM = "momentum_buffer"


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """The network in training, with its optimizer, average and random numbers."""

    network: nn.Module
    optimizer: Optimizer
    generator: torch.Generator
    average: WeightAverage | None

    def tensors(self) -> Tensors:
        """Copies of everything, by name; momentum is there after the first step."""
        entries = {f"network.{name}": tensor.clone() for name, tensor in self.network.state_dict().items()}
        for index, weight in enumerate(self._weights()):
            if (momentum := self.optimizer.state[weight].get(MOMENTUM)) is not None:
                entries[f"momentum.{index}"] = momentum.clone()
        return {**entries, **self._average(), "generator": self.generator.get_state()}

    def misfit(self, tensors: Mapping[str, Tensor]) -> str | None:
        """The first name or shape of a checkpoint that is not this training's."""
        optional = {f"momentum.{index}": tuple(weight.shape) for index, weight in enumerate(self._weights())}
        expected = {name: tuple(tensor.shape) for name, tensor in self.tensors().items()}
        for name in sorted(tensors, key=lambda name: (not name.startswith("network."), name)):
            if {**optional, **expected}.get(name) != (shape := tuple(tensors[name].shape)):
                return f"{name} of shape {shape}"
        return next((f"no {name}" for name in expected if name not in tensors and name not in optional), None)

    @torch.no_grad()
    def load_(self, tensors: Mapping[str, Tensor]) -> None:
        """Puts everything back."""
        current = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        for name, tensor in {**current, **self._average()}.items():
            tensor.copy_(tensors[name])
        for index, weight in enumerate(self._weights()):
            if (saved := tensors.get(f"momentum.{index}")) is not None:
                self.optimizer.state[weight][MOMENTUM] = torch.empty_like(weight).copy_(saved)
        self.generator.set_state(tensors["generator"])

    def _weights(self) -> list[Tensor]:
        return [weight for group in self.optimizer.param_groups for weight in group["params"]]

    def _average(self) -> Tensors:
        return (
            {} if self.average is None else {f"average.{name}": tensor for name, tensor in self.average.state().items()}
        )


class CheckpointManager:
    """Resumes a training from its checkpoint, and writes that from time to time; without a checkpoint, does nothing.

    Args:
        identity: the arguments of the training.
    """

    def __init__(
        self,
        checkpoint: Checkpoint | None,
        identity: Mapping[str, Any],
        state: TrainingState,
        processes: ProcessGroup,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._checkpoint, self._identity, self._state, self._processes = checkpoint, identity, state, processes
        self._clock, self._last, self._took = clock, clock(), 0.0

    def resume_(self) -> int:
        """Puts the training, in all processes, where its checkpoint is; returns the steps that are done."""
        saved = self._saved() if self._checkpoint is not None and self._processes.is_main else None
        saved = self._processes.broadcast(saved)
        if saved is None:
            return 0
        self._state.load_(saved.tensors)
        return saved.steps

    def after(self, done: int, steps: int) -> None:
        """Writes the state after a step if it is due: when enough time has passed, and at the end if there was time
        before.
        """
        if self._checkpoint is None or not self._processes.is_main:
            return
        every_s = self._checkpoint.every_s
        due = self._clock() - self._last >= (max(every_s, self._took / MOST_SHARE) if every_s else 0)
        if not due and not (done == steps and self._checkpoint.path.exists()):
            return
        began = self._clock()
        self._checkpoint.write(self._state.tensors(), done, self._identity)
        self._last = self._clock()
        self._took = self._last - began

    def _saved(self) -> Saved | None:
        checkpoint = self._checkpoint
        assert checkpoint is not None
        saved = checkpoint.read(self._identity)
        if saved is None:
            return None
        if misfit := self._state.misfit(saved.tensors):
            checkpoint.refuse(f"is of another network, with {misfit}")
            return None
        checkpoint.stopwatch.resume_(saved.seconds)
        if checkpoint.watched is not None and saved.watched is not None:
            checkpoint.watched.resume_(saved.watched)
        checkpoint.say(f"resumed at step {saved.steps} from {str(checkpoint.path)!r}")
        return saved


Tensors = dict[str, Tensor]
MOST_SHARE = 0.02
"""Of the time of a training that may go into its checkpoints."""


class Watched(Protocol):
    """Something that follows a training and must go on with it."""

    def state(self) -> Any:
        """What it has seen, as JSON knows it."""

    def resume_(self, state: Any) -> None:
        """Goes on from what an earlier process had seen."""


class Stopwatch:
    """Seconds of work, also of processes before this one that were interrupted."""

    def __init__(self) -> None:
        self._began = perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return perf_counter() - self._began

    def resume_(self, seconds: float) -> None:
        """Goes on from the seconds that an earlier process had."""
        self._began = perf_counter() - seconds


@dataclass(frozen=True, kw_only=True)
class Saved:
    """What a checkpoint holds."""

    tensors: Tensors
    steps: int
    seconds: float
    watched: Any


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Where, and how often, a training keeps its state.

    Args:
        path: the file; it appears whole or not at all.
        identity: what the training is, beyond the arguments of ``train_``: a file of another one is not resumed.
        every_s: seconds between two writings; more where writing takes long. 0 writes after every step.
        say: is told that a training was resumed, or why not.
        stopwatch: goes on with the training.
        watched: goes on with the training.

    Raises:
        ValueError: the seconds are negative or no number.
    """

    path: SomeFile
    identity: Mapping[str, Any] = field(default_factory=dict)
    every_s: float = EVERY_S
    say: Callable[[str], None] = lambda text: None
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    watched: Watched | None = None

    def __post_init__(self) -> None:
        if not self.every_s >= 0:
            raise ValueError(f"seconds between checkpoints must not be below 0, got {self.every_s}")

    def write(self, tensors: Tensors, steps: int, identity: Mapping[str, Any]) -> None:
        """Replaces the file atomically. A full disk does not end a training: it is said, and the file stays as it
        was.
        """
        content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        watched = None if self.watched is None else self.watched.state()
        metadata = {
            "identity": _text({**self.identity, **identity}),
            "steps": str(steps),
            "crc32": str(tensors_checksum(content)),
            "seconds": str(self.stopwatch.seconds),
            "watched": json.dumps(watched),
        }
        try:
            write_file(self.path, save(content, metadata))
        except OSError as error:
            self.say(f"checkpoint {str(self.path)!r} cannot be written: {error.strerror}; the training goes on without")

    def read(self, identity: Mapping[str, Any]) -> Saved | None:
        """What the file holds; None, with the reason said, where it is damaged or of another training."""
        if not self.path.exists():
            return None
        try:
            with local_copy(self.path) as path, safe_open(path, "pt") as file:
                metadata: dict[str, str] = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
            known = json.loads(metadata["identity"])
            steps, seconds, watched = (
                int(metadata["steps"]),
                float(metadata["seconds"]),
                json.loads(metadata["watched"]),
            )
            if int(metadata["crc32"]) != tensors_checksum(tensors):
                raise ValueError("its checksum is wrong")
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            self.refuse(f"is damaged ({type(error).__name__}: {error})")
            return None
        wanted = json.loads(_text({**self.identity, **identity}))
        if differing := sorted(name for name in {*known, *wanted} if known.get(name) != wanted.get(name)):
            self.refuse(f"is of another training, which differs in {', '.join(differing)}")
            return None
        return Saved(tensors=tensors, steps=steps, seconds=seconds, watched=watched)

    def refuse(self, reason: str) -> None:
        """Says why the file is not used, and keeps it under a name at which no training writes."""
        numbers = (self.path.with_name(f"{self.path.name}.refused{number}") for number in count(1))
        other = next(path for path in numbers if not path.exists())
        try:
            self.path.rename(other)  # type: ignore[arg-type]  # both are of one kind
            kept = f"it is kept as {other.name!r}"
        except OSError as error:
            kept = f"it cannot be kept as {other.name!r}: {error.strerror}"
        self.say(f"checkpoint {str(self.path)!r} {reason}; the training starts afresh; {kept}")

    def remove(self) -> None:
        """Removes the file, if there is one."""
        self.path.unlink(missing_ok=True)
        if not isinstance(self.path, RemoteFile):
            remove_partial_files(self.path)


def _text(identity: Mapping[str, Any]) -> str:
    return json.dumps(identity, sort_keys=True, default=asdict)
