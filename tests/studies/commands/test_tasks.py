from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from sconv_search.cost.counting import measure_cost
from sconv_search.plan import Choice, CompressionPlan
from sconv_search.studies.methods import compress
from sconv_search.studies.tasks import TASKS, task_named
from tests.small_datasets import image_folders
from tests.studies.conftest import Typed

FAMILIES = ("cifar10/resnet20", "cifar100/mobilenet_v2", "imagenet/resnet18", "photos/efficientnet_lite0")


def test_the_papers_networks_and_data_sets_are_tasks() -> None:
    cifar = [
        f"{data}/{name}"
        for data in ("cifar10", "cifar100")
        for name in ("resnet20", "resnet32", "resnet56", "mobilenet_v2")
    ]
    imagenet = [f"imagenet/{name}" for name in ("resnet18", "resnet34", "resnet50", "mobilenet_v2", "efficientnet_b1")]
    assert set(TASKS) == {"demo", *cifar, *imagenet, "cityscapes/hrnet_w18_small_v2", "photos/efficientnet_lite0"}
    assert TASKS["cityscapes/hrnet_w18_small_v2"].metric.name == "mean IoU"
    assert TASKS["cityscapes/hrnet_w18_small_v2"].input_shape == (3, 1024, 2048)
    assert TASKS["imagenet/efficientnet_b1"].dense_schedule.average_decay > 0.99


def test_tasks_say_what_their_networks_cost_and_where_data_is_expected(
    typed: Callable[..., Typed], tmp_path: Path
) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").touch()
    said = typed("tasks", *FAMILIES, "demo", "--data", tmp_path)
    assert said.status == 0, said.err
    lines = {line.split()[0]: line for line in said.out.splitlines() if line.split()}
    assert "40.6M" in lines["cifar10/resnet20"]
    assert "CIFAR-10: found" in lines["cifar10/resnet20"]
    assert "CIFAR-100: to be downloaded" in lines["cifar100/mobilenet_v2"]
    assert "1.81G" in lines["imagenet/resnet18"]
    assert "11.7M" in lines["imagenet/resnet18"]
    assert "ImageNet (ILSVRC 2012): missing" in lines["imagenet/resnet18"]
    assert "comes along" in lines["demo"]
    assert "train/*/*" in said.out


def test_the_list_is_json_on_request(typed: Callable[..., Typed], tmp_path: Path) -> None:
    found = json.loads(typed("tasks", "cifar10/resnet20", "imagenet/resnet18", "--data", tmp_path, "--json").out)
    assert [one["task"] for one in found] == ["cifar10/resnet20", "imagenet/resnet18"]
    assert (
        found[1]["cost"]["macs"] == measure_cost(task_named("imagenet/resnet18").network().eval(), (3, 224, 224)).macs
    )
    assert found[1]["metric"] == "top-1"
    assert "there is no train/" in found[1]["missing"]
    image_folders(tmp_path / "imagenet", classes=1, train=1, val=1)
    (found,) = json.loads(typed("tasks", "imagenet/resnet18", "--data", tmp_path, "--json").out)
    assert found["missing"] is None


def test_an_unknown_task_is_named(typed: Callable[..., Typed]) -> None:
    said = typed("tasks", "imagenet/resnet19")
    assert said.status == 2
    assert "nearest: imagenet/resnet18" in said.out + said.err


def dry(typed: Callable[..., Typed], *arguments: object) -> str:
    said = typed("search", "--dry-run", *arguments)
    assert said.status == 0, said.out + said.err
    return said.out


def test_a_dry_run_says_what_a_search_would_do_and_writes_nothing(
    typed: Callable[..., Typed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = dry(typed, "--task", "cifar10/resnet20", "--method", "spatial_svd", "--trials", 7)
    assert "CifarResNet of task cifar10/resnet20 on 3×32×32, scored by top-1: 40,551,040 MACs" in said
    assert "layers with" in said
    assert "options of spatial_svd" in said
    assert "budget: 40,596,096 flops, that is 50.0%" in said
    assert re.search(r"  layer\d\.\d\.conv\d: spatial_svd \{'rank': \d+\}", said)
    assert "search: 7 trials of 1 epoch, batches of 128" in said
    assert "data: CIFAR-10 is not in 'data': there is no cifar-10-batches-py/data_batch_1" in said
    assert list(tmp_path.iterdir()) == []


def plan_of(sites: dict[str, dict]) -> CompressionPlan:
    return CompressionPlan(sites={name: Choice(**choice) for name, choice in sites.items()})


def test_the_plan_of_a_dry_run_costs_what_is_said_and_fits(typed: Callable[..., Typed], tmp_path: Path) -> None:
    for methods, budget in (
        (["structured_conv"], "60%"),
        (["channel_pruning"], "40%"),
        (["structured_conv", "channel_pruning"], "30%"),
    ):
        named = [part for method in methods for part in ("--method", method)]
        found = json.loads(dry(typed, "--task", "corners", *named, "--budget", budget, "--json"))
        assert {choice["method"] for choice in found["plan"]["sites"].values()} == set(methods)
        task = task_named("corners")
        built = compress(task.network().eval(), plan_of(found["plan"]["sites"]))
        measured = measure_cost(built, task.input_shape)
        assert {name: found["plan_cost"][name] for name in ("macs", "adds", "params")} == {
            name: getattr(measured, name) for name in ("macs", "adds", "params")
        }
        assert measured.flops <= float(budget.rstrip("%")) / 100 * (2 * found["cost"]["macs"] + found["cost"]["adds"])


def test_a_dry_run_of_a_budget_that_cannot_be_met_says_so(typed: Callable[..., Typed]) -> None:
    said = dry(typed, "--task", "corners", "--budget", "1%")
    assert "plan: none meets the budget" in said
    assert "that is 1.0%" in said


def test_a_dry_run_measures_no_time(typed: Callable[..., Typed]) -> None:
    said = typed("search", "--dry-run", "--task", "corners", "--quantity", "latency_ms")
    assert said.status == 2
    assert "a dry run counts operations and measures no time" in said.out + said.err


def test_a_search_without_a_folder_is_refused(typed: Callable[..., Typed]) -> None:
    said = typed("search", "--task", "corners")
    assert said.status == 2
    assert "name one with --out" in said.out + said.err


@pytest.mark.slow
@pytest.mark.parametrize("task", [name for name in TASKS if name.startswith(("imagenet", "cityscapes", "photos"))])
def test_every_large_task_has_a_dry_run(typed: Callable[..., Typed], task: str) -> None:
    assert "a plan that meets it" in dry(typed, "--task", task, "--method", "spatial_svd", "--budget", "70%")
