"""Whether network, data and schedules can be trained with, found out before any long work, each fault in its own
words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from sconv_search.copying import copied
from sconv_search.cost.counting import example_input
from sconv_search.data.loaders.batches import LoaderData
from sconv_search.data.splits import SPLITS, DataSet, Images, Split
from sconv_search.system.memory_format import channels_last_
from sconv_search.system.seeds import seeded
from sconv_search.system.weights import not_finite
from sconv_search.training.loss import loader_loss, training_loss
from sconv_search.training.process_group import SINGLE_PROCESS
from sconv_search.training.schedule import Schedule

SHOWN = 3


def require_sound_network(network: nn.Module) -> None:
    """Refuses weights in another type than images are given in, on several devices, or that are not finite.

    Raises:
        ValueError: which weights, and what would be right.
    """
    name, tensors = type(network).__name__, network.state_dict(keep_vars=True)
    parameters = dict(network.named_parameters())
    for weight_name, weight in parameters.items():
        if weight.is_floating_point() and weight.dtype != torch.float32:
            raise ValueError(
                f"{name} has weights in {weight.dtype} ({weight_name}); it is trained and scored on images in "
                "torch.float32: give network.float() (Schedule.precision chooses the arithmetic of trainings)"
            )
    if lost := [key for key, tensor in tensors.items() if isinstance(tensor, Tensor) and tensor.is_meta]:
        raise ValueError(
            f"{name} has tensors without values (on the device meta), such as {lost[0]}; load its weights first"
        )
    devices = {tensor.device: key for key, tensor in tensors.items() if isinstance(tensor, Tensor)}
    if len(devices) > 1:
        devices_text = ", ".join(f"{key} on {device}" for device, key in devices.items())
        raise ValueError(f"{name} lies on several devices: {devices_text}; move it to one with network.to(device)")
    plain = {key: tensor.detach() for key, tensor in tensors.items() if isinstance(tensor, Tensor)}
    if wrong := not_finite(plain, {key for key in plain if key not in parameters}):
        more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise ValueError(f"{name} has weights that are not finite: {'; '.join(wrong[:SHOWN])}{more}")


def require_fit(task: str, input_shape: Sequence[int], network: nn.Module, data: DataSet) -> None:
    """Refuses splits without a label that counts, images of another shape than the task's, and outputs that are no
    logits.

    Args:
        task: its name, for errors.
        input_shape: of one input without the batch.
        network: in evaluation mode.

    Raises:
        ValueError: which split or output, and what would be right.
    """
    for name in SPLITS:
        _require_split(task, input_shape, name, getattr(data, name))
    channels = input_shape[0]
    for field in ("mean", "std"):
        if len(values := getattr(data, field)) not in (1, channels):
            raise ValueError(
                f"DataSet.{field} of {data.name!r} has {len(values)} numbers for images of {channels} channels"
            )
    logits = _logits(network, input_shape)
    spatial = data.train.label_shape
    given = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    title, classes = type(network).__name__, max(getattr(data, name).classes for name in SPLITS)
    if not isinstance(logits, Tensor) or logits.shape[2:] != spatial or logits.dim() < 2:
        raise ValueError(
            f"{title} of task {task!r} gives {given} for one input; "
            f"the data's {classes} classes need logits of shape {(1, classes, *spatial)}"
        )
    told_apart = max(2, logits.shape[1])  # by one logit, no and yes
    for name in SPLITS:
        if (class_count := getattr(data, name).classes) > told_apart:
            raise ValueError(
                f"{title} of task {task!r} gives {given} for one input, which is {told_apart} classes, but "
                f"the {name} labels go up to {class_count - 1}: logits of shape {(1, classes, *spatial)} are needed"
            )
    if data.class_weights is not None and len(data.class_weights) != told_apart:
        raise ValueError(
            f"DataSet.class_weights of {data.name!r} has {len(data.class_weights)} numbers; {title} tells "
            f"{told_apart} classes apart"
        )


def _require_split(task: str, input_shape: Sequence[int], name: str, split: Images) -> None:
    if not len(split):
        raise ValueError(f"the {name} split of task {task!r} holds no image")
    split.take(torch.arange(1))  # a file that cannot be read, or has labels that are no classes, is named here
    if split.shape != tuple(input_shape):
        raise ValueError(
            f"task {task!r} has input_shape {tuple(input_shape)}, its images are {split.shape} in the {name} split"
        )
    if isinstance(split, Split) and not bool((split.labels >= 0).any()):
        raise ValueError(f"the {name} split of task {task!r} has no label that counts: all {len(split)} are below 0")


@torch.no_grad()
def _logits(network: nn.Module, input_shape: Sequence[int]) -> object:
    return network(example_input(network, input_shape))


def require_batches(data: DataSet | LoaderData, schedules: Mapping[str, Schedule]) -> None:
    """Refuses batches that are larger than the training images.

    Args:
        schedules: by what they are of, in words.

    Raises:
        ValueError: which schedule.
    """
    if isinstance(data, LoaderData):
        return
    for name, schedule in schedules.items():
        if schedule.epochs and schedule.batch_size > len(data.train):
            raise ValueError(
                f"the batch_size {schedule.batch_size} of the {name} is larger than the {len(data.train)} training "
                f"images of {data.name!r}; give the {name} a Schedule with a smaller one; "
                "a task of photos takes it in its name, as images?batch=8"
            )


def require_training_step(network: nn.Module, data: DataSet | LoaderData, schedule: Schedule) -> None:
    """Makes one step of a training, forward and backward in training mode with a whole batch, on a copy of the network.

    Raises:
        ValueError: it fails; what was given and the cause are named.
    """
    if not schedule.epochs:
        return
    if isinstance(data, LoaderData):
        _require_loader_step(network, data, schedule)
        return
    trained, generator = channels_last_(copied(network)).train(), torch.Generator().manual_seed(0)
    (batch,) = data.train.batches([torch.arange(schedule.batch_size // schedule.accumulation)], 0)
    title, device = f"{type(network).__name__} in training mode", next(trained.parameters(), batch.images).device

    def forward(x_NCHW: Tensor) -> Tensor:
        return _logits_of(title, trained(x_NCHW), batch)

    try:
        with seeded(0, device):
            teacher = network if schedule.distillation else None
            loss = training_loss(forward, data, batch, schedule, teacher, generator, SINGLE_PROCESS)
            loss.backward()
    except _NoLogits:
        raise
    except Exception as error:  # of any kind: the forward is the user's own
        words = str(error).strip() or type(error).__name__
        raise ValueError(f"{title} fails in a training step with {len(batch)} images: {words}") from error
    if not math.isfinite(value := float(loss.detach())):
        raise ValueError(f"{title} has the loss {value} on the first {len(batch)} training images, before any training")


def _require_loader_step(network: nn.Module, data: LoaderData, schedule: Schedule) -> None:
    trained, batch = copied(network).train(), data.first_batch()
    title = f"{type(network).__name__} in training mode"
    try:
        with seeded(0, data.device):
            loss = loader_loss(trained, data, batch, schedule, network if schedule.distillation else None)
            loss.backward()
    except Exception as error:  # of any kind: forward and loss are the user's own
        words = str(error).strip() or type(error).__name__
        raise ValueError(f"{title} fails in a training step with the first batch of data: {words}") from error
    if not math.isfinite(value := float(loss.detach())):
        raise ValueError(f"{title} has the loss {value} on the first batch of data, before any training")


class _NoLogits(ValueError):
    """A network's outputs cannot be trained."""


def _logits_of(title: str, outputs: object, batch: Split) -> Tensor:
    """The outputs, unless they differ in kind from those in evaluation mode, as a tuple with auxiliary classifiers'
    does.
    """
    if not isinstance(outputs, Tensor):
        raise _NoLogits(
            f"{title} gives a {type(outputs).__name__} where logits in one tensor are needed; "
            "give a network without auxiliary outputs, or one whose forward returns the logits alone"
        )
    if outputs.dim() < 2 or outputs.shape[0] != len(batch) or outputs.shape[2:] != batch.labels.shape[1:]:
        raise _NoLogits(f"{title} gives {tuple(outputs.shape)} for labels of shape {tuple(batch.labels.shape)}")
    return outputs
