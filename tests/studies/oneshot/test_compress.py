"""One call compresses any network to a budget: inputs of any structure, with data and without."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import sconv_search as ss

METHODS = ("structured_conv", "spatial_svd", "weight_svd", "channel_pruning")


def chain(channels: int = 24) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(channels, 5),
    ).eval()


def images(count: int) -> Tensor:
    return torch.randn(count, 3, 10, 10, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return chain()


@pytest.fixture(scope="module")
def small(network: nn.Module) -> nn.Module:
    """The network at 60 % of its FLOPs; no test modifies it, nor that at 80 %."""
    return ss.compress(network, images(1), budget="60%")


@pytest.fixture(scope="module")
def large(network: nn.Module) -> nn.Module:
    return ss.compress(network, images(1), budget="80%")


@pytest.mark.parametrize("data", [None, [images(16), images(16)]], ids=["weights alone", "fitted"])
@pytest.mark.parametrize("method", METHODS)
def test_the_budget_is_met_as_measured_and_the_network_stays(
    network: nn.Module, method: str, data: list[Tensor] | None
) -> None:
    before = copy.deepcopy(network.state_dict())
    small = ss.compress(network, images(1), budget="60%", methods=[method], data=data)
    assert small.cost == ss.measure_cost(small, (3, 10, 10))
    assert 0.3 * small.dense_cost.flops < small.cost.flops <= 0.6 * small.dense_cost.flops
    assert small.plan.methods == (method,) or set(small.plan.methods) == {method}
    assert small(images(2)).shape == (2, 5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_fitted_layers_are_nearer_to_the_dense_outputs(network: nn.Module) -> None:
    seen, unseen = images(64), torch.randn(64, 3, 10, 10, generator=torch.Generator().manual_seed(2))
    plan = ss.compress(network, (3, 10, 10), budget="60%").plan
    plain = ss.compress(network, (3, 10, 10), plan)
    fitted = ss.compress(network, (3, 10, 10), plan, data=[(seen, None)], inputs=lambda batch: batch[0])
    with torch.no_grad():
        wanted = network(unseen)
        far, near = ((each(unseen) - wanted).square().mean() for each in (plain, fitted))
    assert near < far


def test_several_quantities_hold_at_once_and_methods_mix(network: nn.Module) -> None:
    budget = {"macs": "60%", "params": "70%"}
    small = ss.compress(network, images(1), budget=budget, methods=["structured_conv", "weight_svd"], exclude=["0"])
    assert small.cost.macs <= 0.6 * small.dense_cost.macs
    assert small.cost.params <= 0.7 * small.dense_cost.params
    assert "0" not in small.plan.sites


@dataclass
class Boxes:
    """What a detector gives."""

    scores: Tensor
    extras: dict[str, tuple[Tensor, ...]]


class TwoInputs(nn.Module):
    """Reads an image and a vector of whole numbers, and gives a dataclass; a tuple in training."""

    def __init__(self) -> None:
        super().__init__()
        self.body = chain()
        self.embedding = nn.Embedding(7, 5)

    def forward(self, image: Tensor, *, kind: Tensor) -> Boxes | tuple[Tensor, Tensor]:
        scores = self.body(image) + self.embedding(kind)
        return (scores, scores) if self.training else Boxes(scores=scores, extras={"all": (scores, 2 * scores)})


def batches() -> Iterator[dict[str, Tensor]]:
    for number in range(4):
        generator = torch.Generator().manual_seed(number)
        kinds = torch.randint(0, 7, (16,), generator=generator)
        yield {"image": torch.randn(16, 3, 10, 10, generator=generator), "kind": kinds}


def test_inputs_by_keyword_and_outputs_of_any_structure() -> None:
    torch.manual_seed(0)
    network = TwoInputs().eval()
    example = {"image": images(1), "kind": torch.zeros(1, dtype=torch.long)}
    small = ss.compress(network, example, budget="60%", data=batches())
    assert small.cost.flops <= 0.6 * small.dense_cost.flops
    assert all(name.startswith("body.") for name in small.plan.sites)
    given = small(images(2), kind=torch.tensor([1, 6]))
    assert given.scores.shape == (2, 5)
    assert torch.isfinite(given.scores).all()


def test_a_plan_in_place_of_the_example_is_the_older_call(network: nn.Module) -> None:
    plan = ss.CompressionPlan(sites={"2": ss.Choice(method="structured_conv", structure={"c": 24, "n": 2})})
    torch.testing.assert_close(
        ss.compress(network, plan, images(32))(images(2)),
        ss.compress(network, images(1), plan, data=[images(32)])(images(2)),
    )


class Constant(nn.Module):
    """Its outputs do not depend on its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.body = chain()

    def forward(self, x: Tensor) -> Tensor:
        return 0 * self.body(x) + 1


def test_a_network_whose_outputs_say_nothing_is_told() -> None:
    with pytest.warns(RuntimeWarning, match="every option has the same predicted damage"):
        ss.compress(Constant().eval(), images(1), budget="80%", data=[images(8)])


