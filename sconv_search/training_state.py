"""All that a training's next step depends on, as tensors: what a checkpoint holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sconv_search.checkpoint import MOST_SHARE, Checkpoint, Saved, Tensors
from sconv_search.processes import Processes
from sconv_search.weight_average import WeightAverage

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
        found = {f"network.{name}": tensor.clone() for name, tensor in self.network.state_dict().items()}
        for place, weight in enumerate(self._weights()):
            if (momentum := self.optimizer.state[weight].get(MOMENTUM)) is not None:
                found[f"momentum.{place}"] = momentum.clone()
        return {**found, **self._average(), "generator": self.generator.get_state()}

    def misfit(self, tensors: Mapping[str, Tensor]) -> str | None:
        """The first name or shape of a checkpoint that is not this training's."""
        optional = {f"momentum.{place}": tuple(weight.shape) for place, weight in enumerate(self._weights())}
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
        for place, weight in enumerate(self._weights()):
            if (saved := tensors.get(f"momentum.{place}")) is not None:
                self.optimizer.state[weight][MOMENTUM] = torch.empty_like(weight).copy_(saved)
        self.generator.set_state(tensors["generator"])

    def _weights(self) -> list[Tensor]:
        return [weight for group in self.optimizer.param_groups for weight in group["params"]]

    def _average(self) -> Tensors:
        return {} if self.average is None else {f"average.{name}": tensor for name, tensor in self.average.state().items()}


class Keeper:
    """Resumes a training from its checkpoint, and writes that from time to time; without a checkpoint, does nothing.

    Args:
        identity: the arguments of the training.
    """

    def __init__(
        self, checkpoint: Checkpoint | None, identity: Mapping[str, Any], state: TrainingState, processes: Processes,
        clock: Callable[[], float] = perf_counter,
    ) -> None:  # fmt: skip
        self._checkpoint, self._identity, self._state, self._processes = checkpoint, identity, state, processes
        self._clock, self._last, self._took = clock, clock(), 0.0

    def resume_(self) -> int:
        """Puts the training, in all processes, where its checkpoint is; returns the steps that are done."""
        saved = self._saved() if self._checkpoint is not None and self._processes.leads else None
        saved = self._processes.agree(saved)
        if saved is None:
            return 0
        self._state.load_(saved.tensors)
        return saved.steps

    def after(self, done: int, steps: int) -> None:
        """Writes the state after a step if it is due: when enough time has passed, and at the end if there was time before."""
        if self._checkpoint is None or not self._processes.leads:
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
            checkpoint.say(
                f"checkpoint {str(checkpoint.path)!r} is of another network, with {misfit}; the training starts afresh"
            )
            return None
        checkpoint.stopwatch.resume_(saved.seconds)
        if checkpoint.watched is not None and saved.watched is not None:
            checkpoint.watched.resume_(saved.watched)
        checkpoint.say(f"resumed at step {saved.steps} from {str(checkpoint.path)!r}")
        return saved
