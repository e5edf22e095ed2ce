"""One training loop for every method. It knows none of them, only an optional penalty added to the loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sconv_search.batch_order import batch_parts, dropout_seed
from sconv_search.checkpoint import Checkpoint
from sconv_search.data import DataSet, Images, Split
from sconv_search.loss import training_loss
from sconv_search.memory_layout import channels_last_
from sconv_search.metrics import TOP1, Metric
from sconv_search.processes import ALONE, Processes
from sconv_search.randomness import seeded
from sconv_search.training_state import Keeper, TrainingState
from sconv_search.weight_average import WeightAverage

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""
CHECK_EVERY = 16
EVALUATION_BATCH = 500


class TrainingDiverged(RuntimeError):
    """The loss is no longer a finite number."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how a network is trained; the same for every method of a comparison.

    Args:
        epochs: passes over the training images; fractions are allowed, and 0 trains nothing.
        learning_rate: peak of the curve.
        curve: ``one_cycle`` rises over the first fifth, then both fall to 0 as a cosine.
        label_smoothing: share of the target spread over all classes.
        distillation: share of the loss that draws the logits to a teacher's, where one is given.
        temperature: softening of the teacher's and the network's logits.
        average_decay: share of the moving average of the weights that a step keeps, such as 0.999; the network ends with the
            average. 0 takes no average.
        accumulation: parts of a batch that are run one after the other, where a whole one needs too much memory; batch norms
            see a part at a time.
        precision: ``auto`` takes bf16 where the device computes it natively, else fp32.

    Raises:
        ValueError: a number is out of range.
    """

    epochs: float
    batch_size: int = 128
    learning_rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    curve: Literal["one_cycle", "cosine"] = "one_cycle"
    label_smoothing: float = 0.0
    distillation: float = 0.0
    temperature: float = 4.0
    average_decay: float = 0.0
    accumulation: int = 1
    precision: Literal["auto", "fp32", "bf16"] = "auto"

    def __post_init__(self) -> None:
        if not self.epochs >= 0:
            raise ValueError(f"Schedule.epochs must not be below 0, got {self.epochs}")
        for name in ("batch_size", "learning_rate", "temperature", "accumulation"):
            if not getattr(self, name) > 0:
                raise ValueError(f"Schedule.{name} must be positive, got {getattr(self, name)}")
        for name in ("epochs", "learning_rate", "temperature"):
            if getattr(self, name) == math.inf:
                raise ValueError(f"Schedule.{name} must be finite, got inf")
        for name in ("momentum", "weight_decay", "label_smoothing", "distillation", "average_decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"Schedule.{name} must be in 0..1, got {getattr(self, name)}")
        if self.batch_size % self.accumulation:
            raise ValueError(f"Schedule.accumulation {self.accumulation} must divide the batch_size {self.batch_size}")
        if self.curve not in ("one_cycle", "cosine") or self.precision not in ("auto", "fp32", "bf16"):
            raise ValueError(f"Schedule has curve {self.curve!r} and precision {self.precision!r}; see its documentation")

    def factor(self, progress: float) -> float:
        """Share of the peak learning rate at a progress of 0..1."""
        rise = 0.2 if self.curve == "one_cycle" else 0.0
        if progress < rise:
            return 0.05 + 0.95 * progress / rise
        return 0.5 + 0.5 * math.cos(math.pi * (progress - rise) / (1 - rise))


@dataclass(frozen=True, kw_only=True)
class Score:
    """How right a network is, and its cross-entropy in nat, the mean over all predictions.

    Args:
        top1: top-1 accuracy in %, or the score in % by the task's own metric.
    """

    top1: float
    loss: float


def train_(
    network: nn.Module,
    data: DataSet,
    schedule: Schedule,
    *,
    seed: int,
    epochs: float | None = None,
    penalty: Callable[[], Tensor] | None = None,
    penalty_weight: float = 0.0,
    teacher: nn.Module | None = None,
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
    processes: Processes = ALONE,
) -> None:
    """Trains the network in place with SGD, deterministically for a seed, and leaves it in evaluation mode.

    Interrupted and called again with the same arguments, it continues at the step of the checkpoint, to the same weights.

    Args:
        epochs: overrides the schedule's, for one phase of a longer life; each phase runs the whole curve.
        penalty: added to the loss, with a weight that rises linearly to ``penalty_weight`` over the phase: it must be
            high at the end, so that compression finds a structured kernel, and low at first, so that the task leads.
        teacher: network whose logits are distilled, if the schedule says so.
        checkpoint: where the state is kept meanwhile; None keeps none. The file stays; who made it removes it.
        processes: those that share each batch, all of which call this with the same arguments.

    Raises:
        TrainingDiverged: the loss became infinite or not a number.
        ValueError: a batch is larger than the data, or does not fall into equal shares.
    """
    epochs = schedule.epochs if epochs is None else epochs
    if not epochs:
        network.eval()
        return
    generator = torch.Generator().manual_seed(seed)
    steps = max(1, round(epochs * len(data.train) / schedule.batch_size))
    parts = batch_parts(len(data.train), schedule.batch_size, schedule.accumulation, steps, generator, processes.share)
    optimizer = torch.optim.SGD(
        network.parameters(), lr=schedule.learning_rate, momentum=schedule.momentum,
        weight_decay=schedule.weight_decay, nesterov=schedule.momentum > 0,
    )  # fmt: skip
    processes.copy_first_(channels_last_(network).train())
    average = WeightAverage(network, schedule.average_decay) if schedule.average_decay > 0 else None
    identity = {"schedule": schedule, "seed": seed, "epochs": epochs, "steps": steps, "penalty_weight": penalty_weight}
    state = TrainingState(network=network, optimizer=optimizer, generator=generator, average=average)
    keeper = Keeper(checkpoint, identity, state, processes)
    begun = keeper.resume_()
    images = data.train.batches(parts, seed, share=processes.share, start=begun * schedule.accumulation)
    for step in range(begun, steps):
        for group in optimizer.param_groups:
            group["lr"] = schedule.learning_rate * schedule.factor(step / steps)
        optimizer.zero_grad(set_to_none=True)
        weight = penalty_weight * (step + 1) / steps
        with seeded(dropout_seed(step, seed, processes.share), _device(network)), processes.synchronized():
            drawn = penalty if weight > 0 else None
            loss = _backward(network, data, images, schedule, teacher, generator, drawn, weight, processes)
        processes.average_gradients_(network)
        optimizer.step()
        if average is not None:
            average.update()
        if (step + 1) % CHECK_EVERY == 0 or step + 1 == steps:  # not each step: reading the loss waits for a GPU
            mean = processes.total(loss) / processes.share.count
            _require_finite(mean, step + 1, steps, schedule, penalty_weight)
        if progress is not None:
            progress(step + 1, steps)
        keeper.after(step + 1, steps)
    if average is not None:
        average.put_()
    network.eval()


def _device(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


def _backward(
    network: nn.Module, data: DataSet, parts: Iterator[Split], schedule: Schedule, teacher: nn.Module | None,
    generator: torch.Generator, penalty: Callable[[], Tensor] | None, penalty_weight: float, processes: Processes,
) -> Tensor:  # fmt: skip
    """Adds the gradient of a batch's loss, part by part, to the weights' gradients; returns the loss."""
    total: Tensor | None = None
    for number in range(schedule.accumulation):
        loss = training_loss(network, data, next(parts), schedule, teacher, generator, processes) / schedule.accumulation
        if penalty is not None and number + 1 == schedule.accumulation:
            loss = loss + penalty_weight * penalty()
        loss.backward()
        total = loss.detach() if total is None else total + loss.detach()
    assert total is not None
    return total


def _require_finite(loss: Tensor, step: int, steps: int, schedule: Schedule, penalty_weight: float) -> None:
    if not math.isfinite(value := float(loss.detach())):
        raise TrainingDiverged(
            f"the loss is {value} at step {step} of {steps} (learning rate {schedule.learning_rate:g}, "
            f"regularisation weight {penalty_weight:g}); a lower learning rate usually helps"
        )


@torch.no_grad()
def predict(network: nn.Module, data: DataSet, images: Tensor, batch: int = EVALUATION_BATCH) -> Tensor:
    """The network's logits (N, classes) for uint8 images, in whatever mode it is in."""
    return torch.cat([network(data.normalized(part)).float() for part in images.split(batch)])


@torch.no_grad()
def evaluate(network: nn.Module, data: DataSet, split: Images, metric: Metric = TOP1) -> Score:
    """Score and loss on a split, in evaluation mode; the network's own mode is put back.

    Args:
        metric: what the score is.
    """
    was_training, tally, loss, predictions = network.training, None, 0.0, 0
    network.eval()
    for batch in split.batches(torch.arange(len(split)).split(data.evaluation_batch)):
        logits = predict(network, data, batch.images, batch=data.evaluation_batch)
        tally = tally or metric.tally(logits.shape[1])
        tally.add(logits, batch.labels)
        loss += float(F.cross_entropy(logits, batch.labels, reduction="sum"))
        predictions += int((batch.labels >= 0).sum())
    network.train(was_training)
    if tally is None or not predictions:
        raise ValueError(f"data set {data.name!r} has no labelled image to score")
    return Score(top1=tally.result(), loss=loss / predictions)
