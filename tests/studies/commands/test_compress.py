"""``sconv-search compress``: from a name to files, and what is refused before any work."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sconv_search as ss
from sconv_search.studies.commands.one_network import compress as command
from sconv_search.studies.commands.one_network.inputs import photos_for
from sconv_search.studies.commands.one_network.listing import next_command
from sconv_search.studies.oneshot.networks import FoundNetwork
from sconv_search.studies.options.compress import OneShotBudget, OneShotNetwork
from sconv_search.studies.options.search import BudgetAndLayers
from tests.studies.conftest import Typed

MINE = """
from torch import nn
def small(width=8): return nn.Sequential(
    nn.Conv2d(3, width, 3), nn.ReLU(), nn.Conv2d(width, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 36, 4))
"""
BASE = ("compress", "compressnets:small", "--input", "3,10,10", "--device", "cpu", "--method", "weight_svd")


@pytest.fixture(autouse=True)
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "compressnets.py").write_text(MINE)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("compressnets", None)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve photos of two classes, color, gray, with transparency and with 16 bits."""
    pixels = np.random.default_rng(0)
    for number in range(12):
        folder = tmp_path / "photos" / f"class{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        kind, shape = [("RGB", (20, 24, 3)), ("L", (20, 24)), ("RGBA", (20, 24, 4)), ("I;16", (20, 24))][number % 4]
        most, type_ = (65535, np.uint16) if kind == "I;16" else (255, np.uint8)
        Image.fromarray(pixels.integers(0, most, shape, dtype=type_)).save(folder / f"{number}.png")
    return tmp_path / "photos"


def test_a_network_becomes_a_folder_of_files(typed: Callable[..., Typed], photos: Path) -> None:
    torch.save({"state_dict": ss.named_network("compressnets:small").state_dict()}, "w.pth")
    said = typed(*BASE, "--weights", "w.pth", "--budget", "60%", "--data", photos, "--samples", "8", "--out", "small")
    assert said.status == 0, said
    assert "its state dict is taken from 'state_dict'" in said.out
    assert "data: 8 of 12 photos, 10×10 pixels" in said.out
    assert "photos are normalized as ImageNet's" in said.out
    rows = {line.split()[0]: line.split() for line in said.out.splitlines() if line.strip().startswith("FLOPs")}
    assert float(rows["FLOPs"][3].rstrip("%")) <= 60
    assert "next: sconv-search search --network compressnets:small --weights w.pth --budget 60%" in said.out
    assert sorted(path.name for path in Path("small").iterdir()) == ["config.json", "plan.json", "weights.safetensors"]
    config = json.loads(Path("small/config.json").read_text())
    assert config["network"] == "compressnets:small"
    dense = ss.named_network("compressnets:small", "w.pth")
    small = ss.load("small", dense)
    assert ss.measure_cost(small, (3, 10, 10)).flops == config["cost"]["flops"]
    assert config["cost"]["flops"] <= 0.6 * ss.measure_cost(dense, (3, 10, 10)).flops
    again = typed(*BASE, "--out", "small")
    assert (again.status, "'small' holds plan.json, weights.safetensors, config.json already" in again.err) == (2, True)


