"""Networks as ONNX files and ``torch.export`` archives, run again from the file before it is kept.

The only user of onnxruntime and OpenVINO. Files take batches of any size, and carry texts that say what they are.
"""

from __future__ import annotations

import copy
import importlib.util
import io
import json
import os
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor, nn

PARITY_TOLERANCE = 1e-3
CHECKED_BATCHES = (1, 5)
CALIBRATION_BATCH = 64
METADATA = "sconv_search.json"
"""Name of the metadata in a ``torch.export`` archive; the keys of an ONNX file's begin with ``sconv_search.``."""
ENDS_SPINNING = "session.force_spinning_stop"
"""Ends the busy waiting of a session's threads with its run: where several are timed in turn they would hinder one another."""
Forward = Callable[[Tensor], Tensor]


def export_onnx(network: nn.Module, example: Tensor, path: Path, metadata: Mapping[str, str]) -> dict[str, float]:
    """Writes an ONNX file; returns its parity by onnxruntime, and by OpenVINO where that is installed.

    Parity is the largest difference to the network's outputs on random inputs, over the largest output. The file appears
    only after the check.

    Args:
        network: in evaluation mode, on the CPU; its forward takes one tensor and gives one.
        example: (N, ...) with N of 2 or more.

    Raises:
        ValueError: a package is missing, or the network cannot be exported for all batch sizes.
        RuntimeError: the file does not compute what the network does.
    """
    _package("onnxscript")
    program = torch.onnx.export(
        _exported(network, example), dynamo=True, verbose=False, input_names=["input"], output_names=["output"]
    )
    assert program is not None
    program.model.metadata_props.update(_keyed(metadata))
    runtimes = {"onnxruntime": onnx_forward}
    if importlib.util.find_spec("openvino") is not None:
        runtimes["openvino"] = _openvino
    return _kept(network, example, path, lambda partial: program.save(partial), runtimes)


def export_program(network: nn.Module, example: Tensor, path: Path, metadata: Mapping[str, str]) -> dict[str, float]:
    """Writes a ``torch.export`` archive; returns its parity after reloading, as ``export_onnx`` does.

    The metadata are one JSON object, the extra file ``sconv_search.json`` of ``torch.export.load``.

    Raises:
        ValueError: the network cannot be exported for all batch sizes.
        RuntimeError: the file does not compute what the network does.
    """
    program, texts = _exported(network, example), {METADATA: json.dumps(dict(metadata))}
    reloaded = {"torch.export": lambda partial: torch.export.load(partial).module()}
    return _kept(network, example, path, lambda partial: torch.export.save(program, partial, extra_files=texts), reloaded)


def parity(network: Forward, other: Forward, example: Tensor) -> float:
    """The largest difference of two networks' outputs over the largest output, on random inputs like the example."""
    generator, worst = torch.Generator().manual_seed(0), 0.0
    with torch.no_grad():
        for batch in CHECKED_BATCHES:
            x = torch.randn(batch, *example.shape[1:], generator=generator)
            wanted = network(x)
            worst = max(worst, float((other(x) - wanted).abs().max() / wanted.abs().max().clamp_min(1e-30)))
    return worst


def onnx_run(module: nn.Module, x: Tensor) -> Callable[[], object]:
    """One forward of a module by onnxruntime, with as many threads as torch has; for timing."""
    session, given = _session(_onnx_bytes(module, x)), x.contiguous().numpy()
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: given})


