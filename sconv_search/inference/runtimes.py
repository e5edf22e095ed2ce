"""Networks run by onnxruntime and OpenVINO: for timing, and from the files that were exported."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sconv_search.system.packages import require_package

ONNX = "ONNX files need"
ENDS_SPINNING = "session.force_spinning_stop"
"""Ends the busy waiting of a session's threads with its run: where several are timed in turn they would hinder one
another.
"""
Forward = Callable[..., Any]
"""From a network's input tensors to its output, or to a list of them where there are several."""


def onnx_run(module: nn.Module, x: Tensor) -> Callable[[], object]:
    """One forward of a module by onnxruntime, with as many threads as torch has; for timing."""
    session, given = onnx_session(_onnx_bytes(module, x)), x.contiguous().numpy()
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: given})


def openvino_run(module: nn.Module, x: Tensor) -> Callable[[], object]:
    """One forward of a module by OpenVINO, with as many threads as torch has; for timing.

    Args:
        x: in fp32, in which it then computes strictly, or in bf16, in which the layers compute; inputs and outputs are
            fp32.

    Raises:
        ValueError: bf16 is asked for, and OpenVINO has none on this CPU.
    """
    core = _openvino_core()
    if x.dtype == torch.bfloat16 and not openvino_has_bf16():
        raise ValueError("OpenVINO computes no bf16 on this CPU, whose instructions lack it; use fp32")
    model = core.read_model(_onnx_bytes(copy.deepcopy(module).float(), x.float()))
    request = core.compile_model(model, "CPU", _openvino_options(x.dtype)).create_infer_request()
    given = x.float().contiguous().numpy()
    return lambda: request.infer([given], share_inputs=True, share_outputs=True)


def openvino_has_bf16() -> bool:
    """Whether OpenVINO computes in bf16 on this CPU."""
    return "BF16" in _openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _openvino_options(dtype: torch.dtype) -> dict[str, Any]:
    precision = "bf16" if dtype == torch.bfloat16 else "f32"  # without a hint it takes bf16 wherever the CPU has it
    return {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }


def _onnx_bytes(module: nn.Module, x: Tensor) -> bytes:
    """An ONNX model for inputs of exactly this shape."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # the quick exporter is announced as deprecated; the other takes seconds a layer
        torch.onnx.export(module, (x,), buffer, dynamo=False)  # type: ignore[arg-type]  # a file will do
    return buffer.getvalue()


def onnx_forward(path: Path) -> Forward:
    """The network of an ONNX file, run by onnxruntime on as many threads as torch has.

    Raises:
        ValueError: the package is missing.
    """
    session = onnx_session(path.read_bytes())
    names = [entry.name for entry in session.get_inputs()]
    return lambda *given: _tensors(session.run(None, {n: x.numpy() for n, x in zip(names, given, strict=True)}))


def _tensors(arrays: Sequence[Any]) -> Tensor | list[Tensor]:
    made = [torch.from_numpy(array.copy()) for array in arrays]
    return made[0] if len(made) == 1 else made


def onnx_session(model: bytes) -> Any:
    """An inference session of onnxruntime on the CPU, with as many threads as torch has.

    Raises:
        ValueError: the package is missing.
    """
    onnxruntime = require_package("onnxruntime", "onnx", ONNX)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry(ENDS_SPINNING, "1")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def openvino_forward(path: Path) -> Forward:
    """The network of an ONNX file, run by OpenVINO in fp32.

    Raises:
        ValueError: the package is missing.
    """
    model = _openvino_core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda *given: _tensors([*model([x.numpy() for x in given]).values()])


@cache
def _openvino_core() -> Any:
    """OpenVINO's one core of this process.

    Each core that comes gives the thread a signal stack of its own, and gives back the one it found when it goes. Where
    two do not go in the opposite order of coming, the stack of one that is gone stays in use, and the next signal
    overwrites whatever lies there by then.
    """
    return require_package("openvino", "openvino", ONNX).Core()
