"""Methods of other people's packages: found by their entry points, or named by a user."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from sconv_search import METHODS
from sconv_search.studies.method_registry import Methods

HALVES = """
import torch
from torch import nn

from sconv_search.compressor import Compressor, layers, site, swapped


class Half(nn.Module):
    \"\"\"The first and the second half of the inputs summed, then a linear layer of half the width.\"\"\"

    def __init__(self, layer):
        super().__init__()
        self.small = nn.Linear(layer.in_features // 2, layer.out_features)
        with torch.no_grad():
            self.small.weight.copy_(layer.weight.unflatten(1, (2, -1)).mean(1))
            self.small.bias.copy_(layer.bias)

    def forward(self, x):
        return self.small(x.unflatten(-1, (2, -1)).sum(-2))


class Halves(Compressor):
    name = "halves"

    def limits(self, layer):
        return {"parts": 2} if type(layer) is nn.Linear and layer.in_features % 2 == 0 else {}

    def options(self, network):
        return {name: [{"parts": 2}] for name, layer in layers(network).items() if self.limits(layer)}

    def compress(self, network, plan, calibration=None, reference=None):
        return swapped(network, {name: Half(site(network, name)) for name in plan.sites})
"""


def packaged(folder: Path, *, entry_points: bool) -> dict[str, str]:
    """A folder with the package ``halving``, as pip installs it; the environment in which Python finds it."""
    (folder / "halving").mkdir(parents=True)
    (folder / "halving" / "__init__.py").write_text(HALVES)
    if entry_points:
        facts = folder / "halving-1.0.dist-info"
        facts.mkdir()
        (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: halving\nVersion: 1.0\n")
        (facts / "entry_points.txt").write_text("[sconv_search.methods]\nhalves = halving:Halves\n")
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")]), str(Path(__file__).parents[2])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def command(environment: dict[str, str], folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "sconv_search.studies", *words]
    return subprocess.run(line, env=environment, cwd=folder, capture_output=True, text=True, check=False)


def test_a_method_of_another_package_is_searched_confirmed_and_reported(tmp_path: Path) -> None:
    environment = packaged(tmp_path / "site", entry_points=True)
    task = "--task tests.stress.tiny:task"
    search = f"search {task} --method halves --budget 99.5% --trials 1 --epochs 0.1 --confirm-epochs 0.1"
    confirm = f"confirm runs/halves {task} --seeds 1"
    for words in (f"{search} --out runs/halves", confirm, "report runs/halves --out report"):
        done = command(environment, tmp_path, *words.split())
        assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in (tmp_path / "runs/halves/trials.jsonl").read_text().splitlines()]
    assert {record["stage"] for record in records if "halves" in str(record["plan"])} == {"search", "confirm"}
    assert "halves" in (tmp_path / "report" / "index.html").read_text(encoding="utf-8")


def test_a_class_named_on_the_command_line_is_a_method(tmp_path: Path) -> None:
    environment = packaged(tmp_path / "site", entry_points=False)
    listed = command(environment, tmp_path, "sites", "demo", "--method", "halving:Halves", "--json")
    assert listed.returncode == 0, listed.stderr
    assert "halves" in listed.stdout
    unknown = command(environment, tmp_path, "sites", "demo", "--method", "halves")
    assert unknown.returncode == 2
    assert "unknown method 'halves'" in unknown.stderr


def entry(name: str, value: str) -> EntryPoint:
    return EntryPoint(name=name, value=value, group="sconv_search.methods")


def test_our_own_methods_are_offered() -> None:
    assert {"structured_conv", "spatial_svd", "weight_svd", "tucker", "cp", "channel_pruning"} <= set(METHODS)


def test_one_key_of_two_packages_is_refused() -> None:
    with pytest.raises(ValueError, match="two packages offer a method 'cp': a:B and c:D"):
        Methods(iter([entry("cp", "a:B"), entry("cp", "c:D")]))


def test_a_method_has_the_key_under_which_it_is_offered() -> None:
    methods = Methods(iter([entry("other", "sconv_search.baselines.cp:CP")]))
    with pytest.raises(ValueError, match="is offered as method 'other', and calls itself 'cp'"):
        methods["other"]


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("json:JSONEncoder", TypeError, "json:JSONEncoder is no compression method: it lacks options, limits, penalty"),
        ("nowhere.at.all:Class", ValueError, "cannot be imported: No module named 'nowhere'"),
        ("json:Missing", ValueError, "cannot be imported"),
        ("spatial_sdv", KeyError, "nearest: spatial_svd"),
    ],
)
def test_what_is_no_method_is_refused(text: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Methods().add(text)


def test_a_class_may_not_take_the_key_of_another(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "thief.py").write_text(HALVES.replace('name = "halves"', 'name = "cp"'))
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="thief:Halves calls itself 'cp', which is the key of CP already"):
        Methods().add("thief:Halves")
