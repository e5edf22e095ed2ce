"""One training loop for every method. It knows none of them, only an optional penalty added to the loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from sconv_search.data.batch_order import dropout_seed
from sconv_search.data.loaders.batches import LoaderData
from sconv_search.data.splits import DataSet
from sconv_search.system.memory_format import channels_last_
from sconv_search.system.seeds import seeded
from sconv_search.training.checkpoint import Checkpoint, CheckpointManager, TrainingState
from sconv_search.training.compile import training_forward
from sconv_search.training.loss import Forward, batch_loss
from sconv_search.training.process_group import SINGLE_PROCESS, ProcessGroup
from sconv_search.training.schedule import Schedule
from sconv_search.training.weight_average import WeightAverage

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""
CHECK_EVERY = 16


class TrainingDiverged(RuntimeError):
    """The loss is no longer a finite number."""


def train_(
    network: nn.Module,
    data: DataSet | LoaderData,
    schedule: Schedule,
    *,
    seed: int,
    epochs: float | None = None,
    penalty: Callable[[], Tensor] | None = None,
    penalty_weight: float = 0.0,
    teacher: nn.Module | None = None,
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
    processes: ProcessGroup = SINGLE_PROCESS,
) -> None:
    """Trains the network in place with SGD, deterministically for a seed, and leaves it in evaluation mode.

    Interrupted and called again with the same arguments, it continues at the step of the checkpoint, to the same
    weights; with a loader that cannot be replayed, at its last whole epoch.

    Args:
        epochs: overrides the schedule's, for one phase of a longer training; each phase runs the whole curve.
        penalty: added to the loss, with a weight that by default rises linearly to ``penalty_weight`` over the phase:
            it must be high at the end, so that compression finds a structured kernel, and low at first, so that the
            task leads.
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
    steps = data.training_steps(epochs, schedule.batch_size)
    batches_from = data.training_batches(
        steps, schedule.batch_size, schedule.accumulation, seed, generator, processes.shard
    )
    optimizer = _optimizer(network, schedule)
    processes.copy_first_(channels_last_(network).train())
    average = WeightAverage(network, schedule.average_decay) if schedule.average_decay > 0 else None
    identity = {"schedule": schedule, "seed": seed, "epochs": epochs, "steps": steps, "penalty_weight": penalty_weight}
    state = TrainingState(network=network, optimizer=optimizer, generator=generator, average=average)
    keeper = CheckpointManager(checkpoint, identity, state, processes)
    begun = keeper.resume_()
    forward = training_forward(network, data, schedule, steps, processes)
    batches = batches_from(begun)
    for step in range(begun, steps):
        for group in optimizer.param_groups:
            group["lr"] = schedule.learning_rate * schedule.factor(step / steps)
        optimizer.zero_grad(set_to_none=True)
        weight = penalty_weight * schedule.penalty_share((step + 1) / steps)
        with seeded(dropout_seed(step, seed, processes.shard), _device(network)), processes.synchronized():
            drawn = penalty if weight > 0 else None
            loss = _backward(forward, data, batches, schedule, teacher, generator, drawn, weight, processes)
        processes.average_gradients_(network)
        optimizer.step()
        if average is not None:
            average.update()
        if (step + 1) % CHECK_EVERY == 0 or step + 1 == steps:  # not each step: reading the loss waits for a GPU
            mean = processes.all_reduce(loss) / processes.shard.count
            _require_finite(mean, step + 1, steps, schedule, penalty_weight)
        if progress is not None:
            progress(step + 1, steps)
        if data.resumes_at(step + 1) or step + 1 == steps:
            keeper.after(step + 1, steps)
    if average is not None:
        average.put_()
    network.eval()


def _optimizer(network: nn.Module, schedule: Schedule) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        network.parameters(),
        lr=schedule.learning_rate,
        momentum=schedule.momentum,
        weight_decay=schedule.weight_decay,
        nesterov=schedule.momentum > 0,
    )


def _device(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


def _backward(
    forward: Forward,
    data: DataSet | LoaderData,
    parts: Iterator[Any],
    schedule: Schedule,
    teacher: nn.Module | None,
    generator: torch.Generator,
    penalty: Callable[[], Tensor] | None,
    penalty_weight: float,
    processes: ProcessGroup,
) -> Tensor:
    """Adds the gradient of a batch's loss, part by part, to the weights' gradients; returns the loss."""
    total: Tensor | None = None
    for number in range(schedule.accumulation):
        loss = batch_loss(forward, data, next(parts), schedule, teacher, generator, processes) / schedule.accumulation
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
            f"regularization weight {penalty_weight:g}); a lower learning rate usually helps"
        )
