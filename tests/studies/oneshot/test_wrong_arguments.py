"""What ``ss.compress`` is given wrongly is named, with what would be right, before any work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

import sconv_search as ss
from sconv_search.studies.oneshot import export as export_module


class Wide(nn.Module):
    """Two inputs, by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.head = nn.Conv2d(3, 16, 3), nn.Conv2d(1, 16, 3), nn.Linear(16, 4)

    def forward(self, rgb: Tensor, depth: Tensor) -> Tensor:
        y: Tensor = self.head((self.left(rgb) + self.right(depth)).relu().mean((2, 3)))
        return y


def small() -> nn.Sequential:
    torch.manual_seed(0)
    body = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4)).eval()


def of_two(batch: int) -> dict[str, Tensor]:
    return {"rgb": torch.randn(batch, 3, 8, 8), "depth": torch.randn(batch, 1, 8, 8)}


@pytest.mark.parametrize(("network", "example"), [(small, lambda n: torch.randn(n, 3, 8, 8)), (Wide, of_two)])
def test_a_batch_as_the_example_costs_what_one_input_costs(
    network: Callable[[], nn.Module], example: Callable[[int], Any]
) -> None:
    torch.manual_seed(0)
    dense = network()
    wanted, *batches = (ss.compress(dense, example(count), "70%", progress=False) for count in (1, 2, 3, 16))
    for got in batches:
        assert got.plan == wanted.plan
        assert (got.cost, got.dense_cost) == (wanted.cost, wanted.dense_cost)
        assert got.cost.flops <= 0.7 * got.dense_cost.flops


def test_a_studys_example_that_is_a_batch_costs_what_one_input_costs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    dense = Wide()
    costs = set()
    for count in (1, 5):
        study = ss.Study(
            dense,
            of_two(count),
            out=tmp_path / str(count),
            data=[of_two(4)],
            inputs=lambda batch: batch,
            score=lambda network: 0.0,
            fit=lambda network, penalty, epochs: None,
        )
        costs.add(ss.measure_cost(dense, study.task.input_shape))
    assert len(costs) == 1


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"budget": 0.5}, ValueError, "a budget is a text, as '50%' or '41M', or a mapping, .*; got 0.5"),
        ({"budget": ["flops=50%"]}, ValueError, r"a budget is a text, .*; got \['flops=50%'\]"),
        ({"budget": {}}, ValueError, "a budget is a text"),
        ({"network": "resnet18"}, TypeError, "must be an nn.Module, got 'resnet18'; sconv_search.named_network makes"),
        ({"example": None}, TypeError, "example must hold tensors, .*; got NoneType"),
        ({"example": np.zeros((1, 3, 8, 8))}, TypeError, r"as \(3, 32, 32\); got ndarray"),
        ({"inputs": "image"}, TypeError, "inputs= must be a function of a batch, got 'image'"),
        ({"samples": 0}, ValueError, "samples= must be a whole number above 0, got 0"),
        ({"data": [torch.full((4, 3, 8, 8), torch.nan)]}, ValueError, "data= holds numbers that are not finite"),
        ({"data": [torch.randn(4, 1, 8, 8)]}, ValueError, "data= does not fit the network: .*; inputs= is a function"),
        ({"data": [{"image": torch.randn(4, 3, 8, 8)}]}, ValueError, "data= does not fit the network"),
        ({"data": 5}, TypeError, "data= must be an iterable of batches, such as a DataLoader, got 5"),
        ({"data": [torch.zeros(4, 3, 8, 8)]}, ValueError, "inputs of one number alone, 0, which tell nothing"),
        ({"methods": ["svd"]}, KeyError, "^unknown method 'svd'; nearest: spatial_svd, weight_svd; known: "),
    ],
)
def test_what_is_wrong_is_named(given: dict[str, Any], error: type[Exception], words: str) -> None:
    arguments = {"network": small(), "example": (3, 8, 8), "budget": "70%", "progress": False, **given}
    with pytest.raises(error, match=words):
        ss.compress(**arguments)


