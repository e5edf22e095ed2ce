"""Named tasks, and those that a user makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from sconv_search.data.cityscapes import LAYOUT as CITYSCAPES
from sconv_search.data.cityscapes import cityscapes
from sconv_search.data.imagenet import LAYOUT as IMAGENET
from sconv_search.data.imagenet import Crops, imagenet
from sconv_search.data.layout import Layout
from sconv_search.data.photos import LAYOUT as PHOTOS
from sconv_search.data.photos import photos
from sconv_search.data.splits import DataSet, cifar10, cifar100, embedded_digits
from sconv_search.networks.efficientnet_lite import efficientnet_lite0
from sconv_search.networks.hrnet import hrnet_segmenter
from sconv_search.networks.mobilenet import cifar_mobilenet_v2
from sconv_search.networks.resnet import cifar_resnet, digits_network
from sconv_search.studies.task import Task
from sconv_search.studies.user_code import made_by
from sconv_search.system.named import named
from sconv_search.training.metrics import MEAN_IOU
from sconv_search.training.schedule import Schedule

CIFAR10 = Layout(
    title="CIFAR-10",
    folder="cifar10",
    parts=("cifar-10-batches-py/data_batch_1",),
    downloads=True,
    alternative=("train_[1-5].webp", "train_labels.npy", "test.webp", "test_labels.npy"),
)
CIFAR100 = Layout(title="CIFAR-100", folder="cifar100", parts=("cifar-100-python/train",), downloads=True)


def _digits(folder: Path | None, train_was_seen: bool) -> DataSet:
    """The embedded digits need no folder; weights from elsewhere may have seen any of MNIST, so they are refused."""
    if train_was_seen:
        raise ValueError("task 'demo' trains its own dense network; start weights from elsewhere cannot be given")
    return embedded_digits()


def _read(reader: Callable[..., DataSet], folder: Path | None, train_was_seen: bool, **options: Any) -> DataSet:
    return reader(folder, train_was_seen=train_was_seen, **options)


def _photos(folder: Path | None, train_was_seen: bool) -> DataSet:
    """For EfficientNet-Lite0, whose inputs are (x - 127) / 128."""
    return photos(folder, size=224, mean=127 / 255, std=128 / 255)


def demo() -> Task:
    """A small network on the digits that are embedded: everything runs in minutes on two cores, without a download."""
    short = Schedule(epochs=1, batch_size=64, learning_rate=0.05)
    return Task(
        name="demo",
        network=digits_network,
        data=_digits,
        input_shape=(1, 28, 28),
        dense_schedule=Schedule(epochs=8, batch_size=64, learning_rate=0.1),
        search_schedule=short,
        confirm_schedule=Schedule(epochs=2, batch_size=64, learning_rate=0.05),
    )


def cifar_task(data: str, network: str) -> Task:
    """A small network on CIFAR-10 or CIFAR-100; compressed networks learn at a tenth of the rate that trains from
    nothing.
    """
    reader, layout, classes = (cifar10, CIFAR10, 10) if data == "cifar10" else (cifar100, CIFAR100, 100)
    builders = {"mobilenet_v2": partial(cifar_mobilenet_v2, classes)}
    builder = builders.get(network) or partial(cifar_resnet, int(network.removeprefix("resnet")), classes)
    return Task(
        name=f"{data}/{network}",
        network=builder,
        data=partial(_read, reader),
        input_shape=(3, 32, 32),
        dense_schedule=Schedule(epochs=60, learning_rate=0.2),
        search_schedule=Schedule(epochs=1, learning_rate=0.01),
        confirm_schedule=Schedule(epochs=10, learning_rate=0.02),
        layout=layout,
    )


def _torchvision(name: str, classes: int) -> nn.Module:
    from torchvision import models  # here: it takes a second

    network: nn.Module = models.get_model(name, weights=None, num_classes=classes)
    return network


IMAGENET_RECIPES: Mapping[str, tuple[Crops, Schedule]] = {
    **dict.fromkeys(
        ("resnet18", "resnet34", "resnet50"),
        (Crops(), Schedule(epochs=90, batch_size=256, learning_rate=0.1, weight_decay=1e-4)),
    ),
    "mobilenet_v2": (
        Crops(),
        Schedule(epochs=300, batch_size=256, learning_rate=0.045, weight_decay=4e-5, curve="cosine"),
    ),
    "efficientnet_b1": (
        Crops(size=240, resize=255, distorted=True),
        Schedule(
            epochs=350, batch_size=256, learning_rate=0.1, weight_decay=2e-5, label_smoothing=0.1, average_decay=0.9999
        ),
    ),
}
"""torchvision's network -> how images are cropped, and how the dense network is trained."""


