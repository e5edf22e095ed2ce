"""The loss that training descends: cross-entropy, and the distance to a teacher's logits.

Sources: soft targets of Hinton, Vinyals, Dean, arXiv 1503.02531; squared differences of logits of Kim, Oh, Kim, Cho,
Yun, Comparing Kullback-Leibler Divergence and Mean Squared Error Loss in Knowledge Distillation, IJCAI 2021.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sconv_search.data.splits import DataSet, Split
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
            labels = _cross_entropy(logits, batch.labels, data.class_weights, schedule.label_smoothing, processes)
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
    given, wanted = (F.log_softmax(found / schedule.temperature, dim=1) for found in (logits, wanted))
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