@pytest.mark.parametrize(
    ("budget", "options", "error", "words"),
    [
        (None, {}, ValueError, "needs a budget"),
        ("50", {}, ValueError, "50"),
        ("0.1%", {}, ValueError, "cannot be met"),
        ("20%..80%", {}, ValueError, "needs a study"),
        ("latency_ms=50%", {}, ValueError, "latency_ms|needs a study"),
        ("50%", {"methods": ["spatial_sdv"]}, KeyError, "nearest: spatial_svd"),
        ("50%", {"include": ["layer9*"]}, ValueError, "'layer9\\*' matches no site"),
        ("50%", {"data": []}, ValueError, "holds no batch"),
        ("50%", {"data": [3]}, ValueError, "batches must hold tensors"),
    ],
)
def test_wrong_input_is_refused_by_name(
    network: nn.Module, budget: str | None, options: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        ss.compress(network, images(1), budget, **options)  # type: ignore[arg-type]


def test_an_example_on_which_the_network_fails_is_refused_before_any_work(network: nn.Module) -> None:
    with pytest.raises(ValueError, match="Sequential"):
        ss.compress(network, (4, 10, 10), budget="50%")


def test_a_saved_network_is_loaded_bit_for_bit(network: nn.Module, tmp_path: Path) -> None:
    small = ss.compress(network, images(1), budget="60%", data=[images(16)])
    ss.save(small, str(tmp_path / "small"))
    again = ss.load(str(tmp_path / "small"), chain())
    assert torch.equal(again(images(3)), small(images(3)))
    assert (again.plan, again.cost, again.dense_cost) == (small.plan, small.cost, small.dense_cost)


def test_a_saved_network_is_replaced_where_that_is_asked_for(
    small: nn.Module, large: nn.Module, tmp_path: Path
) -> None:
    ss.save(small, tmp_path)
    with pytest.raises(FileExistsError, match=r"holds plan\.json, .* already; .* by overwrite=True"):
        ss.save(large, tmp_path)
    assert ss.load(tmp_path, chain()).plan == small.plan
    ss.save(large, tmp_path, overwrite=True)
    assert ss.load(tmp_path, chain()).plan == large.plan != small.plan


def test_a_save_that_is_broken_off_leaves_the_former_network(
    small: nn.Module, large: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ss.save(small, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    real = os.replace

    def stopped(source: Path, target: Path) -> None:
        if Path(source).name.startswith("plan") and ".partial" in Path(source).name:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "replace", stopped)
    with pytest.raises(KeyboardInterrupt):
        ss.save(large, tmp_path, overwrite=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert torch.equal(ss.load(tmp_path, chain())(images(3)), small(images(3)))


@pytest.mark.parametrize("name", ["plan.json", "weights.safetensors", "config.json"])
def test_a_folder_mixed_of_two_saves_is_refused(small: nn.Module, large: nn.Module, tmp_path: Path, name: str) -> None:
    ss.save(small, tmp_path / "a")
    ss.save(large, tmp_path / "b")
    shutil.copy(tmp_path / "b" / name, tmp_path / "a" / name)
    with pytest.raises(ValueError, match=r"a' mixes two networks: .* not of one save"):
        ss.load(tmp_path / "a", chain())


def test_weights_of_another_save_of_the_same_plan_are_refused(network: nn.Module, tmp_path: Path) -> None:
    small = ss.compress(network, images(1), budget="60%")
    ss.save(small, tmp_path / "a")
    torch.nn.init.ones_(next(small.parameters()))
    ss.save(small, tmp_path / "b")
    shutil.copy(tmp_path / "b/weights.safetensors", tmp_path / "a")
    with pytest.raises(ValueError, match=r"mixes two networks: weights\.safetensors and config\.json"):
        ss.load(tmp_path / "a", chain())


def test_folders_of_before_checksums_are_loaded(small: nn.Module, tmp_path: Path) -> None:
    ss.save(small, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["weights_crc32"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert torch.equal(ss.load(tmp_path, chain())(images(3)), small(images(3)))


def test_a_network_without_a_plan_is_not_saved(network: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="Sequential has no plan"):
        ss.save(network, tmp_path)


def test_a_damaged_config_is_named(large: nn.Module, tmp_path: Path) -> None:
    ss.save(large, tmp_path)
    (tmp_path / "config.json").write_text('{"cost": 3}')
    with pytest.raises(ValueError, match=r"config\.json"):
        ss.load(tmp_path, chain())


@pytest.mark.parametrize("name", ["small.onnx", "small.pt2"])
def test_an_exported_file_computes_the_same(network: nn.Module, tmp_path: Path, name: str) -> None:
    small = ss.compress(network, images(1), budget="70%")
    parity = ss.export(small, tmp_path / name, optimize=name == "small.onnx")
    assert (tmp_path / name).is_file()
    assert parity
    assert max(parity.values()) < 1e-4


def test_a_file_that_is_there_is_exported_over_where_that_is_asked_for(network: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "small.pt2"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match=r"small\.pt2' is there already; .* by overwrite=True"):
        ss.export(network, path, example=images(1))
    assert path.read_text() == "mine"
    ss.export(network, path, example=images(1), optimize=False, overwrite=True)
    assert path.read_bytes()[:4] != b"mine"


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("small.txt", {}, "must end in .onnx or .pt2"),
        ("small.pt2", {"runtime": "openvino"}, "does not run .pt2"),
        ("small.onnx", {"int8": True}, "reads the ranges"),
        ("small.onnx", {}, "needs an example"),
    ],
)
def test_an_export_that_cannot_be_is_refused(
    network: nn.Module, tmp_path: Path, name: str, options: dict[str, object], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        ss.export(network, tmp_path / name, **options)  # type: ignore[arg-type]
