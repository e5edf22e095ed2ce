"""How long and how a network is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

Curve = Literal["one_cycle", "cosine"]
Precision = Literal["auto", "fp32", "bf16"]
Compiled = Literal["auto", "always", "never"]
TeacherLoss = Literal["soft_targets", "logits"]
PenaltyCurve = Literal["rising", "constant"]
MOST_EPOCHS, MOST_LEARNING_RATE = 1e6, 1e3
"""Far above all that is of use: numbers beyond are mistyped."""
EVERY_S = 60.0
"""Seconds between the checkpoints of a training, unless the user says otherwise."""
CHOICES = {
    "curve": get_args(Curve),
    "precision": get_args(Precision),
    "compiled": get_args(Compiled),
    "teacher_loss": get_args(TeacherLoss),
    "penalty_curve": get_args(PenaltyCurve),
}


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how a network is trained; the same for every method of a comparison.

    Args:
        epochs: passes over the training images; fractions are allowed, and 0 trains nothing.
        learning_rate: peak of the curve.
        curve: ``one_cycle`` rises over the first fifth, then both fall to 0 as a cosine.
        label_smoothing: share of the target spread over all classes.
        distillation: share of the loss that draws the logits to a teacher's, where one is given; at 1 labels count
            nowhere.
        teacher_loss: how far logits are from the teacher's: ``logits`` the mean squared difference, ``soft_targets``
            the divergence of the softened probabilities.
        temperature: softening of the teacher's and the network's logits for ``soft_targets``.
        average_decay: share of the moving average of the weights that a step keeps, such as 0.999; the network ends
            with the average. 0 takes no average.
        accumulation: parts of a batch that are run one after the other, where a whole one needs too much memory; batch
            norms see a part at a time.
        precision: ``auto`` takes bf16 where the device computes it natively, else fp32.
        compiled: whether ``torch.compile`` makes the network's forward and backward: ``auto`` where the training is so
            long that it pays, on a CPU (see ``compiled_training``); ``always`` on any device. Trainings that several
            processes share are never compiled.
        penalty_curve: weight of a penalty, such as the structural loss, over a training: ``rising`` linearly to the
            whole weight, so that the task leads at first, or ``constant``.

    Raises:
        ValueError: a number is out of range.
    """

    epochs: float
    batch_size: int = 128
    learning_rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    curve: Curve = "one_cycle"
    label_smoothing: float = 0.0
    distillation: float = 0.0
    teacher_loss: TeacherLoss = "soft_targets"
    temperature: float = 4.0
    average_decay: float = 0.0
    accumulation: int = 1
    precision: Precision = "auto"
    compiled: Compiled = "auto"
    penalty_curve: PenaltyCurve = "rising"

    def __post_init__(self) -> None:
        if not self.epochs >= 0:
            raise ValueError(f"Schedule.epochs must not be below 0, got {self.epochs}")
        for name in ("batch_size", "accumulation"):
            if isinstance(value := getattr(self, name), bool) or not isinstance(value, int):
                raise ValueError(f"Schedule.{name} must be a whole number, got {value!r}")
        for name in ("batch_size", "learning_rate", "temperature", "accumulation"):
            if not getattr(self, name) > 0:
                raise ValueError(f"Schedule.{name} must be positive, got {getattr(self, name)}")
        for name in ("epochs", "learning_rate", "temperature"):
            if getattr(self, name) == math.inf:
                raise ValueError(f"Schedule.{name} must be finite, got inf")
        for name, most in (("epochs", MOST_EPOCHS), ("learning_rate", MOST_LEARNING_RATE)):
            if getattr(self, name) > most:
                raise ValueError(f"Schedule.{name} must be at most {most:g}, got {getattr(self, name):g}")
        for name in ("momentum", "weight_decay", "label_smoothing", "distillation", "average_decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"Schedule.{name} must be in 0..1, got {getattr(self, name)}")
        if self.batch_size % self.accumulation:
            raise ValueError(f"Schedule.accumulation {self.accumulation} must divide the batch_size {self.batch_size}")
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"Schedule.{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")

    def factor(self, progress: float) -> float:
        """Share of the peak learning rate at a progress of 0..1."""
        rise = 0.2 if self.curve == "one_cycle" else 0.0
        if progress < rise:
            return 0.05 + 0.95 * progress / rise
        return 0.5 + 0.5 * math.cos(math.pi * (progress - rise) / (1 - rise))

    def penalty_share(self, progress: float) -> float:
        """Share of a penalty's weight at a progress of 0..1."""
        return progress if self.penalty_curve == "rising" else 1.0