class Offers(nn.Module):
    """A layer whose weights the network reads by itself, and one that is too small."""

    def __init__(self) -> None:
        super().__init__()
        self.read, self.tiny = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.tiny(torch.conv2d(x, self.read.weight, self.read.bias))
        return y


def test_a_network_without_a_layer_to_compress_is_refused_with_the_reasons() -> None:
    with pytest.raises(
        ValueError, match=r"by spatial_svd: read: the network reads its weights by itself.*; tiny: not for a Conv2d"
    ):
        ss.compress(Offers(), (3, 8, 8), "70%", methods=["spatial_svd"], progress=False)
    with pytest.raises(ValueError, match="'50%': the network has no flops, so nothing can be compressed"):
        ss.compress(nn.Sequential(nn.Flatten()), (3, 8, 8), "50%", progress=False)


def test_a_layer_that_the_outputs_do_not_depend_on_is_told_of() -> None:
    network = small()
    with torch.no_grad():
        network[0].weight.zero_()
    data = [torch.randn(8, 3, 8, 8)]
    with pytest.warns(RuntimeWarning, match="no option of 0.* does any predicted damage"):
        ss.compress(network, (3, 8, 8), "70%", data=data, progress=False)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"metric": "top-1"}, TypeError, r"metric= must be a sconv_search\.Metric, got 'top-1'"),
        ({"search_schedule": {}}, TypeError, r"search_schedule= must be a sconv_search\.Schedule, got {}"),
        ({"confirm_schedule": 5}, TypeError, r"confirm_schedule= must be a sconv_search\.Schedule, got 5"),
        ({"metod": "tucker"}, TypeError, "there is no argument 'metod'; nearest: methods"),
        ({"zzzz": 1}, TypeError, "there is no argument 'zzzz'; nearest: none alike; known: budget, .*, seed, "),
        ({"seed": "1"}, ValueError, "field 'seed' must be a whole number of at most 64 bits, got '1'"),
        ({"include": "head"}, ValueError, "field 'include' must be a list of values, each a text, got 'head'"),
        ({"samples": 0}, ValueError, "samples= must be a whole number above 0, got 0"),
        ({"targets": 1}, TypeError, "targets= must be a function, got a value of type int"),
        ({"score": lambda network, data: 1.0}, TypeError, r"score= is called with the network alone, and takes \(net"),
        ({"test": lambda: 1.0}, TypeError, r"test= is called with the network alone, and takes \(\)"),
        ({"network": 3}, TypeError, r"network must be an nn\.Module, got 3"),
    ],
)
def test_what_a_study_is_given_wrongly_is_named(
    tmp_path: Path, given: dict[str, Any], error: type[Exception], words: str
) -> None:
    arguments = {"network": small(), "example": (3, 8, 8), "data": [torch.ones(1)], "score": len, "loss": len, **given}
    with pytest.raises(error, match=words):
        ss.Study(out=tmp_path / "run", **arguments)


def test_counts_of_a_study_are_checked_before_its_data_is_read(tmp_path: Path) -> None:
    study = ss.Study(small(), (3, 8, 8), out=tmp_path / "run", data=[torch.ones(1)], score=len, loss=len)
    with pytest.raises(ValueError, match="trials= must be a whole number above 0, got 'a'"):
        study.search(trials="a")  # type: ignore[arg-type]  # what is tested
    with pytest.raises(ValueError, match="seeds= must be a whole number above 0, got 0"):
        study.confirm(seeds=0)


def test_a_file_is_not_taken_for_a_folder(tmp_path: Path) -> None:
    (tmp_path / "small").write_text("mine")
    compressed = ss.compress(small(), (3, 8, 8), "70%", progress=False)
    with pytest.raises(FileExistsError, match="small' is a file; give the name of a folder"):
        ss.save(compressed, tmp_path / "small")
    assert (tmp_path / "small").read_text() == "mine"


