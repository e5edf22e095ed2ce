"""``sconv-search export``: a file that other programs read, which computes what the network does and says what it
is.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from sconv_search import Choice, CompressionPlan, TrialRecord, measure_cost
from sconv_search.inference.export import METADATA
from sconv_search.studies import METHODS, RunFolder, StudySpec, Task, compress, rebuild, save_compressed, tasks
from tests.studies.conftest import Typed, tiny_data, tiny_network

pytestmark = pytest.mark.filterwarnings("ignore")
PLANS = {
    1: CompressionPlan(sites={"3": Choice(method="structured_conv", structure={"c": 4, "n": 2, "merged": 1})}),
    4: CompressionPlan(sites={"3": Choice(method="spatial_svd", structure={"rank": 4})}),
    7: CompressionPlan(sites={"3": Choice(method="structured_conv", structure={"c": 8, "n": 2})}),
}
SEEDS = {1: (0, 2), 4: (0,)}


def known(number: int) -> dict[str, Any]:
    plan = PLANS[number].to_json()
    cost = {"macs": 10, "adds": 0, "flops": 20, "params": 9, "dense_flops": 40}
    return {
        "study": "run",
        "task": "corners",
        "variant": "searched",
        "status": "complete",
        "number": number,
        "plan": plan,
        **cost,
    }


@pytest.fixture
def run(spec: StudySpec, tmp_path: Path) -> RunFolder:
    """Trials 1, 4 and 7, of which 1 and 4 are confirmed; 7 has the highest accuracy, then 1."""
    folder = RunFolder(tmp_path / "run")
    with folder.locked():
        folder.write("spec.json", replace(spec, budget="90%").to_json())
        for number, top1 in ((1, 95.0), (4, 90.0), (7, 99.0)):
            folder.append(TrialRecord(stage="search", val_score=top1, methods="any", **known(number)))
        for number, seeds in SEEDS.items():
            for seed in seeds:
                torch.manual_seed(10 * number + seed)
                network = compress(tiny_network().eval(), PLANS[number])
                save_compressed(network, PLANS[number], folder.path / "confirmed" / f"searched-{number}-seed{seed}")
                folder.append(TrialRecord(stage="confirm", test_score=91.5, seed=seed, methods="any", **known(number)))
    return folder


def drawn(batch: int) -> Tensor:
    return torch.randn(batch, 2, 12, 12, generator=torch.Generator().manual_seed(batch))


def by_onnxruntime(path: Path) -> tuple[Callable[[Tensor], Tensor], dict[str, str]]:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    texts = {
        key.removeprefix("sconv_search."): text for key, text in session.get_modelmeta().custom_metadata_map.items()
    }
    return lambda x: torch.from_numpy(session.run(None, {"input": x.numpy()})[0]), texts


def by_export(path: Path) -> tuple[Callable[[Tensor], Tensor], dict[str, str]]:
    files = {METADATA: ""}
    return torch.export.load(path, extra_files=files).module(), json.loads(files[METADATA])


def by_safetensors(path: Path) -> tuple[Callable[[Tensor], Tensor], dict[str, str]]:
    with safe_open(path, "pt") as file:
        tensors, texts = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    network = compress(tiny_network(), CompressionPlan.from_json(texts["plan"]))
    network.load_state_dict(tensors)
    return network.eval(), texts


READERS = {"onnx": by_onnxruntime, "pt2": by_export, "safetensors": by_safetensors}


@pytest.mark.parametrize("to", READERS)
@pytest.mark.parametrize(("arguments", "place"), [((), "searched-1-seed0"), (("--plan", 4), "searched-4-seed0")])
def test_the_file_computes_what_the_network_does(
    typed: Callable[..., Typed], run: RunFolder, to: str, arguments: tuple[object, ...], place: str
) -> None:
    said = typed("export", run.path, "--to", to, *arguments)
    assert said.status == 0, said
    file = run.path / "exported" / f"{place}.{to}"
    network = rebuild(tiny_network(), run.path / "confirmed" / place)
    other, texts = READERS[to](file)
    for batch in (1, 3):
        torch.testing.assert_close(other(drawn(batch)), network(drawn(batch)), rtol=0, atol=1e-5)
    assert CompressionPlan.from_json(texts["plan"]) == PLANS[int(place[9])]
    cost = measure_cost(network, (2, 12, 12))
    assert json.loads(texts["cost"])["flops"] == cost.flops < json.loads(texts["dense_cost"])["flops"]
    assert (texts["task"], texts["test_score"], json.loads(texts["input_shape"])) == ("corners", "91.5", [2, 12, 12])
    assert "parity, " in said.out
    assert str(file) in said.out.replace("\n", "")
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_another_seed_and_file_and_one_json_document(
    typed: Callable[..., Typed], run: RunFolder, tmp_path: Path
) -> None:
    file = tmp_path / "new" / "mine.pt2"
    said = typed("export", run.path, "--to", "pt2", "--plan", "best", "--seed", 2, "--out", file, "--json")
    found = json.loads(said.out)
    assert (found["file"], found["trial"], found["seed"], found["implementations"]) == (str(file), 1, 2, {})
    assert found["parity"] == {"torch.export": pytest.approx(0, abs=1e-6)}
    network = rebuild(tiny_network(), run.path / "confirmed" / "searched-1-seed2")
    torch.testing.assert_close(by_export(file)[0](drawn(2)), network(drawn(2)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("to", ["onnx", "pt2"])
def test_made_ready_it_computes_the_same(typed: Callable[..., Typed], run: RunFolder, to: str) -> None:
    said = typed("export", run.path, "--to", to, "--optimize", "--json")
    assert said.status == 0, said
    found = json.loads(said.out)
    assert set(found["implementations"]) == {"3", "whole network"}
    runtimes = {"onnxruntime", *(["openvino"] if find_spec("openvino") else [])}
    assert set(found["parity"]) == (runtimes if to == "onnx" else {"torch.export"})
    assert "times as" in said.err
    network = rebuild(tiny_network(), run.path / "confirmed" / "searched-1-seed0")
    other, texts = READERS[to](Path(found["file"]))
    torch.testing.assert_close(other(drawn(3)), network(drawn(3)), rtol=0, atol=1e-5)
    assert json.loads(texts["implementations"]) == found["implementations"]


@pytest.mark.parametrize(("name", "sites"), [("uniform-low", 1), ("dense", 0), ("searched-4", 1), ("4", 1)])
def test_networks_are_exported_by_the_names_that_reports_give_them(
    typed: Callable[..., Typed], run: RunFolder, name: str, sites: int
) -> None:
    others = {"uniform-low": ("uniform", PLANS[4]), "dense": ("dense", CompressionPlan(sites={}))}
    for label, (variant, plan) in others.items():
        save_compressed(compress(tiny_network().eval(), plan), plan, run.path / "confirmed" / f"{label}-seed0")
        columns = {**known(4), "number": None, "variant": variant, "plan": plan.to_json(), "name": label}
        run.append(TrialRecord(stage="confirm", test_score=91.5, seed=0, methods="any", **columns))
    found = json.loads(typed("export", run.path, "--to", "safetensors", "--plan", name, "--json").out)
    assert found["name"] == name.removeprefix("searched-")
    assert len(json.loads(found["metadata"]["plan"])["sites"]) == sites


@pytest.mark.parametrize("more", [(), ("--optimize",)])
def test_int8_gives_most_images_the_same_class(
    typed: Callable[..., Typed], run: RunFolder, more: tuple[str, ...]
) -> None:
    said = typed("export", run.path, "--to", "onnx", "--int8", "--json", *more)
    assert said.status == 0, said
    found = json.loads(said.out)
    file = Path(found["file"])
    assert file.name == "searched-1-seed0-int8.onnx"
    network = rebuild(tiny_network(), run.path / "confirmed" / "searched-1-seed0")
    (other, texts), data = by_onnxruntime(file), tiny_data(None, False)
    inputs = data.normalized(data.calibration)
    same = (other(inputs).argmax(1) == network(inputs).argmax(1)).float().mean()
    assert 0.8 < same == pytest.approx(found["same_class"], abs=0.01)
    assert not torch.allclose(other(inputs), network(inputs), atol=1e-4), "it is not the float network"
    assert f"{100 * same:.1f} % of the calibration images" in said.err
    assert (texts["weights"], texts["trial"]) == ("int8", "1")
    assert "int8" in {kind.name.lower() for kind in kinds(file)}


def kinds(file: Path) -> set[Any]:
    onnx = pytest.importorskip("onnx")
    weights = onnx.load(file).graph.initializer
    return {pytest.importorskip("onnx.helper").tensor_dtype_to_np_dtype(one.data_type) for one in weights}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--to", "pt2", "--int8"), "--int8 writes ONNX files alone, got --to pt2; use --to onnx"),
        (("--to", "onnx", "--data", "images"), "--data is read for --int8 alone"),
        (("--to", "tflite"), "'tflite' is not one of 'onnx', 'pt2', 'safetensors'"),
        (("--to", "onnx", "--plan", "beste"), "network 'beste' of"),
        (
            ("--to", "onnx", "--plan", "7"),
            "was not confirmed; there are trial 1 seed 0, trial 1 seed 2, trial 4 seed 0",
        ),
        (("--to", "onnx", "--plan", "1", "--seed", "1"), "trial 1 with seed 1 of"),
        (("--to", "safetensors", "--optimize"), "weights alone cannot be made ready for inference"),
    ],
)
def test_wrong_input_is_named(
    typed: Callable[..., Typed], run: RunFolder, arguments: tuple[str, ...], message: str
) -> None:
    said = typed("export", run.path, *arguments)
    assert said.status == 2
    assert message in said.err
    assert not (run.path / "exported").exists()


def test_a_run_without_confirmed_networks_is_told_to_confirm(
    typed: Callable[..., Typed], spec: StudySpec, tmp_path: Path
) -> None:
    assert "holds no study" in typed("export", tmp_path / "absent", "--to", "onnx").err
    folder = RunFolder(tmp_path / "run")
    with folder.locked():
        folder.write("spec.json", spec.to_json())
        folder.append(TrialRecord(stage="search", val_score=90.0, methods="any", **known(1)))
    said = typed("export", folder.path, "--to", "onnx")
    assert (said.status, f"confirm first, by `sconv-search confirm {folder.path}`" in said.err) == (2, True)


class OfOneSize(nn.Module):
    """Takes batches of two alone."""

    def __init__(self) -> None:
        super().__init__()
        self.body = tiny_network()

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + torch.zeros(2, 1)


def test_a_network_of_one_batch_size_is_refused(
    typed: Callable[..., Typed], run: RunFolder, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "TASKS", {task.name: replace(task, network=OfOneSize)})
    place = run.path / "confirmed" / "searched-1-seed0"
    plan = CompressionPlan(sites={"body.3": PLANS[1].sites["3"]})
    save_compressed(compress(OfOneSize(), plan), plan, place)
    said = typed("export", run.path, "--to", "pt2")
    assert said.status == 2
    assert "OfOneSize cannot be exported for batches of any size" in said.err
    assert not list(run.path.glob("exported/*"))


def test_a_missing_package_is_named(
    typed: Callable[..., Typed], run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    said = typed("export", run.path, "--to", "onnx")
    assert said.status == 2
    assert "pip install 'sconv-search[onnx]'" in said.err


def test_the_methods_of_the_plans_exist() -> None:
    assert {choice.method for plan in PLANS.values() for choice in plan.sites.values()} <= set(METHODS)


def test_other_code_than_was_searched_is_not_exported(
    typed: Callable[..., Typed], run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(folder: RunFolder, task: Task) -> None:
        raise ValueError(f"{folder.path.name} of {task.name} was searched with another network")

    monkeypatch.setattr("sconv_search.studies.commands.export.require_network", refused)
    said = typed("export", run.path, "--to", "onnx")
    assert said.status == 2
    assert "run of corners was searched with another network" in said.err
    assert not (run.path / "exported").exists()
