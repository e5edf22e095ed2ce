"""The loss that training descends: cross-entropy or a user's own, and the distance to a teacher's outputs.

Sources: soft targets of Hinton, Vinyals, Dean, arXiv 1503.02531; squared differences of logits of Kim, Oh, Kim, Cho,
Yun, Comparing Kullback-Leibler Divergence and Mean Squared Error Loss in Knowledge Distillation, IJCAI 2021.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sconv_search.cost.network_inputs import called, output_tensors
from sconv_search.data.loaders.batches import LoaderData
from sconv_search.data.splits import DataSet, Split
from sconv_search.training.metrics import class_logits
from sconv_search.training.process_group import ProcessGroup
from sconv_search.training.schedule import Schedule

Forward = Callable[[Tensor], Tensor]
"""From the network's input to its outputs: the network itself, or what runs it."""


def computes_bf16(device: torch.device) -> bool:
    """Whether the device has bf16 instructions; without them a CPU emulates bf16 about ten times slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return device.type == "cpu" and bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def _autocast(schedule: Schedule, device: torch.device) -> torch.autocast:
    low = schedule.precision == "bf16" or (schedule.precision == "auto" and computes_bf16(device))
    return torch.autocast(device.type, torch.bfloat16, enabled=low)


def batch_loss(
    network: Forward,
    data: DataSet | LoaderData,
    batch: Any,
    schedule: Schedule,
    teacher: nn.Module | None,
    generator: torch.Generator,
    processes: ProcessGroup,
) -> Tensor:
    """The loss of a batch of images, or of a user's own loader.

    Raises:
        TypeError: the user's loss gives no number that can be descended.
    """
    if isinstance(data, LoaderData):
        assert isinstance(network, nn.Module)
        return loader_loss(network, data, batch, schedule, teacher)
    return training_loss(network, data, batch, schedule, teacher, generator, processes)


def loader_loss(
    network: nn.Module, data: LoaderData, batch: Any, schedule: Schedule, teacher: nn.Module | None
) -> Tensor:
    """The user's loss of a batch; with a teacher and a share of distillation, drawn to its outputs, too.

    The distance to the teacher is the squared difference of all floating-point outputs over their squares, which needs
    no logits.

    Raises:
        TypeError: the user's loss gives no number that can be descended, or there is none.
    """
    if data.loss is None:
        raise TypeError(f"the data of {data.name!r} has no loss; give loss= a function of (outputs, targets), or fit=")
    inputs = data.read(batch)
    with _autocast(schedule, data.device):
        outputs = called(network, inputs)
        share = 0.0 if teacher is None else schedule.distillation
        if teacher is not None and share:
            with torch.no_grad():
                wanted = called(teacher, inputs)
            distance = _output_distance(outputs, wanted)
            if share == 1:
                return distance
        loss = data.loss(outputs, data.wanted(batch))
        if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
            given = f"of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"of type {type(loss).__name__}"
            raise TypeError(
                f"the loss must give one number that depends on the outputs, as cross_entropy does; got a value {given}"
            )
        loss = loss.reshape(())
        return (1 - share) * loss + share * distance if share else loss


def _output_distance(outputs: Any, wanted: Any) -> Tensor:
    """The squared differences of all floating-point outputs over their squares, a mean over the outputs."""
    own, others = ([x for x in output_tensors(given) if x.is_floating_point()] for given in (outputs, wanted))
    pairs = zip(own, others, strict=True)
    return torch.stack([(a - b).square().sum() / b.square().sum().clamp_min(1e-30) for a, b in pairs]).mean()


def training_loss(
    network: Forward,
    data: DataSet,
    batch: Split,
    schedule: Schedule,
    teacher: nn.Module | None,
    generator: torch.Generator,
    processes: ProcessGroup,
) -> Tensor:
    """The loss of a batch augmented by the generator, a mean over all predictions: one an image, or one a pixel.

    Where the batch is the share of one of several processes, the losses of all have the whole batch's as their mean.
    """
    x_NCHW = data.normalized(data.augmented(batch, generator, processes.shard))
    share = 0.0 if teacher is None else schedule.distillation
    with _autocast(schedule, x_NCHW.device):
        logits = network(x_NCHW)
        parts = []
        if share < 1:
            labels = _cross_entropy(
                class_logits(logits), batch.labels, data.class_weights, schedule.label_smoothing, processes
            )
            parts.append((1 - share) * labels if share else labels)
        if teacher is not None and share:
            with torch.no_grad():
                wanted = teacher(x_NCHW)
            parts.append(share * _distance(logits, wanted, batch.labels.numel(), schedule))
        return torch.stack(parts).sum()


def _distance(logits: Tensor, wanted: Tensor, predictions: int, schedule: Schedule) -> Tensor:
    """How far logits are from a teacher's, a mean over all predictions."""
    if schedule.teacher_loss == "logits":
        return F.mse_loss(logits.float(), wanted.float())
    given, wanted = (F.log_softmax(class_logits(outputs) / schedule.temperature, dim=1) for outputs in (logits, wanted))
    divergence = F.kl_div(given, wanted, reduction="sum", log_target=True)
    return divergence * schedule.temperature**2 / predictions


def _cross_entropy(
    logits: Tensor, labels: Tensor, class_weights: tuple[float, ...] | None, smoothing: float, processes: ProcessGroup
) -> Tensor:
    """The mean; over processes, whose labels may differ in weight or count nowhere, each has a sum by its share of
    all.
    """
    weights = None if class_weights is None else torch.tensor(class_weights, device=logits.device)
    if processes.shard.count == 1:
        counts = (labels >= 0).any()  # stays on the device, so that a GPU need not wait
        mean = F.cross_entropy(logits, labels.where(counts, 0), weight=weights, label_smoothing=smoothing)
        return mean * counts  # a batch without any label that counts moves nothing, where a mean over none is no number
    known = labels[labels >= 0]
    mass = torch.tensor(float(known.numel()), device=logits.device) if weights is None else weights[known].sum()
    total = F.cross_entropy(logits, labels, weight=weights, label_smoothing=smoothing, reduction="sum")
    return total * processes.shard.count / processes.all_reduce(mass).clamp_min(torch.finfo(mass.dtype).tiny)