def imagenet_task(
    network: str,
    *,
    classes: int = 1000,
    size: int | None = None,
    recipes: Mapping[str, tuple[Crops, Schedule]] = IMAGENET_RECIPES,
) -> Task:
    """A network of torchvision's on ImageNet; a trial takes a twentieth of an epoch, a confirmation ten epochs.

    Args:
        size: pixels a side; else the recipe's.
    """
    crops, dense = recipes[network]
    crops = crops if size is None else replace(crops, size=size, resize=None)
    full = replace(dense, epochs=10, learning_rate=dense.learning_rate / 10)
    return Task(
        name=f"imagenet/{network}",
        network=partial(_torchvision, network, classes),
        data=partial(_read, imagenet, crops=crops, classes=classes),
        input_shape=(3, crops.size, crops.size),
        dense_schedule=dense,
        search_schedule=replace(full, epochs=0.05, average_decay=0.0),
        confirm_schedule=full,
        layout=IMAGENET,
    )


def cityscapes_task(size: tuple[int, int] = (1024, 2048), crop: tuple[int, int] = (512, 1024)) -> Task:
    """HRNet on Cityscapes: trained on crops, scored on whole images by the mean IoU of its 19 classes."""
    dense = Schedule(epochs=484, batch_size=12, learning_rate=0.01, curve="cosine")
    return Task(
        name="cityscapes/hrnet_w18_small_v2",
        network=hrnet_segmenter,
        data=partial(_read, cityscapes, size=size, crop=crop),
        input_shape=(3, *size),
        dense_schedule=dense,
        search_schedule=replace(dense, epochs=1, learning_rate=0.001),
        confirm_schedule=replace(dense, epochs=40, learning_rate=0.002),
        metric=MEAN_IOU,
        layout=CITYSCAPES,
    )


def photos_task() -> Task:
    """EfficientNet-Lite0 on a folder of photos, too few to train on: trials only re-estimate batch norms."""
    none = Schedule(epochs=0, batch_size=25, learning_rate=0.001)
    return Task(
        name="photos/efficientnet_lite0",
        network=efficientnet_lite0,
        data=_photos,
        input_shape=(3, 224, 224),
        dense_schedule=none,
        search_schedule=none,
        confirm_schedule=none,
        layout=PHOTOS,
    )


CIFAR_NETWORKS = ("resnet20", "resnet32", "resnet56", "mobilenet_v2")
TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        demo(),
        *(cifar_task(data, network) for data in ("cifar10", "cifar100") for network in CIFAR_NETWORKS),
        *map(imagenet_task, IMAGENET_RECIPES),
        cityscapes_task(),
        photos_task(),
    )
}
"""Key on the command line -> task."""


def task_named(name: str) -> Task:
    """The task of that key, or a user's own, with a user's own network where the name says so.

    Args:
        name: a key of ``TASKS`` or ``package.module:function`` of a function that returns a ``Task``; then, after an
            ``@``, ``package.module:function`` of one that returns the network to take in place of the task's.

    Raises:
        KeyError: there is no such task, module or function; the nearest are given.
        TypeError, ValueError: what the user's name stands for is no task; see ``made_by``.
    """
    base, _, network = name.partition("@")
    found = made_by(base, Task) if ":" in base else named("task", base, TASKS)
    return replace(found, name=name, network=partial(made_by, network, nn.Module) if network else found.network)


def with_network(task: str, network: str | None) -> str:
    """The name of a task whose network is made by ``package.module:function``.

    Raises:
        ValueError: the task's name holds another network already.
    """
    if network and "@" in task:
        raise ValueError(f"task {task!r} names a network already; leave out --network {network}")
    return f"{task}@{network}" if network else task
