"""Trainings that one process and two must bring to the same weights; as a script, trains all of them in two processes.

``python tests/sconv_search/training/two_processes.py FOLDER`` is started again by Lightning Fabric's launcher for the
second process. Where the folder's name is ``alone``, the second process fails instead.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sconv_search.data.splits import DataSet, Split
from sconv_search.plan import Choice, CompressionPlan
from sconv_search.structured.regularization import structural_loss
from sconv_search.training.loop import train_
from sconv_search.training.process_group import SINGLE_PROCESS, ProcessGroup
from sconv_search.training.schedule import Schedule

SCHEDULE = Schedule(epochs=2, batch_size=16, learning_rate=0.05)
PLAN = CompressionPlan(sites={"3": Choice(method="structured_conv", structure={"c": 4, "n": 2})})


class ActivatedBatchNorm(nn.BatchNorm2d):
    """A subclass that does more, as timm's do."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).relu()


class Normless(nn.Sequential):
    """Without batch norms."""


def layers(classes: int) -> list[nn.Module]:
    first = [nn.Conv2d(2, 8, 3, padding=1, bias=False), ActivatedBatchNorm(8)]
    return [
        *first,
        nn.Identity(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.BatchNorm2d(8, momentum=None, affine=False),
        nn.ReLU(),
    ]


def classifier() -> nn.Module:
    return nn.Sequential(*layers(3), nn.Flatten(), nn.Linear(8 * 64, 3))


def normless() -> nn.Module:
    body = [nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Identity(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*body, nn.Flatten(), nn.Linear(8 * 64, 3))


def segmenter() -> nn.Module:
    return nn.Sequential(*layers(3), nn.Conv2d(8, 3, 1))


def images(pixelwise: bool) -> DataSet:
    """Three classes of brightness; pixels of whole images, more in some than in others, count nowhere."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(96) % 3
    pictures = torch.randint(0, 140, (96, 2, 8, 8), generator=generator, dtype=torch.uint8)
    pictures += (labels * 40).view(-1, 1, 1, 1).byte()
    if pixelwise:
        known = torch.rand(96, 8, 8, generator=generator) < torch.rand(96, 1, 1, generator=generator)
        known[:24] = False
        labels = torch.where(known, labels.view(-1, 1, 1).expand(-1, 8, 8), -100)
    split = Split(images=pictures, labels=labels)
    data = DataSet(name="three", train=split, validation=split, test=split, mean=(0.5, 0.5), std=(0.25, 0.25))
    return replace(data, class_weights=(0.5, 1.0, 3.0)) if pixelwise else replace(data, crop_padding=1, flip=True)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A training."""

    network: Callable[[], nn.Module] = classifier
    pixelwise: bool = False
    schedule: Schedule = SCHEDULE
    penalty_weight: float = 0.0
    taught: bool = False


CASES = {
    "crops and flips": Case(),
    "no batch norm": Case(network=normless),
    "penalty": Case(penalty_weight=0.5),
    "penalty, in parts": Case(penalty_weight=0.5, schedule=replace(SCHEDULE, accumulation=4)),
    "average": Case(schedule=replace(SCHEDULE, average_decay=0.9)),
    "teacher": Case(taught=True, schedule=replace(SCHEDULE, distillation=0.5)),
    "pixels of unlike weight": Case(network=segmenter, pixelwise=True, schedule=replace(SCHEDULE, label_smoothing=0.1)),
}


def trained(case: Case, processes: ProcessGroup = SINGLE_PROCESS, **options: Any) -> dict[str, Tensor]:
    """The weights and statistics after the training."""
    torch.manual_seed(processes.shard.index)  # unlike start weights: those of the first process count
    network, teacher = case.network(), case.network().eval() if case.taught else None
    if teacher is not None:
        torch.manual_seed(7)
        for weight in teacher.parameters():
            nn.init.normal_(weight, std=0.1)
    train_(
        network,
        images(case.pixelwise),
        case.schedule,
        seed=3,
        penalty=structural_loss(network, PLAN),
        penalty_weight=case.penalty_weight,
        teacher=teacher,
        processes=processes,
        **options,
    )
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def fail_alone(processes: ProcessGroup) -> None:
    """The second process fails while the first waits for its gradients."""
    with processes.in_step("an order"):
        if not processes.is_main:
            raise ValueError("an image of mine is damaged")
        processes.all_reduce(torch.zeros(()))


def main(folder: Path) -> None:
    from sconv_search.training import distributed

    if folder.name == "alone":
        distributed.PATIENCE = timedelta(seconds=10)
    processes = distributed.launch(2, torch.device("cpu"))
    assert processes.shard.count == 2
    if folder.name == "alone":
        if not processes.is_main:
            processes.broadcast(None)  # the order
        fail_alone(processes)
    found = {name: trained(case, processes) for name, case in CASES.items()}
    torch.save(found, folder / f"{processes.shard.index}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
