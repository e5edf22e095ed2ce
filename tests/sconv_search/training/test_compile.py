"""Compiled training: when it pays, that it trains as eager training does, and what happens where there is no
compiler.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sconv_search import StructuredConv2d
from sconv_search.data.shard import Shard
from sconv_search.data.splits import DataSet, Split
from sconv_search.training.checkpoint import Checkpoint
from sconv_search.training.compile import CompiledForward, forward_macs, training_forward
from sconv_search.training.loop import train_
from sconv_search.training.process_group import SINGLE_PROCESS, ProcessGroup
from sconv_search.training.schedule import Schedule

SCHEDULE = Schedule(epochs=1, batch_size=16, precision="fp32")
LONG = 10**9
"""Steps that are worth compiling for."""


@pytest.fixture(scope="module")
def data() -> DataSet:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (64, 3, 8, 8), generator=generator, dtype=torch.uint8)
    split = Split(images=images, labels=torch.arange(64) % 4)
    return DataSet(name="random", train=split, validation=split, test=split, mean=(0.5,) * 3, std=(0.25,) * 3)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 4, 3),
        nn.Flatten(),
        nn.Linear(144, 4),
    )


def test_the_forward_of_an_image_is_counted() -> None:
    given = network()
    before = given[1].running_mean.clone()
    assert forward_macs(given.train(), torch.randn(1, 3, 8, 8)) == 8 * 64 * 27 + 4 * 36 * 72 + 144 * 4
    assert given.training
    assert torch.equal(given[1].running_mean, before)


def test_long_trainings_on_small_images_are_compiled(data: DataSet) -> None:
    given = network()
    assert isinstance(training_forward(given, data, SCHEDULE, LONG, SINGLE_PROCESS), CompiledForward)
    assert training_forward(given, data, SCHEDULE, 4, SINGLE_PROCESS) is given, "too short"
    assert training_forward(given, data, replace(SCHEDULE, compiled="never"), LONG, SINGLE_PROCESS) is given
    assert isinstance(
        training_forward(given, data, replace(SCHEDULE, compiled="always"), 4, SINGLE_PROCESS), CompiledForward
    )


def test_what_compiled_code_is_no_faster_at_stays_eager(data: DataSet) -> None:
    structured = network()
    structured[3] = StructuredConv2d.from_conv(structured[3], c=4, n=3)
    assert training_forward(structured, data, SCHEDULE, LONG, SINGLE_PROCESS) is structured
    large = replace(
        data, train=Split(images=torch.zeros(1, 3, 96, 96, dtype=torch.uint8), labels=torch.zeros(1).long())
    )
    anywhere = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    assert training_forward(anywhere, large, SCHEDULE, LONG, SINGLE_PROCESS) is anywhere, "images of 96 pixels"
    assert isinstance(training_forward(anywhere, data, SCHEDULE, LONG, SINGLE_PROCESS), CompiledForward)
    assert isinstance(training_forward(network().to("meta"), data, SCHEDULE, LONG, SINGLE_PROCESS), nn.Sequential), (
        "not a CPU's"
    )


def test_trainings_that_processes_share_are_not_compiled(data: DataSet) -> None:
    given, two = network(), ProcessGroup(Shard(index=0, count=2))
    assert training_forward(given, data, replace(SCHEDULE, compiled="always"), LONG, two) is given


@pytest.mark.parametrize("structured", [False, True], ids=["dense", "structured"])
def test_compiled_training_is_eager_training_up_to_rounding(data: DataSet, structured: bool) -> None:
    found = []
    for compiled in ("never", "always"):
        given = network()
        if structured:
            given[3] = StructuredConv2d.from_conv(given[3], c=4, n=2)
        train_(given, data, replace(SCHEDULE, compiled=compiled), seed=3)
        found.append(given.state_dict())
    for name, tensor in found[0].items():
        torch.testing.assert_close(found[1][name], tensor, rtol=1e-3, atol=1e-4)
    assert not torch.equal(found[0]["0.weight"], network()[0].weight)


def test_every_step_runs_the_compiled_forward(data: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    given, seen = network(), list[torch.Size]()

    def compile(forward: Callable[[Tensor], Tensor], **options: object) -> Callable[[Tensor], Tensor]:
        def run(x: Tensor) -> Tensor:
            seen.append(x.shape)
            return forward(x)

        return run

    monkeypatch.setattr(torch, "compile", compile)
    train_(given, data, replace(SCHEDULE, compiled="always", accumulation=2), seed=3)
    assert seen == [(8, 3, 8, 8)] * 8, "four batches of 16 in two parts each"


class Killed(Exception):
    """Stands for a kill."""


def test_a_killed_compiled_training_continues_to_the_same_weights(data: DataSet, tmp_path: Path) -> None:
    schedule = replace(SCHEDULE, epochs=2, compiled="always")
    whole, broken = network(), network()
    train_(whole, data, schedule, seed=3)

    def kill(done: int, steps: int) -> None:
        if done == 5:
            raise Killed

    checkpoint = Checkpoint(path=tmp_path / "checkpoint.safetensors", every_s=0)
    with pytest.raises(Killed):
        train_(broken, data, schedule, seed=3, progress=kill, checkpoint=checkpoint)
    again = network()
    train_(again, data, schedule, seed=3, checkpoint=checkpoint)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_more_networks_than_torch_keeps_forms_of_a_function_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one function torch compiles eight forms, then runs it eagerly; here each has its own."""
    compiled: list[object] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., object]:
        compiled.append(graph)
        return graph.forward

    original = torch.compile
    monkeypatch.setattr(torch, "compile", lambda given, **options: original(given, backend=backend, **options))
    for width in range(1, 11):
        CompiledForward(nn.Sequential(nn.Linear(3, width)))(torch.randn(2, 3))
    assert len(compiled) == 10


