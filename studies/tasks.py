"""Named tasks, and those that a user makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from sconv_search.data.crops import Crops
from sconv_search.data.layout import CIFAR10, CIFAR100, CITYSCAPES, IMAGENET, PHOTOS
from sconv_search.named import named
from sconv_search.studies.task import OfTask, Task
from sconv_search.studies.user_code import made_by, network_by
from sconv_search.training.metrics import MEAN_IOU
from sconv_search.training.schedule import Schedule

if TYPE_CHECKING:
    from torch import nn

    from sconv_search.data.splits import DataSet

# Tasks are named, listed and completed without torch: what builds networks and data is imported when it is called.


def _made(path: str, *arguments: Any, **options: Any) -> Any:
    """What the function ``package.module:function`` of ours returns; a partial of this imports it when it is called."""
    return resolve_name(f"sconv_search.{path}")(*arguments, **options)


def _digits(folder: Path | None, train_was_seen: bool) -> DataSet:
    """The embedded digits need no folder; weights from elsewhere may have seen any of MNIST, so they are refused."""
    from sconv_search.data.splits import embedded_digits

    if train_was_seen:
        raise ValueError("task 'demo' trains its own dense network; start weights from elsewhere cannot be given")
    return embedded_digits()


def _read(reader: str, folder: Path | None, train_was_seen: bool, **options: Any) -> DataSet:
    splits: DataSet = _made(reader, folder, train_was_seen=train_was_seen, **options)
    return splits


def _photos(folder: Path | None, train_was_seen: bool) -> DataSet:
    """For EfficientNet-Lite0, whose inputs are (x - 127) / 128."""
    from sconv_search.data.photos import photos

    return photos(folder, size=224, mean=127 / 255, std=128 / 255)


def demo() -> Task:
    """A small network on the digits that are embedded: everything runs in minutes on two cores, without a download."""
    short = Schedule(epochs=1, batch_size=64, learning_rate=0.05)
    return Task(
        name="demo",
        network=partial(_made, "networks.resnet:digits_network"),
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
    layout, classes = (CIFAR10, 10) if data == "cifar10" else (CIFAR100, 100)
    if network == "mobilenet_v2":
        builder = partial(_made, "networks.mobilenet:cifar_mobilenet_v2", classes)
    else:
        builder = partial(_made, "networks.resnet:cifar_resnet", int(network.removeprefix("resnet")), classes)
    return Task(
        name=f"{data}/{network}",
        network=builder,
        data=partial(_read, f"data.splits:{data}"),
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
        data=partial(_read, "data.imagenet:imagenet", crops=crops, classes=classes),
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
        network=partial(_made, "networks.hrnet:hrnet_segmenter"),
        data=partial(_read, "data.cityscapes:cityscapes", size=size, crop=crop),
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
        network=partial(_made, "networks.efficientnet_lite:efficientnet_lite0"),
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
FOLDER_TASKS = ("images", "masks")
DEFAULT_TASK = "demo"
"""Tasks that are made of a network by name and a folder, see ``folder_tasks``."""


def task_named(name: str) -> Task:
    """The task of that key, or a user's own, with a user's own network where the name says so.

    Args:
        name: a key of ``TASKS``; ``package.module:function`` of a function that returns a ``Task`` or a ``Study``; or,
            for photos in a folder, ``images`` or ``masks`` (``images?size=64``). Then, after an ``@``, the name of the
            network to take in place of the task's, as ``user_code.network_by`` reads it.

    Raises:
        KeyError: there is no such task, module or function; the nearest are given.
        TypeError, ValueError: what the user's name stands for is no task; see ``made_by``.
    """
    base, _, network = name.partition("@")
    if (kind := base.partition("?")[0]) in FOLDER_TASKS:
        task: Task = _made("studies.folder_tasks.tasks:folder_task", kind, base, network)
        return replace(task, network=partial(_network_by, network), trained_network=partial(_trained_by, network))
    made = made_by(base, Task, OfTask) if ":" in base else named("task", base, TASKS)
    task = made if isinstance(made, Task) else made.task
    if not network:
        return replace(task, name=name)
    built, trained = partial(_network_by, network), partial(_trained_by, network)
    return replace(task, name=name, network=built, trained_network=trained)


def _network_by(text: str) -> nn.Module:
    return network_by(text).make(False)


def _trained_by(text: str) -> nn.Module | None:
    """The network with the weights that its name says, or that its function gives it; None where it is untrained."""
    from sconv_search.networks.trained import returns_trained

    named = network_by(text)
    make = partial(named.make, True)
    trained = returns_trained(make) if named.has_weights is None else named.has_weights
    return make() if trained else None


def with_network(task: str, network: str | None, data: Path | None = None) -> str:
    """The name of a task with a network of that name in place of its own.

    Args:
        data: the folder that was named; beside a network, and without a task, it says what kind of task it is.

    Raises:
        ValueError: the task's name holds another network already.
    """
    if network and "@" in task:
        raise ValueError(f"task {task!r} names a network already; leave out --network {network}")
    if network and task == DEFAULT_TASK and data is not None:  # that task's digits come along, and need no folder
        task = "masks" if any((data / part / "masks").is_dir() for part in ("", "train", "val")) else "images"
    return f"{task}@{network}" if network else task
