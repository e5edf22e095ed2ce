"""A user's own training loop and scores in the places of ours."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sconv_search.data.loaders.batches import LoaderData
from sconv_search.system.seeds import seeded
from sconv_search.training.evaluation import Score
from sconv_search.training.loop import TrainingDiverged
from sconv_search.training.process_group import SINGLE_PROCESS, ProcessGroup
from sconv_search.training.schedule import Schedule

Fit = Callable[[nn.Module, Callable[[], Tensor], int], object]
"""A training loop: trains a network in place for so many epochs, with ``penalty()`` added to the loss at each step."""


@dataclass(frozen=True, kw_only=True)
class UserScore:
    """A network's score by a user's functions, which get the network in evaluation mode and without gradients.

    Args:
        validation: steers the search.
        test: read by confirmations alone; None takes the validation's in its place.
    """

    validation: Callable[[nn.Module], float]
    test: Callable[[nn.Module], float] | None = None

    def __call__(self, network: nn.Module, data: LoaderData, split: str) -> Score:
        """The score on a split.

        Raises:
            TypeError: the function gives no number.
        """
        which = "test" if split == data.test and self.test is not None else "score"
        function = self.test if which == "test" and self.test is not None else self.validation
        was_training = network.training
        network.eval()
        with torch.no_grad():
            value = function(network)
        network.train(was_training)
        return Score(value=_number(value, which))


def _number(value: Any, which: str) -> float:
    single = isinstance(value, Tensor) and value.numel() == 1
    if not single and (isinstance(value, (bool, str, Tensor)) or not hasattr(value, "__float__")):
        raise TypeError(f"{which}= must return a number, got a value of type {type(value).__name__}")
    return float(value)


@dataclass(frozen=True, kw_only=True)
class UserFit:
    """A user's training loop, called for one phase of a network's life.

    The weight of the penalty rises over the calls of ``penalty()``, as in our own loop over the steps: it must be high
    at the end, so that compression finds structured kernels. That many calls are expected as the loader has batches in
    the phase's epochs.

    Args:
        fit: of (network, penalty, epochs), whole ones.
    """

    fit: Fit

    def __call__(
        self,
        network: nn.Module,
        data: LoaderData,
        schedule: Schedule,
        *,
        seed: int,
        epochs: float | None = None,
        penalty: Callable[[], Tensor] | None = None,
        penalty_weight: float = 0.0,
        teacher: nn.Module | None = None,
        progress: Callable[[int, int], None] | None = None,
        checkpoint: object = None,
        processes: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        """Trains the network in place and leaves it in evaluation mode.

        Raises:
            TrainingDiverged: a weight is no longer finite.
            ValueError: the loop never calls ``penalty()`` although there is one.
        """
        whole = whole_epochs(schedule.epochs, schedule.epochs if epochs is None else epochs, first=penalty is not None)
        if not whole:
            network.eval()
            return
        device = next(network.parameters()).device
        rising = _RisingPenalty(penalty, penalty_weight, whole * data.length, device, progress)
        with seeded(seed, device), torch.enable_grad():
            self.fit(network.train(), rising, whole)
        if penalty is not None and not rising.calls:
            raise ValueError(
                "fit never called penalty(): without it in the loss the network does not come to its structure; add it,"
                " as in (loss + penalty()).backward()"
            )
        for name, weight in network.named_parameters():
            if not bool(torch.isfinite(weight).all()):
                raise TrainingDiverged(f"after fit the weights of {name} are not finite; a lower learning rate helps")
        network.eval()


class _RisingPenalty:
    def __init__(
        self,
        penalty: Callable[[], Tensor] | None,
        weight: float,
        expected: int,
        device: torch.device,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.calls = 0
        self._penalty, self._weight, self._expected, self._device = penalty, weight, expected, device
        self._progress = progress

    def __call__(self) -> Tensor:
        self.calls += 1
        if self._progress is not None:
            self._progress(min(self.calls, self._expected), self._expected)
        if self._penalty is None:
            return torch.zeros((), device=self._device)
        return self._weight * min(1.0, self.calls / self._expected) * self._penalty()


def whole_epochs(total: float, epochs: float, *, first: bool) -> int:
    """The whole epochs of a phase of a life; those of its two phases sum to the total, the first has at least one.

    Args:
        epochs: of the phase, by its share, which may be broken.
        first: whether the network is trained towards its structure, before it is compressed.
    """
    all_epochs = math.floor(total)
    before = epochs if first else total - epochs
    rounded = min(all_epochs, max(1, round(before))) if before > 0 else 0
    return rounded if first else all_epochs - rounded