def test_networks_that_are_no_pair_are_not_reconstructed() -> None:
    dense, data = small(), torch.randn(8, 3, 8, 8)
    compressed = ss.compress(dense, (3, 8, 8), "70%", progress=False)
    with pytest.raises(ValueError, match="give the compressed network first, then the dense one"):
        ss.reconstruct(dense, compressed, data, images=8)
    other = nn.Sequential(*small()[:-1], nn.Linear(16, 5))
    with pytest.raises(ValueError, match=r"outputs of shapes \[\(1, 4\)\] for one input, the dense one \[\(1, 5\)\]"):
        ss.reconstruct(compressed, other, data, images=8)


@pytest.fixture(scope="module")
def compressed() -> nn.Module:
    """A ResNet-18 of five classes."""
    plan = ss.CompressionPlan(sites={"layer4.1.conv2": ss.Choice(method="spatial_svd", structure={"rank": 4})})
    return ss.compress(torchvision.models.resnet18(num_classes=5), (3, 32, 32), plan, progress=False)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("torchvision:mobilenet_v2", "is another network: it has no layer 'layer4.1.conv2'"),
        ("torchvision:resnet18", r"its 'fc.weight' has shape \(1000, 512\), here \(5, 512\)"),
        ("timm:nope", "no network 'nope'"),
        ("tim:resnet18", "no module 'tim' for 'tim:resnet18', and no library; nearest library: timm"),
        ("timm:", "names no network"),
    ],
)
def test_the_name_that_a_folder_is_given_has_to_be_the_networks(
    compressed: nn.Module, tmp_path: Path, name: str, words: str
) -> None:
    with pytest.raises((ValueError, KeyError), match=words):
        ss.save(compressed, tmp_path / "small", network_name=name)
    assert not (tmp_path / "small").exists()
    ss.save(compressed, tmp_path / "small", network_name="torchvision:resnet18?num_classes=5")


def test_methods_beside_a_plan_are_refused() -> None:
    plan = ss.CompressionPlan(sites={})
    with pytest.raises(ValueError, match="a plan names its layers and their methods; leave out methods="):
        ss.compress(small(), (3, 8, 8), plan, methods=["tucker"])


def test_an_onnx_file_of_another_type_than_float32_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"this one has torch\.bfloat16; call \.float\(\) first"):
        ss.export(small().bfloat16(), tmp_path / "x.onnx", example=(3, 8, 8))


def test_an_int8_file_is_told_by_its_own_difference(tmp_path: Path) -> None:
    data = [torch.randn(16, 3, 8, 8)]
    parity = ss.export(small(), tmp_path / "x.onnx", example=(3, 8, 8), int8=True, data=data)
    assert 1e-4 < parity["onnxruntime"] < 0.2


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"data": 5}, TypeError, "data= must be an iterable of batches, such as a DataLoader, got 5"),
        ({"data": []}, ValueError, "holds no batch"),
        ({"data": [torch.randn(4, 1, 8, 8)]}, ValueError, r"data= does not fit the network: .* inputs= is a function"),
        ({"data": [torch.ones(4, 3, 8, 8)]}, ValueError, "holds inputs of one number alone"),
        ({"data": [torch.ones(1)], "inputs": 3}, TypeError, "inputs= must be a function"),
    ],
)
def test_data_of_an_int8_file_is_checked_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], error: type[Exception], words: str
) -> None:
    monkeypatch.setattr(export_module, "optimize_for_inference", None)
    with pytest.raises(error, match=words):
        ss.export(small(), tmp_path / "x.onnx", example=(3, 8, 8), int8=True, **given)


def test_an_int8_file_reads_of_a_batch_what_inputs_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_module, "export_int8", lambda *given: read.append(given[2]))
    monkeypatch.setattr(export_module, "onnx_forward", lambda path: lambda x: torch.zeros(len(x), 4))
    read: list[torch.Tensor] = []
    images = torch.randn(16, 3, 8, 8)
    data = [{"image": images, "label": 0}]
    given: dict[str, Any] = {"example": (3, 8, 8), "optimize": False, "int8": True, "data": data}
    ss.export(small(), tmp_path / "x.onnx", inputs=lambda batch: batch["image"], **given)
    assert torch.equal(read[0], images)
