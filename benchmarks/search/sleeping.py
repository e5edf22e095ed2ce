"""A search whose trainings sleep and whose scores follow from the plans: all of its seconds but those are overhead.

As a program it is a coordinator, to be killed: ``python -m benchmarks.search.sleeping --out FOLDER --trials 200``.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sconv_search import TrialRecord
from sconv_search.data.splits import DataSet, Images, Split
from sconv_search.studies import RunFolder, StudyContext, StudySpec, context_from_network
from sconv_search.studies.executors.placement import HERE, Placement
from sconv_search.studies.executors.ray_cluster import Cluster
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.search.runner import search
from sconv_search.training.evaluation import Score
from sconv_search.training.schedule import Schedule

LAYERS, CHANNELS = 6, 16


def sleeps(network: nn.Module, data: DataSet, schedule: Schedule, *, seconds: float, **options: Any) -> None:
    """Leaves the network as it is; both phases of a training together take these seconds."""
    time.sleep(seconds * options.get("epochs", schedule.epochs) / schedule.epochs)


def by_weights(network: nn.Module, data: DataSet, split: Images) -> Score:
    """A score that follows from the network's weights alone."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode() + tensor.detach().contiguous().numpy().tobytes())
    value = int.from_bytes(digest.digest()[:4], "big") % 10_000 / 100
    return Score(value=value, loss=2 - value / 100)


def network() -> nn.Module:
    """A small network of convolutions, untrained, the same each time."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for index in range(LAYERS):
        layers += [
            nn.Conv2d(CHANNELS if index else 3, CHANNELS, 3, padding=1, bias=False),
            nn.BatchNorm2d(CHANNELS),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, 4))


def _images(count: int, seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, 8, 8), generator=generator, dtype=torch.uint8)
    return Split(images=images, labels=torch.randint(0, 4, (count,), generator=generator))


def sleeping_context(seconds: float) -> StudyContext:
    """The start of a study whose trainings take these seconds."""
    mean, std = (0.5, 0.5, 0.5), (0.3, 0.3, 0.3)
    train, validation, test = _images(64, 0), _images(16, 1), _images(16, 2)
    data = DataSet(name="noise", train=train, validation=validation, test=test, mean=mean, std=std)
    schedule = Schedule(epochs=1, batch_size=16)
    return context_from_network(
        network(),
        data,
        name="sleeping",
        train=partial(sleeps, seconds=seconds),
        score=by_weights,
        search_schedule=schedule,
        confirm_schedule=schedule,
    )


def spec_of(context: StudyContext, trials: int) -> StudySpec:
    """A study of all layers at half of the FLOPs."""
    return StudySpec(
        task=context.task.name,
        methods=("structured_conv", "spatial_svd"),
        budget="50%",
        trials=trials,
        sampler="random",
        search_schedule=context.task.search_schedule,
        confirm_schedule=context.task.confirm_schedule,
    )


@dataclass
class Printing(Monitor):
    """Prints lines; notes when records were written."""

    written: list[float]
    show: Callable[[str], None] = partial(print, flush=True)

    def say(self, text: str) -> None:
        """One line of news."""
        self.show(text)

    def recorded(self, record: TrialRecord) -> None:
        """A trial has ended."""
        self.written.append(time.perf_counter())


def run(
    out: Path,
    trials: int,
    seconds: float,
    placement: Placement = HERE,
    storage: str | None = None,
    show: Callable[[str], None] = lambda text: None,
) -> tuple[list[TrialRecord], list[float]]:
    """The records of a search, and when they were written."""
    context, monitor = sleeping_context(seconds), Printing([], show)
    records = search(context, spec_of(context, trials), RunFolder(out), monitor, placement=placement, storage=storage)
    return records, monitor.written


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--cluster")
    parser.add_argument("--storage")
    given = parser.parse_args()
    torch.set_num_threads(1)
    placement = HERE if given.cluster is None else Placement(cluster=Cluster(address=given.cluster))
    run(given.out, given.trials, given.seconds, placement, given.storage, partial(print, flush=True))


if __name__ == "__main__":
    main()