def test_the_export_is_written_and_run(typed: Callable[..., Typed]) -> None:
    said = typed(*BASE, "--budget", "params=60%", "--budget", "90%", "--out", "a/small", "--export", "pt2", "--json")
    assert said.status == 0, said
    found = json.loads(said.out)
    assert found["file"] == "a/small/small.pt2"
    assert Path(found["file"]).is_file()
    assert found["parity"]["torch.export"] < 1e-4
    assert found["cost"]["params"] <= 0.6 * found["dense_cost"]["params"]
    assert found["plan"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--budget", "50"), "did you mean '50%'?"),
        (("--budget", "0.001%"), "budget"),
        (("--input", "3,ten"), "--input must be positive whole numbers"),
        (("--input", "2,10,10"), "fails on an input of shape"),
        (("--weights", "absent.pth"), "weights file 'absent.pth' does not exist"),
        (("--data", "absent"), "the data folder 'absent' does not exist"),
        (("--data", "."), "holds no image (.bmp, "),
        (("--data", ".", "--std", "0"), "--std must be above 0"),
        (("--data", ".", "--mean", "1,2"), "--mean must be 3 numbers"),
        (("--method", "wieght_svd"), "weight_svd"),
        (("--include", "nothing*"), "include pattern 'nothing*' matches no site"),
        (("--device", "x"), "device 'x' cannot be used here"),
    ],
)
def test_what_cannot_be_is_refused_before_any_layer_is_made(
    typed: Callable[..., Typed], monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...], words: str
) -> None:
    monkeypatch.setattr(command, "save", None)
    said = typed(*BASE, *flags, "--out", "small")
    assert (said.status, words in said.err) == (2, True), said
    assert not Path("small").exists()


def test_a_network_that_says_no_input_is_asked_for_it(typed: Callable[..., Typed]) -> None:
    said = typed("compress", "compressnets:small", "--out", "small")
    assert (said.status, "give the shape of one, such as --input 3,224,224" in said.err) == (2, True), said


def test_photos_follow_the_configuration_unless_something_else_is_typed() -> None:
    network = ss.named_network("compressnets:small")
    own = photos_for(OneShotNetwork(), FoundNetwork(network=network, trained=True), (1, 10, 10))
    assert len(own[0].mean) == 1
    assert own[1]
    given = photos_for(
        OneShotNetwork(mean="0.5", std="0.1,0.2,0.3"), FoundNetwork(network=network, trained=True), (3, 9, 9)
    )
    assert (given[0].mean, given[0].std, given[0].size, given[1]) == ((0.5,) * 3, (0.1, 0.2, 0.3), (9, 9), ())
    with pytest.raises(ValueError, match=r"the network's are \(16000,\)"):
        photos_for(OneShotNetwork(), FoundNetwork(network=network, trained=True), (16000,))


def test_the_next_command_names_a_task_by_its_option(typed: Callable[..., Typed], tmp_path: Path) -> None:
    said = typed("compress", "corners", "--budget", "60%", "--out", tmp_path / "small")
    (line,) = [line for line in (said.out + said.err).splitlines() if line.startswith("next:")]
    assert " search --task corners --budget" in line
    assert "--network" not in line
    assert "TASK" not in line


def test_the_next_command_keeps_every_option_of_budget_and_layers() -> None:
    """All of them are the search's own, too; without one of them it would be of another budget or of other layers."""
    given: dict[str, Any] = {
        "budget": ["75%", "macs=80%"],
        "quantity": "params",
        "method": ["cp"],
        "include": ["layer1.*", "layer 2.*"],
        "exclude": ["*.conv1"],
        "multiple": 8,
        "count_free": ["aten::fft_fft"],
    }
    assert (
        {*given} == {field.name for field in fields(OneShotBudget)} <= {field.name for field in fields(BudgetAndLayers)}
    )
    words = shlex.split(next_command("timm:resnet18", OneShotNetwork(), OneShotBudget(**given), Path("small")))
    pairs = list(pairwise(words))
    for name, value in given.items():
        flag = f"--{name.replace('_', '-')}"
        wanted = [str(one) for one in (value if isinstance(value, list) else [value])]
        assert [given for typed, given in pairs if typed == flag] == wanted
    plain = next_command("timm:resnet18", OneShotNetwork(), OneShotBudget(), Path("small"))
    assert "--budget 50% --start-plan" in plain


@pytest.mark.parametrize("shape", ["3,16,24", "3x16x24", "3, 16, 24"])
def test_the_next_command_keeps_the_size_of_inputs_however_it_was_typed(tmp_path: Path, shape: str) -> None:
    (tmp_path / "photos/train").mkdir(parents=True)
    source = OneShotNetwork(shape=shape, data=tmp_path / "photos")
    assert "--task 'images?size=16,24'" in next_command("timm:resnet18", source, OneShotBudget(), Path("small"))
