"""Networks of libraries by name; weights come from local files, by the libraries' own loading code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from sconv_search.networks.libraries import LibraryNetwork
from sconv_search.networks.trained import returns_trained

SMALL = "test_resnet"
"""timm's smallest."""


def timm_folder(folder: Path) -> nn.Module:
    """A network of 7 classes as timm saves it: config.json and model.safetensors."""
    network = timm.create_model(SMALL, num_classes=7)
    config = {
        "architecture": SMALL,
        "num_classes": 7,
        "pretrained_cfg": {
            "input_size": [3, 48, 48],
            "mean": [0.1, 0.2, 0.3],
            "std": [0.4, 0.5, 0.6],
            "crop_pct": 0.75,
            "num_classes": 7,
            "first_conv": "conv1.0",
            "classifier": "fc",
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(network.state_dict(), folder / "model.safetensors")
    made: nn.Module = network
    return made


def equal(one: nn.Module, other: nn.Module) -> bool:
    states = one.state_dict(), other.state_dict()
    return states[0].keys() == states[1].keys() and all(torch.equal(states[0][n], states[1][n]) for n in states[0])


@pytest.mark.parametrize(
    ("library", "name", "options", "trained"),
    [
        ("torchvision", "resnet18", {}, False),
        ("torchvision", "resnet18@IMAGENET1K_V1", {}, True),
        ("torchvision", "resnet18", {"weights": "DEFAULT"}, True),
        ("timm", "resnet18", {}, False),
        ("timm", "resnet18", {"pretrained": True}, True),
        ("timm", "resnet18.a1_in1k", {}, True),
        ("timm", "resnet18.a1_in1k", {"pretrained": False}, False),
        ("hf-hub", "someone/network", {}, True),
    ],
)
def test_a_name_says_whether_weights_are_trained(
    library: str, name: str, options: dict[str, Any], trained: bool
) -> None:
    assert LibraryNetwork(library, name, options).has_weights is trained


@pytest.mark.parametrize(
    ("library", "name", "error", "words"),
    [
        ("torchvision", "resnet81", KeyError, "torchvision has no network 'resnet81'; nearest: resnet18"),
        ("torchvision", "resnet18@V9", KeyError, "no weights for 'resnet18' named 'V9'; known: IMAGENET1K_V1, DEFAULT"),
        ("timm", "resnet18x", KeyError, "timm has no network 'resnet18x'; nearest: .*resnet18"),
        ("timm", "resnet18.a9", KeyError, "timm has no weights for 'resnet18' named 'a9'; known: .*a1_in1k"),
        ("hf-hub", "network", ValueError, "as hf-hub:ORG/NAME"),
        ("local-dir", "absent", FileNotFoundError, "no absent/config.json"),
    ],
)
def test_unknown_names_are_refused_with_near_ones(library: str, name: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        LibraryNetwork(library, name, {})


@pytest.mark.parametrize(
    ("library", "name", "classes"), [("torchvision", "mnasnet0_5", "num_classes"), ("timm", SMALL, "num_classes")]
)
def test_arguments_go_to_the_library(library: str, name: str, classes: str) -> None:
    network = LibraryNetwork(library, name, {classes: 6}).made(trained=True)
    assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 6)
    assert not network.training
    with pytest.raises(ValueError, match=f"making '{library}:{name}' raises TypeError"):
        LibraryNetwork(library, name, {"no_such": 1}).made(trained=False)


def test_weights_of_torchvision_come_from_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    source = models.shufflenet_v2_x0_5()
    url = models.ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1.url
    (tmp_path / "hub/checkpoints").mkdir(parents=True)
    torch.save(source.state_dict(), tmp_path / "hub/checkpoints" / url.rpartition("/")[2])
    named = LibraryNetwork("torchvision", "shufflenet_v2_x0_5@IMAGENET1K_V1", {})
    network = named.made(trained=True)
    assert equal(network, source)
    assert not equal(named.made(trained=False), source)
    photos = named.photos(network)
    assert photos is not None
    assert (photos.shape, photos.resize, photos.mean) == ((3, 224, 224), 256, (0.485, 0.456, 0.406))


def test_no_backbone_is_downloaded_for_a_detector(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    LibraryNetwork("torchvision", "lraspp_mobilenet_v3_large", {"num_classes": 3}).made(trained=True)
    assert not list(tmp_path.rglob("*.pth"))


def test_a_folder_of_timms_gives_weights_and_photos(tmp_path: Path) -> None:
    source = timm_folder(tmp_path / "net")
    named = LibraryNetwork("local-dir", str(tmp_path / "net"), {})
    network = named.made(trained=True)
    assert equal(network, source)
    photos = named.photos(network)
    assert photos is not None
    assert (photos.shape, photos.resize, photos.mean, photos.std) == ((3, 48, 48), 64, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def test_a_network_of_the_hub_is_read_from_its_cache(tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    place = tmp_path / "models--someone--network"
    source = timm_folder(place / "snapshots" / commit)
    (place / "refs").mkdir()
    (place / "refs/main").write_text(commit)
    named = LibraryNetwork("hf-hub", "someone/network", {"cache_dir": str(tmp_path)})
    assert equal(named.made(trained=True), source)


def test_channels_given_as_an_argument_change_the_photos() -> None:
    named = LibraryNetwork("timm", SMALL, {"in_chans": 1})
    network = named.made(trained=False)
    photos = named.photos(network)
    assert photos is not None
    assert photos.shape[0] == 1
    assert network(torch.zeros(1, *photos.shape)).shape == (1, 1000)


def seeded() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


def seen(make: Any) -> nn.Module:
    network: nn.Module = make()
    network(torch.randn(4, 1, 8, 8))
    return network


def loaded() -> nn.Module:
    network = nn.Linear(3, 3)
    nn.init.ones_(network.weight)
    return network


@pytest.mark.parametrize(
    ("make", "trained"),
    [(lambda: nn.Linear(3, 3), False), (loaded, True), (seeded, False), (lambda: seen(seeded), True), (nn.ReLU, False)],
)
def test_trained_networks_are_told_from_new_ones(make: Any, trained: bool) -> None:
    before = torch.random.get_rng_state()
    assert returns_trained(make) is trained
    assert torch.equal(torch.random.get_rng_state(), before)