def openvino_run(module: nn.Module, x: Tensor) -> Callable[[], object]:
    """One forward of a module by OpenVINO, with as many threads as torch has; for timing.

    Args:
        x: in fp32, in which it then computes strictly, or in bf16, in which the layers compute; inputs and outputs are fp32.

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
        warnings.simplefilter("ignore")  # the quick exporter is announced as deprecated; the other takes seconds a layer
        torch.onnx.export(module, (x,), buffer, dynamo=False)  # type: ignore[arg-type]  # a file will do
    return buffer.getvalue()


def export_int8(
    network: nn.Module, example: Tensor, inputs: Tensor, path: Path, metadata: Mapping[str, str]
) -> tuple[dict[str, float], float]:
    """Writes an ONNX file in int8, with a scale a filter and weights of 7 bits, which no CPU's instructions saturate.

    Args:
        inputs: (N, ...), as the network reads them; some hundreds of training images do.

    Returns:
        The parity of the float file that it was made from, and the share of the inputs that get the same class from both.

    Raises:
        ValueError: as ``export_onnx``.
        RuntimeError: as ``export_onnx``.
    """
    onnx = _package("onnx")
    with TemporaryDirectory() as folder:
        given, written = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        found = export_onnx(network, example, given, metadata)
        quantize_onnx(given, inputs, written, weight_bits=7)
        model = onnx.load(written)
        onnx.helper.set_model_props(model, _keyed(metadata))
        onnx.save(model, written)
        same = (_classes(written, inputs) == _classes(given, inputs)).float().mean()
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.stem}.partial{path.suffix}")
        try:
            partial.write_bytes(written.read_bytes())
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    return found, float(same)


def _classes(path: Path, inputs: Tensor) -> Tensor:
    """The likeliest classes (N, ...) that an ONNX file gives."""
    forward = onnx_forward(path)
    return torch.cat([forward(part).argmax(1) for part in inputs.split(CALIBRATION_BATCH)])


def _keyed(metadata: Mapping[str, str]) -> dict[str, str]:
    """Metadata under keys that tell whose they are."""
    return {f"sconv_search.{key}": text for key, text in metadata.items()}


def quantize_onnx(
    path: Path, inputs: Tensor, target: Path, *, per_channel: bool = True, weight_bits: Literal[7, 8] = 8
) -> None:
    """Writes a float ONNX file again in int8: weights symmetric, activations by the ranges that they have on the inputs.

    Batch norms are folded first. Operators that onnxruntime has no integer form of stay in float.

    Args:
        inputs: (N, ...), as the network reads them; some hundreds of training images do.
        per_channel: whether each filter has a scale of its own, or all filters of a layer one.
        weight_bits: 7 for CPUs without VNNI instructions, whose sums of two products of 8 bits saturate.

    Raises:
        ValueError: a package is missing.
    """
    quantization = _package("onnxruntime.quantization")
    shapes = _package("onnxruntime.quantization.shape_inference")
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prepared = Path(folder) / "prepared.onnx"
        shapes.quant_pre_process(path, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared, target, _Batches(_session(path.read_bytes()).get_inputs()[0].name, inputs),
            per_channel=per_channel, reduce_range=weight_bits == 7,
            activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8,
        )  # fmt: skip


class _Batches:
    """What onnxruntime calibrates with: an iterator by another name."""

    def __init__(self, name: str, inputs: Tensor) -> None:
        self._parts = ({name: part.numpy()} for part in inputs.split(CALIBRATION_BATCH))

    def get_next(self) -> dict[str, Any] | None:
        return next(self._parts, None)


def onnx_forward(path: Path) -> Forward:
    """The network of an ONNX file, run by onnxruntime on as many threads as torch has.

    Raises:
        ValueError: the package is missing.
    """
    session = _session(path.read_bytes())
    name = session.get_inputs()[0].name
    return lambda x: torch.from_numpy(session.run(None, {name: x.numpy()})[0])


def _exported(network: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    try:
        return torch.export.export(network, (example,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
    except Exception as error:  # of many kinds, from the tracer or the user's own forward
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"{type(network).__name__} cannot be exported for batches of any size: {reason}") from error


def _kept(
    network: nn.Module,
    example: Tensor,
    path: Path,
    write: Callable[[Path], object],
    runtimes: Mapping[str, Callable[[Path], Forward]],
) -> dict[str, float]:
    """Writes, runs again, compares; the file gets its name at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.stem}.partial{path.suffix}")
    try:
        write(partial)
        found = {name: parity(network, load(partial), example) for name, load in runtimes.items()}
        require_parity(found)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return found


def require_parity(found: Mapping[str, float]) -> None:
    """Refuses a file that does not compute what the network does.

    Raises:
        RuntimeError: runtime and difference are named.
    """
    for name, difference in found.items():
        if not difference <= PARITY_TOLERANCE:
            raise RuntimeError(
                f"by {name} the exported network differs by {difference:.1e} of its largest output, more than "
                f"{PARITY_TOLERANCE:.0e}; nothing is written"
            )


def _session(model: bytes) -> Any:
    onnxruntime = _package("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry(ENDS_SPINNING, "1")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _openvino(path: Path) -> Forward:
    model = _openvino_core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda x: torch.from_numpy(model([x.numpy()])[0].copy())


@cache
def _openvino_core() -> Any:
    """OpenVINO's one core of this process.

    Each core that comes gives the thread a signal stack of its own, and gives back the one it found when it goes. Where two
    do not go in the opposite order of coming, the stack of one that is gone stays in use, and the next signal overwrites
    whatever lies there by then.
    """
    return _package("openvino").Core()


def _package(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        needed = f"ONNX files need the package {name}, which is not installed"
        raise ValueError(f"{needed}; pip install 'sconv-search[onnx]'") from error
