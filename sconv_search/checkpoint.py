"""Files from which an interrupted training continues at the step that they were written at. No pickles."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from sconv_search.whole_file import appears_whole, partial_file

Tensors = dict[str, Tensor]
EVERY_S = 60.0
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
    """

    path: Path
    identity: Mapping[str, Any] = field(default_factory=dict)
    every_s: float = EVERY_S
    say: Callable[[str], None] = lambda text: None
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    watched: Watched | None = None

    def write(self, tensors: Tensors, steps: int, identity: Mapping[str, Any]) -> None:
        """Replaces the file atomically. A full disk does not end a training: it is said, and the file stays as it was."""
        content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        watched = None if self.watched is None else self.watched.state()
        metadata = {
            "identity": _text({**self.identity, **identity}), "steps": str(steps), "crc32": str(_checksum(content)),
            "seconds": str(self.stopwatch.seconds), "watched": json.dumps(watched),
        }  # fmt: skip
        try:
            with appears_whole(self.path) as partial, open(partial, "wb") as file:
                file.write(save(content, metadata))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            self.say(f"checkpoint {str(self.path)!r} cannot be written: {error.strerror}; the training goes on without")

    def read(self, identity: Mapping[str, Any]) -> Saved | None:
        """What the file holds; None, with the reason said, where it is damaged or of another training."""
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, "pt") as file:
                metadata: dict[str, str] = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
            known = json.loads(metadata["identity"])
            steps, seconds, watched = int(metadata["steps"]), float(metadata["seconds"]), json.loads(metadata["watched"])
            if int(metadata["crc32"]) != _checksum(tensors):
                raise ValueError("its checksum is wrong")
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            self._refuse(f"is damaged ({type(error).__name__}: {error})")
            return None
        wanted = json.loads(_text({**self.identity, **identity}))
        if differing := sorted(name for name in {*known, *wanted} if known.get(name) != wanted.get(name)):
            self._refuse(f"is of another training, which differs in {', '.join(differing)}")
            return None
        return Saved(tensors=tensors, steps=steps, seconds=seconds, watched=watched)

    def _refuse(self, reason: str) -> None:
        self.say(f"checkpoint {str(self.path)!r} {reason}; the training starts afresh")

    def remove(self) -> None:
        """Removes the file, if there is one."""
        self.path.unlink(missing_ok=True)
        partial_file(self.path).unlink(missing_ok=True)


def _text(identity: Mapping[str, Any]) -> str:
    return json.dumps(identity, sort_keys=True, default=asdict)


def _checksum(tensors: Tensors) -> int:
    """CRC-32 over names and contents: what a disk or a transfer damages shows."""
    found = 0
    for name in sorted(tensors):
        content = tensors[name].reshape(-1).view(torch.uint8).numpy()
        found = zlib.crc32(content.data, zlib.crc32(name.encode(), found))
    return found
