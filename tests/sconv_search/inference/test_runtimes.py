"""onnxruntime and OpenVINO run what they are given, in its type, and leave processors and signals alone."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from sconv_search.cost.timing import Prepare
from sconv_search.inference import runtimes
from sconv_search.inference.runtimes import onnx_run, openvino_run

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize(("run", "package"), [(onnx_run, "onnxruntime"), (openvino_run, "openvino")])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_runtime_for_timing_runs_the_module(run: Prepare, package: str, layout: torch.memory_format) -> None:
    pytest.importorskip(package)
    module, x = nn.Sequential(nn.Conv2d(2, 3, 1)).eval(), torch.randn(2, 2, 4, 4).contiguous(memory_format=layout)
    found = run(module, x)()[0]  # type: ignore[index]
    torch.testing.assert_close(torch.from_numpy(found), module(x), rtol=0, atol=1e-5)


def test_a_session_that_is_timed_leaves_the_processors_to_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its second thread would otherwise wait busily for the next run: 20 ms of the other's time after each of its
    own.
    """
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
from sconv_search.inference.runtimes import openvino_run

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
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SIGNAL_STACK], check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == ["True"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_openvino_computes_in_the_inputs_type() -> None:
    pytest.importorskip("openvino")
    if not runtimes.openvino_has_bf16():
        pytest.skip("OpenVINO has no bf16 on this CPU")
    torch.manual_seed(0)
    network, x = nn.Sequential(nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3)).eval(), torch.randn(2, 64, 12, 12)
    wanted = network(x)
    strict, rounded = (
        (torch.from_numpy(next(iter(runtimes.openvino_run(network, given)().values()))) - wanted).abs().max()
        for given in (x, x.bfloat16())
    )
    assert float(strict) < 1e-5 < 1e-3 < float(rounded) < 0.05
    assert {one.dtype for one in network.parameters()} == {torch.float32}, "the module itself is not converted"


def test_bf16_is_refused_where_openvino_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr(runtimes, "openvino_has_bf16", lambda: False)
    with pytest.raises(ValueError, match="no bf16 on this CPU"):
        runtimes.openvino_run(nn.Conv2d(2, 2, 1), torch.zeros(1, 2, 4, 4, dtype=torch.bfloat16))
