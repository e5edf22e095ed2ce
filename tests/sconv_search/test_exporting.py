"""A file that does not compute what the network does is not kept."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from sconv_search import exporting
from sconv_search.exporting import (
    export_onnx,
    export_program,
    onnx_forward,
    onnx_run,
    openvino_run,
    parity,
    quantize_onnx,
    require_parity,
)
from sconv_search.running import Prepare

pytestmark = pytest.mark.filterwarnings("ignore")


def test_parity_is_the_largest_difference_over_the_largest_output() -> None:
    x = torch.zeros(2, 3)
    assert parity(lambda given: given * 0 + 4, lambda given: given * 0 + 3, x) == 0.25
    assert parity(nn.Identity(), nn.Identity(), x) == 0


def test_a_difference_or_nan_is_refused_by_name() -> None:
    require_parity({"onnxruntime": 1e-6})
    for wrong in (0.25, float("nan")):
        with pytest.raises(RuntimeError, match="by openvino the exported network differs by"):
            require_parity({"onnxruntime": 0.0, "openvino": wrong})


def test_a_wrong_file_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "parity", lambda network, other, example: 0.5)
    with pytest.raises(RuntimeError, match="nothing is written"):
        export_program(nn.Sequential(nn.Linear(3, 2)).eval(), torch.zeros(2, 3), tmp_path / "a.pt2", {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("run", "package"), [(onnx_run, "onnxruntime"), (openvino_run, "openvino")])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_runtime_for_timing_runs_the_module(run: Prepare, package: str, layout: torch.memory_format) -> None:
    pytest.importorskip(package)
    module, x = nn.Sequential(nn.Conv2d(2, 3, 1)).eval(), torch.randn(2, 2, 4, 4).contiguous(memory_format=layout)
    found = run(module, x)()[0]  # type: ignore[index]
    torch.testing.assert_close(torch.from_numpy(found), module(x), rtol=0, atol=1e-5)


def test_a_session_that_is_timed_leaves_the_processors_to_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its second thread would otherwise wait busily for the next run: 20 ms of the other's time after each of its own."""
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    run = onnx_run(nn.Conv2d(16, 64, 3).eval(), torch.zeros(4, 16, 32, 32))
    spent = 0.0
    for _ in range(5):
        run()
        began = time.process_time()
        time.sleep(0.02)
        spent += time.process_time() - began
    assert spent < 0.01


SIGNAL_STACK = """
import ctypes, faulthandler, gc, torch
from sconv_search.exporting import openvino_run

class Stack(ctypes.Structure):
    _fields_ = [("place", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]

faulthandler.enable()  # gives the thread a signal stack, as test runners do
runs = [openvino_run(torch.nn.Conv2d(2, 3, 1), torch.zeros(1, 2, 4, 4)) for _ in range(2)]
while runs:
    del runs[0]  # the first that came goes first
    gc.collect()
found = Stack()
assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(found)) == 0
spans = [[int(end, 16) for end in line.split()[0].split("-")] for line in open("/proc/self/maps")]
print(any(first <= (found.place or 0) < last for first, last in spans))
"""


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="memory maps are Linux's")
def test_models_of_openvino_that_are_gone_leave_a_signal_stack_that_is_there() -> None:
    """Else the next signal, a worker's end or Ctrl-C, overwrites what has come to lie at its place."""
    pytest.importorskip("openvino")
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", SIGNAL_STACK], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["True"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_openvino_computes_in_the_inputs_type() -> None:
    pytest.importorskip("openvino")
    if not exporting.openvino_has_bf16():
        pytest.skip("OpenVINO has no bf16 on this CPU")
    torch.manual_seed(0)
    network, x = nn.Sequential(nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3)).eval(), torch.randn(2, 64, 12, 12)
    wanted = network(x)
    strict, rounded = ((torch.from_numpy(next(iter(exporting.openvino_run(network, given)().values()))) - wanted).abs().max()
                       for given in (x, x.bfloat16()))  # fmt: skip
    assert float(strict) < 1e-5 < 1e-3 < float(rounded) < 0.05
    assert {one.dtype for one in network.parameters()} == {torch.float32}, "the module itself is not converted"


def test_bf16_is_refused_where_openvino_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr(exporting, "openvino_has_bf16", lambda: False)
    with pytest.raises(ValueError, match="no bf16 on this CPU"):
        exporting.openvino_run(nn.Conv2d(2, 2, 1), torch.zeros(1, 2, 4, 4, dtype=torch.bfloat16))


def layers() -> nn.Module:
    torch.manual_seed(0)
    first, second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 3)
    with torch.no_grad():
        first.weight[0] *= 100  # of one scale a layer, the other filters keep few of their bits
    return nn.Sequential(first, nn.ReLU(), second).eval()


def test_int8_computes_nearly_the_same_and_better_with_a_scale_a_filter(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    network, x = layers(), torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    export_onnx(network, x[:2], tmp_path / "float.onnx", {})
    error = {}
    for per_channel in (False, True):
        quantize_onnx(tmp_path / "float.onnx", x, tmp_path / "int8.onnx", per_channel=per_channel, weight_bits=7)
        found = onnx_forward(tmp_path / "int8.onnx")(x)
        error[per_channel] = float((found - network(x)).norm() / network(x).norm())
    assert 1e-4 < error[True] < 0.1, "rounded, not wrong"
    assert error[True] < error[False]
    model = pytest.importorskip("onnx").load(tmp_path / "int8.onnx")
    assert {init.data_type for init in model.graph.initializer if init.name.endswith("weight_quantized")} == {3}, "int8"
