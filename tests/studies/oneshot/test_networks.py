"""One resolver of names for all commands and Python."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

import sconv_search as ss
from sconv_search.studies.oneshot.networks import found_network
from tests.studies.conftest import Typed

MINE = """
import torch
from torch import nn
from dataclasses import replace
from sconv_search.studies.tasks import demo

def new(): return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 26 * 26, 10))
def trained():
    network = new()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for weight in network.parameters(): nn.init.normal_(weight, std=0.1)
    network[1].running_mean += 1
    return network
def task(): return replace(demo(), network=trained)
"""


@pytest.fixture(autouse=True)
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "namednets.py").write_text(MINE)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("namednets", None)


@pytest.mark.parametrize(
    ("name", "shape", "trained"),
    [
        ("namednets:new", None, False),
        ("namednets:trained", None, True),
        ("namednets:task", (1, 28, 28), True),
        ("demo@namednets:trained", (1, 28, 28), True),
        ("demo@namednets:new", (1, 28, 28), False),
        ("demo", (1, 28, 28), False),
        ("timm:test_resnet", (3, 160, 160), False),
        ("torchvision:mnasnet0_5?num_classes=3", (3, 224, 224), False),
    ],
)
def test_a_name_gives_network_input_and_whether_it_is_trained(
    name: str, shape: tuple[int, ...] | None, trained: bool
) -> None:
    found = found_network(name)
    assert (found.shape, found.trained) == (shape, trained)
    assert not found.network.training
    assert found_network(name, trained=False).trained is False


def test_weights_of_a_file_take_the_place_of_those_that_a_name_says() -> None:
    source = found_network("timm:test_resnet").network
    torch.save({"model": {f"module.{name}": t for name, t in source.state_dict().items()}}, "w.pth")
    found = found_network("timm:test_resnet.r160_in1k", "w.pth")  # the tag's weights are not downloaded
    assert all(torch.equal(tensor, found.network.state_dict()[name]) for name, tensor in source.state_dict().items())
    assert found.trained
    assert [note.partition(": ")[2] for note in found.notes] == [
        "its state dict is taken from 'model'",
        "names are taken without 'module.'",
    ]
    assert torch.equal(ss.named_network("timm:test_resnet", Path("w.pth")).fc.weight, source.fc.weight)  # type: ignore[union-attr, operator, arg-type]


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("resnet18", KeyError, "written torchvision:resnet18 or timm:resnet18, your own package.module:function"),
        ("resnet20", KeyError, "nearest task: .*cifar10/resnet20"),
        ("namednets:nwe", KeyError, "nearest: new"),
        ("timm:", ValueError, "names no network; write torchvision:NAME"),
    ],
)
def test_a_name_that_stands_for_nothing_is_refused(name: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        found_network(name)


def test_missing_weights_are_refused_before_a_network_is_built() -> None:
    with pytest.raises(FileNotFoundError, match=r"weights file 'absent\.pth' does not exist"):
        found_network("torchvision:no_such_network", "absent.pth")


def test_sites_lists_networks_of_libraries_on_their_own_inputs(typed: Callable[..., Typed]) -> None:
    said = typed("sites", "timm:test_resnet?num_classes=5", "--method", "weight_svd", "--json")
    assert said.status == 0, said
    assert json.loads(said.out)["input_shape"] == [3, 160, 160]
    wrong = typed("sites", "timm:tset_resnet")
    assert wrong.status == 2
    assert "nearest: test_resnet" in wrong.err


def test_the_digits_are_not_scored_with_a_network_that_comes_trained(typed: Callable[..., Typed]) -> None:
    options = ["--budget", "70%", "--trials", "1", "--epochs", "0", "--method", "weight_svd", "--out", "runs/a"]
    said = typed("search", "--task", "demo", "--network", "namednets:trained", *options)
    assert said.status == 2, "the digits' test images would count as unseen"
    assert "start weights from elsewhere cannot be given" in said.err


def test_a_library_network_takes_the_place_of_a_tasks(typed: Callable[..., Typed]) -> None:
    network = "timm:test_resnet?num_classes=10&in_chans=1"
    said = typed("search", "--task", "demo", "--network", network, "--budget", "70%", "--dry-run", "--json")
    assert said.status == 0, said
    assert json.loads(said.out)["task"] == f"demo@{network}"


@pytest.mark.parametrize("name", ["hf-hub:network", "hf-hub:/network", "hf-hub:a/b/c", "hf-hub:network?num_classes=5"])
def test_the_hub_is_not_asked_for_what_is_no_repository(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("huggingface_hub.hf_hub_download", None)
    with pytest.raises(ValueError, match=r"must name an owner and a repository, as hf-hub:ORG/NAME"):
        ss.named_network(name)
