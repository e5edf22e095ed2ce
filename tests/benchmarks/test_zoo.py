"""A part of the public networks, put through what ``python -m benchmarks.zoo`` does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm

from benchmarks.zoo import running
from benchmarks.zoo.checks import CompiledRow, CompressionRow, CostRow, row_of
from benchmarks.zoo.networks import FAMILIES, zoo
from benchmarks.zoo.page import page

COUNTED = (
    *("torchvision/mobilenet_v3_small", "torchvision/regnet_y_400mf", "torchvision/shufflenet_v2_x1_0"),
    *("torchvision/ssdlite320_mobilenet_v3_large", "torchvision/deeplabv3_mobilenet_v3_large", "torchvision/r3d_18"),
    *("timm/ghostnet_050", "timm/lcnetv2_small", "timm/repghostnet_050", "timm/mobilenetv3_small_050"),
    *("timm/regnetx_002", "timm/rexnet_100", "timm/hgnetv2_b0", "timm/efficientvit_m0", "timm/shvit_s1"),
)
COMPRESSED = ("timm/test_efficientnet", "timm/test_vit", "timm/test_byobnet", "timm/test_convnext")


@pytest.mark.parametrize("name", COUNTED)
def test_a_public_network_has_the_cost_of_torchs_counter(name: str) -> None:
    row = row_of("cost", name)
    assert row["reason"] == ""
    assert row["macs"] == row["counted"] > 0


@pytest.mark.parametrize("name", [*COMPRESSED, pytest.param("timm/test_resnet", marks=pytest.mark.slow)])
def test_a_public_network_is_compressed_by_every_method_that_offers_something(name: str) -> None:
    row = row_of("compression", name)
    assert row["failures"] == {}
    assert "structured_conv" in row["shares"]
    assert all(0 < share < 1 for share in row["shares"].values())
    assert 0 < row["offered"] <= row["layers"]


def test_every_family_of_timm_is_there() -> None:
    assert set(FAMILIES) == set(timm.list_modules())
    assert set(FAMILIES.values()) <= set(timm.list_models())


class Worker:
    """Makes rows at once, and says which."""

    def __init__(self, limit_s: float) -> None:
        self.made: list[tuple[str, str]] = []

    def row(self, part: str, name: str) -> dict[str, Any]:
        kinds: dict[str, Any] = {
            "cost": CostRow(network=name, kind="classification", macs=1_000, counted=1_000, input="1×3×64×64"),
            "compression": CompressionRow(
                network=name,
                kind="classification",
                layers=9,
                offered=8,
                shares={"cp": 0.5},
                failures={"tucker": "ValueError: a | b"},
                note="torch writes none",
            ),
            "compiled": CompiledRow(network=name, kind="classification", difference=2e-7),
        }
        return dict(vars(kinds[part]))

    def close(self) -> None: ...


def test_rows_are_added_once_and_make_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "Worker", Worker)
    file, names = tmp_path / "zoo.jsonl", list(zoo())[:2]
    assert len(list(running.add_rows(file, ["cost"], names[:1], 1.0))) == 1
    assert len(list(running.add_rows(file, ["cost", "compression"], names, 1.0))) == 3
    assert list(running.add_rows(file, ["cost", "compression"], names, 1.0)) == []
    assert len(list(running.add_rows(file, ["cost", "compression"], names, 1.0, again=True))) == 2
    assert len([json.loads(line) for line in file.read_text().splitlines()]) == 6
    assert len(list(running.add_rows(file, ["compiled"], [*names, "timm/test_vit"], 1.0))) == 1  # of the few alone
    text = page(running.read_rows(file))
    assert "- cost: 2 of 2 networks" in text
    assert "structured: 1 of 1 networks (test_vit), largest difference 2.0e-07" in " ".join(text.split())
    why = "tucker: ValueError: a / b; torch writes none"
    assert f"| {names[0]} | 1×3×64×64 | 1,000 | equal | 8 of 9 | 1 of 9 | 50% |  | {why} |" in text


def test_a_network_that_takes_too_long_costs_its_own_row_alone() -> None:
    worker = running.Worker(limit_s=0.0)
    try:
        row = worker.row("cost", "torchvision/alexnet")
    finally:
        worker.close()
    assert row["reason"] == "took more than 0 s"
