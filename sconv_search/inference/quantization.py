"""ONNX files in int8, with ranges that the activations have on calibration inputs."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sconv_search.inference.export import export_onnx, keyed
from sconv_search.inference.runtimes import ONNX, onnx_forward, onnx_session
from sconv_search.system.files import atomic_write
from sconv_search.system.packages import require_package

CALIBRATION_BATCH = 64


def export_int8(
    network: nn.Module, example: Tensor, inputs: Tensor, path: Path, metadata: Mapping[str, str]
) -> tuple[dict[str, float], float]:
    """Writes an ONNX file in int8, with a scale a filter and weights of 7 bits, which no CPU's instructions saturate.

    Args:
        inputs: (N, ...), as the network reads them; some hundreds of training images do.

    Returns:
        The parity of the float file that it was made from, and the share of the inputs that get the same class from
        both.

    Raises:
        ValueError: as ``export_onnx``.
        RuntimeError: as ``export_onnx``.
    """
    onnx = require_package("onnx", "onnx", ONNX)
    with TemporaryDirectory() as folder:
        given, written = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        parities = export_onnx(network, example, given, metadata)
        quantize_onnx(given, inputs, written, weight_bits=7)
        model = onnx.load(written)
        onnx.helper.set_model_props(model, keyed(metadata))
        onnx.save(model, written)
        same = (_classes(written, inputs) == _classes(given, inputs)).float().mean()
        with atomic_write(path) as partial:
            shutil.copyfile(written, partial)
    return parities, float(same)


def _classes(path: Path, inputs: Tensor) -> Tensor:
    """The likeliest classes (N, ...) that an ONNX file gives; of one logit whether it is above 0."""
    forward = onnx_forward(path)
    logits = torch.cat([forward(part) for part in inputs.split(CALIBRATION_BATCH)])
    return logits[:, 0] > 0 if logits.shape[1] == 1 else logits.argmax(1)


def quantize_onnx(
    path: Path, inputs: Tensor, target: Path, *, per_channel: bool = True, weight_bits: Literal[7, 8] = 8
) -> None:
    """Writes a float ONNX file again in int8: weights symmetric, activations by the ranges that they have on the
    inputs.

    Batch norms are folded first. Operators that onnxruntime has no integer form of stay in float.

    Args:
        inputs: (N, ...), as the network reads them; some hundreds of training images do.
        per_channel: whether each filter has a scale of its own, or all filters of a layer one.
        weight_bits: 7 for CPUs without VNNI instructions, whose sums of two products of 8 bits saturate.

    Raises:
        ValueError: a package is missing.
    """
    quantization = require_package("onnxruntime.quantization", "onnx", ONNX)
    shapes = require_package("onnxruntime.quantization.shape_inference", "onnx", ONNX)
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prepared = Path(folder) / "prepared.onnx"
        shapes.quant_pre_process(path, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared,
            target,
            _Batches(onnx_session(path.read_bytes()).get_inputs()[0].name, inputs),
            per_channel=per_channel,
            reduce_range=weight_bits == 7,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )


class _Batches:
    """What onnxruntime calibrates with: an iterator by another name."""

    def __init__(self, name: str, inputs: Tensor) -> None:
        self._parts = ({name: part.numpy()} for part in inputs.split(CALIBRATION_BATCH))

    def get_next(self) -> dict[str, Any] | None:
        return next(self._parts, None)