class InParts(nn.Module):
    """Whose forward torch compiles in two parts."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.last = nn.BatchNorm1d(3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        torch._dynamo.graph_break()
        return self.last(x)  # type: ignore[no-any-return]


def test_batch_norms_see_a_batch_once_where_a_later_part_cannot_be_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = list[torch.fx.GraphModule]()

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., object]:
        parts.append(graph)
        if len(parts) > 1:
            raise RuntimeError("the second part cannot be compiled")
        return graph.forward

    original = torch.compile
    monkeypatch.setattr(torch, "compile", lambda given, **options: original(given, backend=backend, **options))
    given = InParts()
    with pytest.warns(RuntimeWarning, match=r"^InParts cannot be compiled here, and trains eagerly: .*[Gg]raph.break"):
        outputs = CompiledForward(given)(torch.randn(4, 3))
    assert outputs.shape == (4, 2)
    assert given.norm.num_batches_tracked == 1


def test_without_a_compiler_training_is_eager_and_says_so() -> None:
    code = (
        "import sys, torch, warnings; from torch import nn; from sconv_search.training.compile import"
        " CompiledForward\nprint('imported:', 'torch._dynamo' in sys.modules)\nforward ="
        " CompiledForward(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()))\nwith"
        " warnings.catch_warnings(record=True) as caught:\n    warnings.simplefilter('always')\n    first, second ="
        " (forward(torch.randn(2, 3, 8, 8)) for _ in range(2))\nprint([str(one.message) for one in caught if 'trains"
        " eagerly' in str(one.message)], first.shape, second.shape)\n"
    )
    where = {**os.environ, "CXX": "/nonexistent/compiler", "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=where, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "imported: False" in done.stdout, "two seconds of every command"
    assert "Sequential cannot be compiled here, and trains eagerly: " in done.stdout
    assert done.stdout.count("trains eagerly") == 1
    assert done.stdout.count("torch.Size([2, 4, 6, 6])") == 2
