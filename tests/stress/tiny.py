"""A task of seconds, for commands that are killed and fed with damaged files hundreds of times."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from sconv_search.data.splits import DataSet, Split
from sconv_search.studies.task import Task
from sconv_search.training.schedule import Schedule

SHORT = Schedule(epochs=1, batch_size=32, learning_rate=0.05)


def corners(count: int, seed: int) -> Split:
    """Bright squares in one of four corners."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (count,), generator=generator)
    images = torch.randint(0, 120, (count, 2, 12, 12), generator=generator, dtype=torch.uint8)
    for image, label in zip(images, labels.tolist(), strict=True):
        row, column = 6 * (label // 2), 6 * (label % 2)
        image[:, row + 1 : row + 5, column + 1 : column + 5] += 60
    return Split(images=images, labels=labels)


def network() -> nn.Module:
    """Three layers that methods compress."""
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 36, 4),
    )


def data(folder: Path | None, train_was_seen: bool) -> DataSet:
    """Made, not read."""
    train, validation, test = corners(256, 0), corners(100, 1), corners(100, 2)
    return DataSet(
        name="corners", train=train, validation=validation, test=test, mean=(0.3, 0.3), std=(0.2, 0.2), crop_padding=1
    )


def task() -> Task:
    """What the commands are given as ``--task tests.stress.tiny:task``."""
    return Task(
        name="tiny",
        network=network,
        data=data,
        input_shape=(2, 12, 12),
        dense_schedule=Schedule(epochs=2, batch_size=32),
        search_schedule=SHORT,
        confirm_schedule=SHORT,
    )
