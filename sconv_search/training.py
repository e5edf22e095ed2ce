"""One training loop for every method. It knows none of them, only an optional penalty added to the loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sconv_search.data import DataSet, Images, Split
from sconv_search.metrics import TOP1, Metric
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


def computes_bf16(device: torch.device) -> bool:
    """Whether the device has bf16 instructions; without them a CPU emulates bf16 about ten times slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return device.type == "cpu" and bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def _autocast(schedule: Schedule, device: torch.device) -> torch.autocast:
    low = schedule.precision == "bf16" or (schedule.precision == "auto" and computes_bf16(device))
    return torch.autocast(device.type, torch.bfloat16, enabled=low)


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
) -> None:
    """Trains the network in place with SGD, deterministically for a seed, and leaves it in evaluation mode.

    Args:
        epochs: overrides the schedule's, for one phase of a longer life; each phase runs the whole curve.
        penalty: added to the loss, with a weight that rises linearly to ``penalty_weight`` over the phase: it must be
            high at the end, so that compression finds a structured kernel, and low at first, so that the task leads.
        teacher: network whose logits are distilled, if the schedule says so.

    Raises:
        TrainingDiverged: the loss became infinite or not a number.
    """
    epochs = schedule.epochs if epochs is None else epochs
    if not epochs:
        network.eval()
        return
    generator = torch.Generator().manual_seed(seed)
    steps = max(1, round(epochs * len(data.train) / schedule.batch_size))
    optimizer = torch.optim.SGD(
        network.parameters(), lr=schedule.learning_rate, momentum=schedule.momentum,
        weight_decay=schedule.weight_decay, nesterov=schedule.momentum > 0,
    )  # fmt: skip
    curve = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule.factor(step / steps))
    network.to(memory_format=torch.channels_last).train()
    average = WeightAverage(network, schedule.average_decay) if schedule.average_decay > 0 else None
    batches = _batches(len(data.train), schedule.batch_size, steps, generator)
    for step, batch in enumerate(data.train.batches(batches, seed)):
        optimizer.zero_grad(set_to_none=True)
        weight = penalty_weight * (step + 1) / steps
        loss = _backward(network, data, batch, schedule, teacher, generator, penalty if weight > 0 else None, weight)
        optimizer.step()
        curve.step()
        if average is not None:
            average.update()
        if (step + 1) % CHECK_EVERY == 0 or step + 1 == steps:  # not each step: reading the loss waits for a GPU
            _require_finite(loss, step + 1, steps, schedule, penalty_weight)
        if progress is not None:
            progress(step + 1, steps)
    if average is not None:
        average.put_()
    network.eval()


def _batches(count: int, size: int, steps: int, generator: torch.Generator) -> list[Tensor]:
    """Indices of each step's images; every pass is a new permutation, the last incomplete batch of a pass is left out."""
    if count < size:
        raise ValueError(f"batch_size {size} is larger than the {count} training images")
    found: list[Tensor] = []
    while len(found) < steps:
        found += [batch for batch in torch.randperm(count, generator=generator).split(size) if len(batch) == size]
    return found[:steps]


def _backward(
    network: nn.Module, data: DataSet, batch: Split, schedule: Schedule, teacher: nn.Module | None,
    generator: torch.Generator, penalty: Callable[[], Tensor] | None, penalty_weight: float,
) -> Tensor:  # fmt: skip
    """Adds the gradient of a batch's loss, part by part, to the weights' gradients; returns the loss."""
    parts = torch.arange(len(batch)).split(len(batch) // schedule.accumulation)
    total = torch.zeros((), device=batch.labels.device)
    for part in parts:
        loss = _loss(network, data, batch.take(part) if len(parts) > 1 else batch, schedule, teacher, generator) / len(parts)
        if penalty is not None and part is parts[-1]:
            loss = loss + penalty_weight * penalty()
        loss.backward()
        total = total + loss.detach()
    return total


def _loss(
    network: nn.Module, data: DataSet, batch: Split, schedule: Schedule, teacher: nn.Module | None, generator: torch.Generator
) -> Tensor:
    """Cross-entropy, the mean over all predictions: one an image, or one a pixel."""
    x_NCHW = data.normalized(data.augmented(batch, generator))
    weights = None if data.class_weights is None else torch.tensor(data.class_weights, device=x_NCHW.device)
    with _autocast(schedule, x_NCHW.device):
        logits = network(x_NCHW)
        loss = F.cross_entropy(logits, batch.labels, weight=weights, label_smoothing=schedule.label_smoothing)
        if teacher is None or schedule.distillation == 0:
            return loss
        with torch.no_grad():
            wanted = F.log_softmax(teacher(x_NCHW) / schedule.temperature, dim=1)
        given = F.log_softmax(logits / schedule.temperature, dim=1)
        distance = F.kl_div(given, wanted, reduction="sum", log_target=True) * schedule.temperature**2 / batch.labels.numel()
        return (1 - schedule.distillation) * loss + schedule.distillation * distance


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
