"""Every family of tasks from data to report, on a tiny stand-in in its data set's own layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sconv_search.data import disk as disk_data
from sconv_search.data.cityscapes import CLASSES
from sconv_search.data.photos import photos
from sconv_search.data.splits import DataSet
from sconv_search.plan import Choice, CompressionPlan
from sconv_search.studies import Task, tasks
from sconv_search.studies.methods import compress, penalty
from sconv_search.studies.tasks import (
    CIFAR_NETWORKS,
    IMAGENET_RECIPES,
    cifar_task,
    cityscapes_task,
    imagenet_task,
    photos_task,
)
from sconv_search.system.weights import save_weights
from sconv_search.training.batch_norm import reestimate_batch_norm_
from sconv_search.training.evaluation import evaluate
from sconv_search.training.loop import train_
from sconv_search.training.schedule import Schedule
from tests.small_datasets import cifar_pickles, image_folders, photo_folder, streets
from tests.studies.conftest import Typed

SHORT = Schedule(epochs=0.5, batch_size=8, learning_rate=0.01)


def tiny(task: Task) -> Task:
    """The task with the least of training."""
    average = task.confirm_schedule.average_decay
    full = replace(SHORT, average_decay=average)
    return replace(task, dense_schedule=replace(full, epochs=1), search_schedule=SHORT, confirm_schedule=full)


def report_of(
    typed: Callable[..., Typed],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    task: Task,
    *flags: object,
    include: str = "*",
    method: str = "structured_conv",
    multiple: int = 4,
) -> tuple[pd.DataFrame, Path]:
    """Search of two trials, confirmation and report of a task, as a user types them: the report's table and folder.

    Args:
        include: small layers; to fit one of 512 channels, whose kernels read 4,608 values, takes seconds an option.
    """
    monkeypatch.setattr(tasks, "TASKS", {task.name: task})
    monkeypatch.setattr(disk_data, "MOST_WORKERS", 0)  # a process a batch takes longer than the batch
    run, data = tmp_path / "run", ("--data", tmp_path / "data", "--device", "cpu", *flags)
    search = (
        "search",
        "--task",
        task.name,
        "--method",
        method,
        "--budget",
        "97%",
        "--trials",
        2,
        "--multiple",
        multiple,
    )
    for command in (
        (*search, "--include", include, "--out", run, *data),
        ("confirm", run, "--seeds", 1, "--plans", 1, *data),
        ("report", run, "--out", tmp_path / "report"),
    ):
        said = typed(*command)
        assert said.status == 0, said.out + said.err
    records = pd.DataFrame([json.loads(line) for line in (run / "trials.jsonl").read_text().splitlines()])
    assert (records["status"] == "complete").all(), records["reason"].tolist()
    assert (records["stage"] == "search").sum() == 2
    assert {"dense", "searched", "uniform"} <= set(records["variant"])
    assert (tmp_path / "report" / "index.html").exists()
    return records, tmp_path / "report"


class Small(nn.Module):
    """A network that takes milliseconds: a class an image or, of segmentations, a class a pixel."""

    def __init__(self, classes: int, pixelwise: bool = False) -> None:
        super().__init__()
        self.pixelwise = pixelwise
        widths = [(3, 8), (8, 16), (16, 16)]
        self.body = nn.Sequential(
            *(nn.Sequential(nn.Conv2d(a, b, 3, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU()) for a, b in widths)
        )
        self.head = nn.Conv2d(16, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(x))
        return F.interpolate(logits, size=x.shape[2:], mode="bilinear") if self.pixelwise else logits.mean((2, 3))


def small(task: Task, classes: int, pixelwise: bool = False) -> Task:
    """The task with the small network."""
    return replace(task, network=partial(Small, classes, pixelwise))


CIFAR_CLASSES = {"cifar10": 10, "cifar100": 100}
FEW_OF = {"mobilenet_v2": ("features.1[1-3].*", "weight_svd"), "efficientnet_b1": ("features.[2-5].*", "weight_svd")}
"""Sites of few options that save enough, and a method for them, of networks whose blocks are pointwise and
depthwise.
"""


def cifar_report(
    typed: Callable[..., Typed], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, task: Task, **few: Any
) -> pd.DataFrame:
    data = task.name.partition("/")[0]
    cifar_pickles(tmp_path / "data" / data, data, monkeypatch, classes=CIFAR_CLASSES[data])
    records, _ = report_of(typed, monkeypatch, tmp_path, task, **few)
    assert set(records["task"]) == {task.name}
    assert records["test_score"].dropna().between(0, 100).all()
    return records


@pytest.mark.parametrize(
    "data", [pytest.param(name, marks=[pytest.mark.slow] if name == "cifar100" else []) for name in CIFAR_CLASSES]
)
def test_cifar_from_pickles_to_report(
    typed: Callable[..., Typed], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, data: str
) -> None:
    cifar_report(typed, monkeypatch, tmp_path, small(tiny(cifar_task(data, "resnet20")), CIFAR_CLASSES[data]))


@pytest.mark.slow
@pytest.mark.parametrize("network", CIFAR_NETWORKS)
@pytest.mark.parametrize("data", CIFAR_CLASSES)
def test_every_network_of_cifar_from_pickles_to_report(
    typed: Callable[..., Typed], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, data: str, network: str
) -> None:
    include, method = FEW_OF.get(network, ("layer2.[0-4].*", "structured_conv"))
    task = tiny(cifar_task(data, network))
    cifar_report(typed, monkeypatch, tmp_path, task, include=include, method=method, multiple=16)


def small_imagenet(network: str, size: int = 32) -> Task:
    return tiny(imagenet_task(network, classes=4, size=size))


def test_imagenet_from_folders_to_report(
    typed: Callable[..., Typed], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    image_folders(tmp_path / "data" / "imagenet", train=5, val=3)
    records, _ = report_of(typed, monkeypatch, tmp_path, small(small_imagenet("resnet18"), 4))
    assert set(records["metric"]) == {"top-1"}
    assert records["test_score"].dropna().between(0, 100).all()


@pytest.mark.slow
@pytest.mark.parametrize("network", IMAGENET_RECIPES)
def test_every_network_of_imagenet_from_folders_to_report(
    typed: Callable[..., Typed], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, network: str
) -> None:
    image_folders(tmp_path / "data" / "imagenet", train=5, val=3)
    include, method = FEW_OF.get(network, ("layer1.0.*", "structured_conv"))
    report_of(typed, monkeypatch, tmp_path, small_imagenet(network, 64), include=include, method=method, multiple=32)


def small_streets() -> Task:
    return tiny(cityscapes_task(size=(64, 128), crop=(32, 64)))


def test_segmentation_from_streets_to_a_report_of_mean_iou(
    typed: Callable[..., Typed], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    streets(tmp_path / "data" / "cityscapes", train=18)
    records, report = report_of(typed, monkeypatch, tmp_path, small(small_streets(), CLASSES, True))
    assert set(records["metric"]) == {"mean IoU"}
    page = (report / "index.html").read_text()
    assert "test mean IoU" in page
    assert "top-1" not in page
    assert "test mean IoU" in (report / "summary.md").read_text()
    said = typed("best", tmp_path / "run", "--budget", "95%")
    assert "validation mean IoU" in said.out
    assert "top-1" not in said.out


@pytest.mark.slow
def test_hrnet_from_streets_to_report(
    typed: Callable[..., Typed], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    streets(tmp_path / "data" / "cityscapes", train=18)
    report_of(typed, monkeypatch, tmp_path, small_streets(), include="backbone.layer1.*.conv[13]", multiple=32)


def test_a_segmentation_is_regularized_and_decomposed_at_little_loss(tmp_path: Path) -> None:
    """Sky, road and cars are told apart through a layer whose kernel became structured in training."""
    streets(tmp_path, train=18)
    task = small(small_streets(), CLASSES, True)
    data = task.data(tmp_path, False)
    torch.manual_seed(0)
    network = task.network()
    plan = CompressionPlan(
        sites={"body.2.0": Choice(method="structured_conv", structure={"c": 8, "n": 2, "merged": 1})}
    )
    schedule = Schedule(epochs=60, batch_size=8, learning_rate=0.05)
    assert penalty(network, plan)().item() > 0.7
    train_(network, data, schedule, seed=0, penalty=penalty(network, plan), penalty_weight=2.0)
    assert penalty(network, plan)().item() < 0.1
    decomposed = compress(network, plan)
    reestimate_batch_norm_(decomposed, data, seed=0)
    before, after = (evaluate(one, data, data.test, task.metric).value for one in (network, decomposed))
    assert after > 60
    assert abs(after - before) < 5


def small_photos(folder: Path | None, train_was_seen: bool) -> DataSet:
    return photos(folder, size=32, mean=0.5, std=0.5)


def photo_task() -> Task:
    return replace(photos_task(), data=small_photos, input_shape=(3, 32, 32))


@pytest.mark.parametrize(
    ("change", "include"),
    [
        pytest.param(partial(small, classes=1000), "*", id="small"),
        pytest.param(replace, "_blocks.[3-6]._project_conv", id="lite0", marks=pytest.mark.slow),
    ],
)
def test_photos_are_searched_without_training(
    typed: Callable[..., Typed],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    change: Callable[[Task], Task],
    include: str,
) -> None:
    photo_folder(tmp_path / "data" / "imagenet_sample")
    task = change(photo_task())
    torch.manual_seed(0)
    save_weights(task.network(), tmp_path / "w.safetensors")
    weights = ("--weights", tmp_path / "w.safetensors")
    records, report = report_of(typed, monkeypatch, tmp_path, task, *weights, include=include)
    assert (records["epochs"] == 0).all()
    assert records["regularization"].isna().all()
    for page in ("index.html", "summary.md"):
        words = (report / page).read_text()
        assert "dense, batch norms re-estimated" in words
        assert "dense, fine-tuned" not in words


def test_photos_without_weights_are_refused_before_any_work(
    typed: Callable[..., Typed], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    photo_folder(tmp_path / "data" / "imagenet_sample")
    monkeypatch.setattr(tasks, "TASKS", {"photos/efficientnet_lite0": photo_task()})
    said = typed(
        "search", "--task", "photos/efficientnet_lite0", "--data", tmp_path / "data", "--out", tmp_path / "run"
    )
    assert said.status == 2
    assert "trains no dense network; give trained weights with --weights FILE" in said.out + said.err


@pytest.mark.parametrize("name", ["imagenet/resnet18", "cityscapes/hrnet_w18_small_v2"])
def test_missing_data_is_named_before_any_work(
    typed: Callable[..., Typed], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    def no_network() -> torch.nn.Module:
        raise AssertionError("a network was built")

    monkeypatch.setattr(tasks, "TASKS", {name: replace(tasks.TASKS[name], network=no_network)})
    said = typed("search", "--task", name, "--data", tmp_path, "--out", tmp_path / "run")
    assert said.status == 2
    assert "expected are" in said.out + said.err
    assert "Traceback" not in said.out + said.err


@pytest.mark.slow
def test_search_workers_read_from_disk_themselves(
    typed: Callable[..., Typed], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """They are daemons, which may have no loader processes of their own."""
    image_folders(tmp_path / "data" / "imagenet", train=5, val=3)
    report_of(typed, monkeypatch, tmp_path, small(small_imagenet("resnet18"), 4))
    said = typed(
        "search",
        "--task",
        "imagenet/resnet18",
        "--method",
        "structured_conv",
        "--budget",
        "97%",
        "--trials",
        2,
        "--multiple",
        4,
        "--workers",
        2,
        "--out",
        tmp_path / "two",
        "--data",
        tmp_path / "data",
        "--device",
        "cpu",
    )
    assert said.status == 0, said.out + said.err
    assert '"complete"' in (tmp_path / "two" / "trials.jsonl").read_text()


def test_builders_can_be_made_of_the_same_parts_by_a_user() -> None:
    """What ``docs/tasks.md`` does: a network of torchvision's on the user's own folders."""
    task = imagenet_task("resnet18", classes=3, size=64, recipes={"resnet18": next(iter(IMAGENET_RECIPES.values()))})
    assert task.input_shape == (3, 64, 64)
    assert isinstance(task.data, partial)
    assert task.network()(torch.zeros(1, 3, 64, 64)).shape == (1, 3)
